"""A Hub for a test, and a client inside the test's process that knows it."""

from __future__ import annotations

import os
import time
from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub import constants
from huggingface_hub.utils import _http

from tests.hub.contents import User
from tests.hub.environment import TOKEN, XET_PATIENCE
from tests.hub.server import Hub

os.environ.update(XET_PATIENCE, NO_PROXY="127.0.0.1,localhost")


@pytest.fixture(params=["lfs", "xet"])
def hub(request, tmp_path, monkeypatch):
    """A Hub where `TOKEN` is alice's, who is in the organization `lab`; the client in this process asks it.

    The client's own retries do not wait.
    """
    xet = request.param == "xet"
    hub = Hub(tmp_path / "hub", xet=xet)
    hub.add_user(TOKEN, User("alice", organizations=("lab",)))
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", not xet)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no token"))
    monkeypatch.setattr(_http, "time", SimpleNamespace(sleep=lambda seconds: None, time=time.time))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    huggingface_hub.close_session()
    yield hub
    hub.die()
    huggingface_hub.close_session()

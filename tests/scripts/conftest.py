"""Scripts that tests run in this process leave the progress bars of other tests as they are."""

import pytest


@pytest.fixture(autouse=True)
def _bars_stay(monkeypatch):
    monkeypatch.setattr("hf_distill.scripts.user_errors.quiet_libraries", lambda: None)

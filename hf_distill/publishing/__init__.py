"""Run records, model cards rendered from them, and publishing of students and labeled data sets on the Hub."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hf_distill.publishing.family import publish_family
    from hf_distill.publishing.hub import publish

_PUBLIC_NAMES = {"publish": "hf_distill.publishing.hub", "publish_family": "hf_distill.publishing.family"}

__all__ = ["publish", "publish_family"]


def __getattr__(name: str) -> object:
    if name not in _PUBLIC_NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC_NAMES[name]), name)

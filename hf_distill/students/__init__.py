"""Student models: the 24 published miniature BERTs, and new students with random, teacher or pretrained weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hf_distill.students.miniatures import MINIATURES

if TYPE_CHECKING:
    from hf_distill.students.create import create_student

__all__ = ["MINIATURES", "create_student"]


def __getattr__(name: str) -> object:
    if name != "create_student":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from hf_distill.students.create import create_student  # imports torch, which the list of miniatures does not need

    return create_student

"""Names of the data columns that hold teacher outputs."""

from __future__ import annotations

import re
from collections.abc import Iterable

TEACHER_LOGITS = "teacher_logits"
TEACHER_CLASSES = "teacher_classes"
TEACHER_POSITIONS = "teacher_positions"
TEACHER_PROVENANCE = "teacher_provenance"
TEMPLATE_LOGITS = (
    "template_logits"  # of each template of a prompted language model; for audits, no student learns from it
)

STATE_COLUMN = re.compile(r"teacher_(hidden|cls)_state_(\d+)")
CHECKPOINT_COLUMN = re.compile(rf"{TEACHER_LOGITS}_(\d+)")
_OTHER_COLUMNS = re.compile(rf"{TEACHER_LOGITS}|{TEACHER_CLASSES}|{TEACHER_POSITIONS}|{TEACHER_PROVENANCE}(_\d+)?")


def hidden_state_column(index: int) -> str:
    """Name of the column with a hidden state at every position, (sequence, hidden) per row; 0 is the embeddings' output."""
    return f"teacher_hidden_state_{index}"


def cls_state_column(index: int) -> str:
    """Name of the column with a hidden state at the first position, (hidden,) per row."""
    return f"teacher_cls_state_{index}"


def checkpoint_column(index: int, of: str = TEACHER_LOGITS) -> str:
    """Name of the column with the outputs of one of several checkpoints, counted from 0."""
    return f"{of}_{index}"


def precomputed_columns(names: Iterable[str]) -> list[str]:
    """The names among these of columns with precomputed teacher outputs."""
    return [
        name
        for name in names
        if any(kind.fullmatch(name) for kind in (_OTHER_COLUMNS, STATE_COLUMN, CHECKPOINT_COLUMN))
    ]


def has_teacher_logits(names: Iterable[str]) -> bool:
    """Whether columns of these names hold a teacher's logits."""
    return any(name == TEACHER_LOGITS or CHECKPOINT_COLUMN.fullmatch(name) for name in names)

"""What a trainer asks of a teacher."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from torch import Tensor


@dataclass(frozen=True)
class TeacherOutputs:
    """A teacher's outputs for one batch, without gradient.

    Attributes:
        logits: In the student's order of labels, at least single precision, (batch, classes).
    """

    logits: Tensor


@runtime_checkable
class Teacher(Protocol):
    """Anything that answers a batch of model inputs with its outputs."""

    def outputs(self, inputs: Mapping[str, Any]) -> TeacherOutputs:
        """The teacher's outputs for a batch of model inputs, labels already taken out."""
        ...

"""What a trainer asks of a teacher."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from hf_distill.objectives.model_outputs import Features


@dataclass(frozen=True)
class TeacherOutputs(Features):
    """A teacher's outputs for one batch, without gradient; logits in the student's order of labels.

    See `Features` for the shapes. A teacher that gives nothing but logits serves soft labels alone.
    """


@runtime_checkable
class Teacher(Protocol):
    """Anything that answers a batch of model inputs with its outputs."""

    def outputs(self, inputs: Mapping[str, Any]) -> TeacherOutputs:
        """The teacher's outputs for a batch of model inputs, labels already taken out."""
        ...

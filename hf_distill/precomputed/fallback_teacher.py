"""Precomputed teacher outputs where a batch has them, and a live teacher where it does not."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from hf_distill.objectives.model_outputs import FeatureRequest
from hf_distill.precomputed.columns import PrecomputedTeacher
from hf_distill.teachers.base import LiveTeacher, Teacher, TeacherOutputs
from hf_distill.teachers.column_names import TEACHER_CLASSES, TEACHER_LOGITS, hidden_state_column


class FallbackTeacher(Teacher):
    """Reads the outputs that a batch carries, if they are all that is compared; else a live teacher runs.

    Args:
        precomputed: The teacher that reads columns.
        live: The teacher that runs a forward pass.
    """

    def __init__(self, precomputed: PrecomputedTeacher, live: Teacher):
        self.precomputed, self._live = precomputed, live
        self._request, self._all_positions = FeatureRequest(), False

    @property
    def live(self) -> Teacher:
        """The teacher that runs a forward pass."""
        return self._live

    @property
    def members(self) -> tuple[LiveTeacher, ...]:
        """The live teacher's."""
        return self._live.members

    @property
    def member_weights(self) -> Sequence[float] | None:
        """The live teacher's."""
        return self._live.member_weights

    @property
    def config(self) -> Any:
        """The live teacher's."""
        return self._live.config

    @property
    def description(self) -> Mapping[str, Any] | None:
        """The live teacher's."""
        return self._live.description

    @property
    def input_names(self) -> Collection[str]:
        """The live teacher's."""
        return self._live.input_names

    @property
    def main_inputs(self) -> Collection[str]:
        """The live teacher's."""
        return self._live.main_inputs

    @property
    def has_hidden_states(self) -> bool:
        """The live teacher's."""
        return self._live.has_hidden_states

    @property
    def has_attention(self) -> bool:
        """The live teacher's."""
        return self._live.has_attention

    @property
    def can_pick_positions(self) -> bool:
        """The live teacher's."""
        return self._live.can_pick_positions

    def running_members(self, inputs: Mapping[str, Any]) -> tuple[LiveTeacher, ...]:
        """The live teacher's, unless the batch holds all that is compared."""
        return () if self._is_precomputed(inputs) else self._live.running_members(inputs)

    def _is_precomputed(self, inputs: Mapping[str, Any]) -> bool:
        if TEACHER_LOGITS not in inputs or (TEACHER_CLASSES in inputs and self._all_positions):
            return False
        states = self._request.hidden_states
        return not self._request.attention and all(hidden_state_column(index) in inputs for index in states)

    def outputs(self, inputs: Mapping[str, Any]) -> TeacherOutputs:
        """The columns of the batch, or the live teacher's outputs."""
        return (self.precomputed if self._is_precomputed(inputs) else self._live).outputs(inputs)

    def record(self, request: FeatureRequest, all_positions: bool = False) -> None:
        """See `Teacher.record`; what it asks for decides whether the columns suffice."""
        self._request, self._all_positions = request, all_positions
        self._live.record(request, all_positions)

    def resolve_dtype(self, inputs: Mapping[str, Any]) -> None:
        """Decide on the live teacher's precision."""
        self._live.resolve_dtype(inputs)

    def identity(self) -> Any:
        """The live teacher's."""
        return self._live.identity()

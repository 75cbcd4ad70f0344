"""Precomputed teacher outputs where a batch has them, and a live teacher where it does not."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from hf_distill.objectives.model_outputs import FeatureRequest
from hf_distill.precomputed.columns import PrecomputedTeacher
from hf_distill.teachers.base import LiveTeacher, Teacher, TeacherOutputs
from hf_distill.teachers.column_names import TEACHER_CLASSES, TEACHER_LOGITS, hidden_state_column


class FallbackTeacher(Teacher):
    """Reads precomputed outputs from the batch if it has all that is compared, else runs a live teacher.

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
        """The members of the live teacher."""
        return self._live.members

    @property
    def member_weights(self) -> Sequence[float] | None:
        """The weights of the live teacher's members."""
        return self._live.member_weights

    @property
    def config(self) -> Any:
        """The configuration of the live teacher."""
        return self._live.config

    @property
    def description(self) -> Mapping[str, Any] | None:
        """The description of the live teacher."""
        return self._live.description

    @property
    def input_names(self) -> Collection[str]:
        """The model inputs that the live teacher reads."""
        return self._live.input_names

    @property
    def main_inputs(self) -> Collection[str]:
        """The model inputs without which the live teacher has no outputs."""
        return self._live.main_inputs

    @property
    def has_hidden_states(self) -> bool:
        """Whether the live teacher can give hidden states."""
        return self._live.has_hidden_states

    @property
    def has_attention(self) -> bool:
        """Whether the live teacher can give queries, keys and values."""
        return self._live.has_attention

    @property
    def can_pick_positions(self) -> bool:
        """Whether the live teacher can compute logits at chosen positions alone."""
        return self._live.can_pick_positions

    def running_members(self, inputs: Mapping[str, Any]) -> tuple[LiveTeacher, ...]:
        """The live teacher's running members; none where the batch has all that is compared."""
        return () if self._is_precomputed(inputs) else self._live.running_members(inputs)

    def _is_precomputed(self, inputs: Mapping[str, Any]) -> bool:
        if TEACHER_LOGITS not in inputs or (TEACHER_CLASSES in inputs and self._all_positions):
            return False
        states = self._request.hidden_states
        return not self._request.attention and all(hidden_state_column(index) in inputs for index in states)

    def outputs(self, inputs: Mapping[str, Any]) -> TeacherOutputs:
        """The precomputed outputs in the batch, or the live teacher's outputs."""
        return (self.precomputed if self._is_precomputed(inputs) else self._live).outputs(inputs)

    def record(self, request: FeatureRequest, all_positions: bool = False) -> None:
        """Include these features in all further outputs, see `Teacher.record`; batches without them need the live teacher."""
        self._request, self._all_positions = request, all_positions
        self._live.record(request, all_positions)

    def resolve_dtype(self, inputs: Mapping[str, Any]) -> None:
        """Resolve the live teacher's precision."""
        self._live.resolve_dtype(inputs)

    def identity(self) -> Any:
        """The identity of the live teacher."""
        return self._live.identity()

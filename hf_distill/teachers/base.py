"""What trainers ask of a teacher: the protocol, with defaults under which anything with `outputs(inputs)` is one."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn

from hf_distill.fingerprints import weights_sha256
from hf_distill.objectives.model_outputs import FeatureRequest, Features


@dataclass(frozen=True)
class TeacherOutputs(Features):
    """A teacher's outputs for one batch, without gradient; logits in the student's order of labels.

    See `Features` for the shapes. A teacher that gives nothing but logits serves soft labels alone.
    """


@runtime_checkable
class GivesOutputs(Protocol):
    """The least a teacher must have; `as_teacher` makes a `Teacher` of it."""

    def outputs(self, inputs: Mapping[str, Any]) -> TeacherOutputs:
        """The outputs for a batch of model inputs without labels."""
        ...


class Teacher:
    """A source of teacher outputs.

    A subclass overrides `outputs`, and the other methods and properties as far as it can do more than their defaults say. Any
    other object with a method `outputs(inputs)` is accepted as a teacher too, and has these defaults.
    """

    @property
    def input_names(self) -> Collection[str]:
        """Names of the model inputs it reads, which data collators may not drop. Empty: not known."""
        return ()

    @property
    def main_inputs(self) -> Collection[str]:
        """Names of the model inputs without which it has no outputs."""
        return ()

    @property
    def config(self) -> Any:
        """Configuration of the model the outputs are from, as far as it is known. None: not known."""
        return None

    @property
    def description(self) -> Mapping[str, Any] | None:
        """What is known of that model, for run records, where there is no live model to describe."""
        return None

    @property
    def kind(self) -> str:
        """The name of its class, for messages."""
        return type(self).__name__

    @property
    def has_hidden_states(self) -> bool:
        """Whether it can give hidden states."""
        return False

    @property
    def has_attention(self) -> bool:
        """Whether it can give queries, keys and values."""
        return False

    @property
    def has_all_positions(self) -> bool:
        """Whether logits of a masked language model are there at every position, not at the masked ones alone."""
        return True

    @property
    def can_pick_positions(self) -> bool:
        """Whether its logits can be limited to the positions that an objective compares."""
        return False

    @property
    def members(self) -> tuple[LiveTeacher, ...]:
        """The live models that run forward passes: itself, those of an ensemble, or none."""
        return ()

    @property
    def member_weights(self) -> Sequence[float] | None:
        """Share of each member in the outputs. None: there is one member at most."""
        return None

    @property
    def live(self) -> Teacher | None:
        """The teacher of batches without precomputed outputs. None: there is none."""
        return self

    def outputs(self, inputs: Mapping[str, Any]) -> TeacherOutputs:
        """The outputs for a batch.

        Args:
            inputs: Model inputs without labels.

        Returns:
            Logits of the shapes in `Features`, and what `record` asked for.
        """
        raise NotImplementedError(f"{type(self).__name__} has no method outputs(inputs)")

    def provides(self, inputs: Mapping[str, Any]) -> bool:
        """Whether there are outputs for this batch."""
        return True

    def running_members(self, inputs: Mapping[str, Any]) -> tuple[LiveTeacher, ...]:
        """The members that run a forward pass for this batch."""
        return self.members

    def record(self, request: FeatureRequest, all_positions: bool = False) -> None:
        """Let all further outputs hold these features.

        Args:
            request: Hidden states, queries, keys and values that the objective compares.
            all_positions: Logits of masked language models are compared at every position.

        Raises:
            ValueError: It cannot give them.
        """

    def require_states(self, indices: Iterable[int], first_position_only: bool) -> None:
        """Refuse hidden states that it cannot give.

        Args:
            indices: Indices of hidden states, 0 for the embeddings' output.
            first_position_only: The first position's alone are compared.

        Raises:
            ValueError: Names those that are missing.
        """

    def resolve_dtype(self, inputs: Mapping[str, Any]) -> None:
        """Decide on a precision that was left open, by example inputs on its device."""

    def identity(self) -> Any:
        """What tells it from other teachers, as JSON; to be called on every process, each of which may hold a part."""
        return self.kind


class LiveTeacher(Teacher):
    """A teacher that is a model.

    Attributes:
        model: The model.
        input_prefix: What the names of its own inputs start with in a batch that also holds the student's.
    """

    model: nn.Module
    input_prefix: str = ""

    @property
    def config(self) -> Any:
        """The model's configuration."""
        return getattr(self.model, "config", None)

    @property
    def weights_sha256(self) -> str:
        """See `fingerprints.weights_sha256`."""
        return weights_sha256(self.model)

    @property
    def dtype(self) -> torch.dtype:
        """The precision it computes in."""
        return next(self.model.parameters()).dtype

    @property
    def members(self) -> tuple[LiveTeacher, ...]:
        """Itself."""
        return (self,)


class _Adapted(Teacher):
    """A teacher made of an object that has `outputs` and perhaps some of the attributes of `Teacher`."""

    def __init__(self, source: GivesOutputs):
        self._source = source

    @property
    def input_names(self) -> Collection[str]:
        """The object's own, if it has any."""
        return getattr(self._source, "input_names", ())

    @property
    def main_inputs(self) -> Collection[str]:
        """The object's own, if it has any."""
        return getattr(self._source, "main_inputs", ())

    @property
    def config(self) -> Any:
        """The object's own, if it has one."""
        return getattr(self._source, "config", None)

    def resolve_dtype(self, inputs: Mapping[str, Any]) -> None:
        """The object's own way, if it has one."""
        getattr(self._source, "resolve_dtype", super().resolve_dtype)(inputs)

    def outputs(self, inputs: Mapping[str, Any]) -> TeacherOutputs:
        """The outputs of the object."""
        return self._source.outputs(inputs)

    @property
    def kind(self) -> str:
        """The name of the object's class."""
        return type(self._source).__name__


def as_teacher(source: GivesOutputs) -> Teacher:
    """A `Teacher` as it is; any other object with `outputs(inputs)` with the defaults of one."""
    return source if isinstance(source, Teacher) else _Adapted(source)

"""The protocol of teachers; its defaults make a teacher of any object with a method `outputs(inputs)`."""

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

    See `Features` for the shapes. A teacher that returns logits alone supports soft labels only.
    """


@runtime_checkable
class GivesOutputs(Protocol):
    """The minimum interface of a teacher; `as_teacher` makes a `Teacher` of it."""

    def outputs(self, inputs: Mapping[str, Any]) -> TeacherOutputs:
        """The outputs for a batch of model inputs without labels."""
        ...


class Teacher:
    """A source of teacher outputs.

    A subclass overrides `outputs`, and the other methods and properties where it supports more than their defaults. Any
    other object with a method `outputs(inputs)` is accepted as a teacher too, with these defaults.
    """

    @property
    def input_names(self) -> Collection[str]:
        """Names of the model inputs it reads, which data collators may not drop. Empty: unknown."""
        return ()

    @property
    def main_inputs(self) -> Collection[str]:
        """Names of the model inputs without which it has no outputs."""
        return ()

    @property
    def config(self) -> Any:
        """Configuration of the model that computes the outputs, as far as it is known. None: unknown."""
        return None

    @property
    def description(self) -> Mapping[str, Any] | None:
        """Description of that model for run records. None: it is unknown, or the live model itself is described."""
        return None

    @property
    def kind(self) -> str:
        """The name of its class, for error messages."""
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
        """Whether logits of a masked language model cover every position, not the masked positions alone."""
        return True

    @property
    def can_pick_positions(self) -> bool:
        """Whether it can compute logits at the positions that an objective compares alone."""
        return False

    @property
    def members(self) -> tuple[LiveTeacher, ...]:
        """The live models that run forward passes: the teacher itself, the members of an ensemble, or none."""
        return ()

    @property
    def member_weights(self) -> Sequence[float] | None:
        """Weight of each member in the mean of their outputs. None: there is one member at most."""
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
            Logits with the shapes of `Features`, and the features that `record` requested.
        """
        raise NotImplementedError(f"{type(self).__name__} has no method outputs(inputs)")

    def provides(self, inputs: Mapping[str, Any]) -> bool:
        """Whether there are outputs for this batch."""
        return True

    def running_members(self, inputs: Mapping[str, Any]) -> tuple[LiveTeacher, ...]:
        """The members that run a forward pass for this batch."""
        return self.members

    def record(self, request: FeatureRequest, all_positions: bool = False) -> None:
        """Include these features in all further outputs.

        Args:
            request: Hidden states, queries, keys and values that the objective compares.
            all_positions: Whether logits of masked language models are compared at every position.

        Raises:
            ValueError: The teacher cannot provide them.
        """

    def require_states(self, indices: Iterable[int], first_position_only: bool) -> None:
        """Refuse hidden states that the teacher cannot provide.

        Args:
            indices: Indices of hidden states, 0 for the embeddings' output.
            first_position_only: Whether those of the first position alone are compared.

        Raises:
            ValueError: Some are missing; names them.
        """

    def resolve_dtype(self, inputs: Mapping[str, Any]) -> None:
        """Choose a precision that was left open (`dtype="auto"`) by its outputs for example inputs on its device."""

    def identity(self) -> Any:
        """What distinguishes it from other teachers, as JSON; called on every process, each of which may hold a shard."""
        return self.kind


class LiveTeacher(Teacher):
    """A teacher that is a model.

    Attributes:
        model: The model.
        input_prefix: Prefix of its own inputs' names in a batch that also holds the student's. "": it reads the student's.
    """

    model: nn.Module
    input_prefix: str = ""

    @property
    def config(self) -> Any:
        """The model's configuration."""
        return getattr(self.model, "config", None)

    @property
    def weights_sha256(self) -> str:
        """Fingerprint of the weights, see `fingerprints.weights_sha256`."""
        return weights_sha256(self.model)

    @property
    def dtype(self) -> torch.dtype:
        """The data type of its weights."""
        return next(self.model.parameters()).dtype

    @property
    def members(self) -> tuple[LiveTeacher, ...]:
        """The teacher itself."""
        return (self,)


class _Adapted(Teacher):
    """A teacher made of an object that has `outputs` and perhaps some of the attributes of `Teacher`."""

    def __init__(self, source: GivesOutputs):
        self._source = source

    @property
    def input_names(self) -> Collection[str]:
        """The object's `input_names`, if it has any."""
        return getattr(self._source, "input_names", ())

    @property
    def main_inputs(self) -> Collection[str]:
        """The object's `main_inputs`, if it has any."""
        return getattr(self._source, "main_inputs", ())

    @property
    def config(self) -> Any:
        """The object's `config`, if it has one."""
        return getattr(self._source, "config", None)

    def resolve_dtype(self, inputs: Mapping[str, Any]) -> None:
        """Call the object's `resolve_dtype`, if it has one."""
        getattr(self._source, "resolve_dtype", super().resolve_dtype)(inputs)

    def outputs(self, inputs: Mapping[str, Any]) -> TeacherOutputs:
        """The outputs of the object."""
        return self._source.outputs(inputs)

    @property
    def kind(self) -> str:
        """The name of the object's class."""
        return type(self._source).__name__


def as_teacher(source: GivesOutputs) -> Teacher:
    """A `Teacher` unchanged; any other object with `outputs(inputs)` wrapped with the defaults of `Teacher`."""
    return source if isinstance(source, Teacher) else _Adapted(source)

"""What the terms of an objective look at: the outputs of student and teacher for one micro-batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class FeatureRequest:
    """What a forward pass must leave behind besides the logits.

    Attributes:
        hidden_states: Indices; 0 is the embeddings' output, i the output of layer i (counted from 1).
        attention: Layers, counted from 0, whose queries, keys and values are wanted.
    """

    hidden_states: frozenset[int] = frozenset()
    attention: frozenset[int] = frozenset()

    def __or__(self, other: FeatureRequest) -> FeatureRequest:
        return FeatureRequest(self.hidden_states | other.hidden_states, self.attention | other.attention)

    def __bool__(self) -> bool:
        return bool(self.hidden_states or self.attention)


@dataclass(frozen=True)
class TopClasses:
    """A teacher's distributions at chosen positions, cut to a few classes and one bucket for the rest.

    Attributes:
        positions: (batch, items); where a row has fewer items than the batch's longest, filled up with -1.
        classes: (batch, items, k).
        log_probabilities: Of these classes and of all others together, (batch, items, k + 1).
    """

    positions: Tensor
    classes: Tensor
    log_probabilities: Tensor

    @property
    def real(self) -> Tensor:
        """Items that are no filling, bool (batch, items)."""
        return self.positions >= 0

    def at_positions(self, logits: Tensor) -> Tensor:
        """The part of a model's logits that is compared with these.

        Args:
            logits: (batch, sequence, classes), or already (real items, classes).

        Returns:
            (real items, classes).
        """
        if logits.dim() == 2:
            return logits
        rows = self.real.nonzero()[:, 0]
        return logits[rows, self.positions[self.real].long()]


@dataclass(frozen=True)
class Features:
    """What one model's forward left.

    Attributes:
        logits: (batch, classes); (batch, sequence, classes) for token tasks; (batch, 2, sequence) for the start and
            end of an answer; (items, vocabulary) where a masked-language-model head ran at the masked positions only.
        hidden_states: By index (0 is the embeddings' output), (batch, sequence, hidden).
        queries: By layer, from 0, (batch, heads, sequence, head size), scaled so that attention scores are
            Q Kᵀ / √(head size).
        keys: By layer, (batch, key heads, sequence, head size).
        values: By layer, (batch, key heads, sequence, head size).
        top: In place of logits, the distributions of a recorded teacher of masked words; of no live model.
    """

    logits: Tensor | None
    hidden_states: Mapping[int, Tensor] = field(default_factory=dict)
    queries: Mapping[int, Tensor] = field(default_factory=dict)
    keys: Mapping[int, Tensor] = field(default_factory=dict)
    values: Mapping[int, Tensor] = field(default_factory=dict)
    top: TopClasses | None = None


@dataclass(frozen=True)
class ModelOutputs:
    """What one micro-batch gives the terms to work with.

    Attributes:
        student: The student's outputs.
        teacher: The teacher's; None without a teacher.
        hard_label_loss: The student's own loss on the labels, its mean over the labels of this micro-batch, scalar;
            None where the labels were not asked for.
        valid: The positions that are no padding, bool (batch, sequence); None where all are.
        inputs: The micro-batch's model inputs, labels among them where it has any.
    """

    student: Features
    teacher: Features | None = None
    hard_label_loss: Tensor | None = None
    valid: Tensor | None = None
    inputs: Mapping[str, Any] = field(default_factory=dict)

"""The inputs of an objective's terms: the outputs of student and teacher for one micro-batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class FeatureRequest:
    """The features of a forward pass that are to be captured besides the logits.

    Attributes:
        hidden_states: Indices of hidden states; 0 is the embeddings' output, i the output of layer i (counted from 1).
        attention: Layers, counted from 0, whose queries, keys and values are captured.
        embedding: Whether the sentence embedding is captured, projected to the teacher's width where widths differ.
    """

    hidden_states: frozenset[int] = frozenset()
    attention: frozenset[int] = frozenset()
    embedding: bool = False

    def __or__(self, other: FeatureRequest) -> FeatureRequest:
        return FeatureRequest(
            self.hidden_states | other.hidden_states,
            self.attention | other.attention,
            self.embedding or other.embedding,
        )

    def __bool__(self) -> bool:
        return bool(self.hidden_states or self.attention or self.embedding)


@dataclass(frozen=True)
class TopClasses:
    """A teacher's distributions at chosen positions, truncated to k classes and one bucket for all others.

    Attributes:
        positions: Positions in the sequence, (batch, items); rows with fewer items than others are padded with -1.
        classes: Class indices, (batch, items, k).
        log_probabilities: Log-probabilities of these classes and of all others together, (batch, items, k + 1).
    """

    positions: Tensor
    classes: Tensor
    log_probabilities: Tensor

    @property
    def real(self) -> Tensor:
        """The items that are not padding, bool (batch, items)."""
        return self.positions >= 0

    def at_positions(self, logits: Tensor) -> Tensor:
        """A model's logits at these positions.

        Args:
            logits: The model's logits, (batch, sequence, classes), or already at these positions, (real items,
                classes).

        Returns:
            The logits of the items that are not padding, (real items, classes).
        """
        if logits.dim() == 2:
            return logits
        rows = self.real.nonzero()[:, 0]
        return logits[rows, self.positions[self.real].long()]


@dataclass(frozen=True)
class Features:
    """The logits and captured features of one model's forward pass.

    Attributes:
        logits: The model's logits: (batch, classes); (batch, sequence, classes) for token tasks; (batch, 2, sequence)
            for the start and end of an answer; (items, vocabulary) where a masked-language-model head ran at the masked
            positions only.
        hidden_states: Hidden states by index (0 is the embeddings' output), each (batch, sequence, hidden).
        queries: Query vectors by layer, counted from 0, each (batch, heads, sequence, head size), scaled so that
            attention scores are Q Kᵀ / √(head size).
        keys: Key vectors by layer, counted from 0, each (batch, key heads, sequence, head size).
        values: Value vectors by layer, counted from 0, each (batch, key heads, sequence, head size).
        top: The truncated distributions of a precomputed masked-language-model teacher, which has no logits. None
            for every other model.
        embedding: The sentence embedding, projected to the teacher's width where widths differ, (batch, teacher hidden).
            None: it was not captured.
    """

    logits: Tensor | None
    hidden_states: Mapping[int, Tensor] = field(default_factory=dict)
    queries: Mapping[int, Tensor] = field(default_factory=dict)
    keys: Mapping[int, Tensor] = field(default_factory=dict)
    values: Mapping[int, Tensor] = field(default_factory=dict)
    top: TopClasses | None = None
    embedding: Tensor | None = None

    def require_logits(self) -> Tensor:
        """The logits, which are there unless `top` stands in for them."""
        assert self.logits is not None, "there are no logits, only truncated distributions"
        return self.logits


@dataclass(frozen=True)
class ModelOutputs:
    """The outputs of student and teacher for one micro-batch, with the inputs they belong to.

    Attributes:
        student: The student's outputs.
        teacher: The teacher's outputs. None: there is no teacher.
        hard_label_loss: The student's loss on the labels, averaged over the labels of this micro-batch, scalar. None:
            it was not computed.
        valid: True at positions that are not padding, bool (batch, sequence). None: there is no padding.
        inputs: The micro-batch's model inputs, with labels if it has any.
    """

    student: Features
    teacher: Features | None = None
    hard_label_loss: Tensor | None = None
    valid: Tensor | None = None
    inputs: Mapping[str, Any] = field(default_factory=dict)

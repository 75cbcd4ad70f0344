"""FLOPs of a pass through a model, as a function of the batch's shape."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Cost:
    """The FLOPs of a pass, by what they are proportional to.

    Attributes:
        per_batch: FLOPs of every batch, whatever its shape.
        per_sequence: FLOPs for each sequence or image.
        per_token: FLOPs for each position, padding included.
        per_pair: FLOPs for each pair of positions of a sequence.
        per_prediction: FLOPs for each position at which a language-model head runs.
    """

    per_batch: float = 0
    per_sequence: float = 0
    per_token: float = 0
    per_pair: float = 0
    per_prediction: float = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(self)))

    def __mul__(self, factor: float) -> Cost:
        return Cost(*(factor * getattr(self, each.name) for each in fields(self)))

    def of(self, sequences: int, length: int, predictions: int | None = None) -> float:
        """The FLOPs of one batch.

        Args:
            sequences: Number of sequences or images in the batch.
            length: Tokens per sequence, padding included; for a ViT `vit_length`.
            predictions: Number of positions at which a language-model head runs. None: all.

        Returns:
            FLOPs.
        """
        tokens = sequences * length
        body = (
            self.per_batch + self.per_sequence * sequences + self.per_token * tokens + self.per_pair * tokens * length
        )
        return body + self.per_prediction * (tokens if predictions is None else predictions)


@dataclass(frozen=True)
class BatchFlops:
    """The FLOPs of a batch.

    Attributes:
        real: FLOPs that the sequences without padding would take.
        padding: Additional FLOPs because of padding.
    """

    real: float
    padding: float

    @property
    def computed(self) -> float:
        """All FLOPs of the batch, padding included."""
        return self.real + self.padding

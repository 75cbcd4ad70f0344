"""Options of labeling a transfer set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

_DTYPES = ("float32", "float16")
_FIRST_ROWS, _FIRST_SHARE = (32, 128), 16
_ROWS_ON_CPU, _ROWS = 32, 128


@dataclass(frozen=True)
class LabelingOptions:
    """How the teacher is run, and which of its outputs are stored.

    Attributes:
        batch_size: Rows per forward pass, all of similar length. None: 32 on a CPU, whose caches hold no more, 128 on other
            devices.
        dtype: The precision that outputs are stored in, "float32" or "float16".
        hidden_states: Indices of hidden states stored at every position; 0 is the embeddings' output.
        cls_states: Indices of hidden states stored at the first position.
        top_k: Entries of the vocabulary stored per masked token.
        sampled: Draw these entries instead of storing the most probable, so that gradients are unbiased
            (`sampled_classes`).
        temperature: The temperature of the distributions at masked tokens; training must have the same.
        mask_epochs: Passes over the transfer set, each with other masks; the result has as many times its rows.
        seed: The seed of masks and draws.
        rows_per_shard: Rows per file, and the most rows in memory.
        text_columns: The columns that the inputs were made of. None: those that hold strings.
        max_length: The length in tokens that texts were cut to. None: that of the longest row, where it is known.

    Raises:
        ValueError: A value is not allowed.
    """

    batch_size: int | None = None
    dtype: str = "float32"
    hidden_states: Sequence[int] = ()
    cls_states: Sequence[int] = ()
    top_k: int = 64
    sampled: bool = False
    temperature: float = 1.0
    mask_epochs: int = 1
    seed: int = 0
    rows_per_shard: int = 4096
    text_columns: Sequence[str] | None = None
    max_length: int | None = None

    def __post_init__(self) -> None:
        if self.dtype not in _DTYPES:
            raise ValueError(f"dtype must be one of {list(_DTYPES)}, got {self.dtype!r}")
        for name in ("batch_size", "top_k", "mask_epochs", "rows_per_shard"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if not self.temperature > 0:
            raise ValueError(f"temperature must be above 0, got {self.temperature}")
        if wrong := [index for index in (*self.hidden_states, *self.cls_states) if index < 0]:
            raise ValueError(f"hidden states are counted from 0, got {wrong}")

    def rows_per_batch(self, device: torch.device) -> int:
        """Rows per forward pass on a device."""
        return self.batch_size or (_ROWS_ON_CPU if device.type == "cpu" else _ROWS)

    def first_rows(self, rows: int) -> int:
        """On how many of the first rows the teacher's precision is resolved.

        One batch, where its size is set; else a sixteenth, so that it takes a small part of the time, but 32 to 128.

        Args:
            rows: The number of rows.

        Returns:
            The number of the first ones.
        """
        fewest, most = _FIRST_ROWS
        return min(self.batch_size or min(most, max(fewest, rows // _FIRST_SHARE)), rows)

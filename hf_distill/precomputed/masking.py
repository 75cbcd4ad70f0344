"""Fixed masks: which tokens of a row are masked depends on the row's index, the epoch and a seed alone."""

from __future__ import annotations

import copy
import hashlib

import datasets
import torch
from torch import Tensor
from transformers import DataCollatorForLanguageModeling


class FixedMasks:
    """Masks tokens as transformers' collator does, the same ones whenever a row is read.

    Args:
        collator: The collator, which says how many tokens are masked, and what replaces them.
        seed: The seed of the masks, and of other random numbers per row.

    Raises:
        ValueError: The collator masks nothing.
    """

    def __init__(self, collator: DataCollatorForLanguageModeling, seed: int):
        if not collator.mlm:
            raise ValueError("a masked-language model needs DataCollatorForLanguageModeling(mlm=True), got mlm=False")
        self._collator, self._seed = copy.copy(collator), seed

    def mask(self, rows: datasets.Dataset, epoch: int, first_row: int) -> datasets.Dataset:
        """Mask tokens in `input_ids`, and set `labels` to the tokens that were masked.

        Args:
            rows: Tokenized rows; labels that they have are replaced.
            epoch: The epoch, counted from 0; each has other masks.
            first_row: The index in the transfer set of the first of the rows.

        Returns:
            The rows with masked `input_ids`, and `labels` that are -100 at all other positions.

        Raises:
            ValueError: The collator masks whole words, and the rows do not say where words begin.
        """
        if self._collator.whole_word_mask and "offset_mapping" not in rows.column_names:
            raise ValueError(f"whole_word_mask needs a column offset_mapping, the rows have {rows.column_names}")
        input_ids, labels = [], []
        extras = [name for name in ("special_tokens_mask", "offset_mapping") if name in rows.column_names]
        for number, row in enumerate(rows.select_columns(["input_ids", *extras]).with_format(None), start=first_row):
            self._collator.generator = self._generator("mask", epoch, number)
            given = {name: torch.tensor([row[name]]) for name in extras}
            masked, targets = self._collator.torch_mask_tokens(torch.tensor([row["input_ids"]]), **given)
            input_ids.append(masked[0].tolist())
            labels.append(targets[0].tolist())
        feature = rows.features["input_ids"]
        replaced = rows.remove_columns([name for name in ("input_ids", "labels") if name in rows.column_names])
        return replaced.add_column("input_ids", input_ids, feature=feature).add_column(
            "labels", labels, feature=datasets.List(datasets.Value("int64"))
        )

    def draws(self, epoch: int, row: int, items: int, k: int) -> Tensor:
        """Random numbers in [0, 1) for a row's masked tokens, (items, k)."""
        return torch.rand(items, k, generator=self._generator("draw", epoch, row), dtype=torch.float64)

    def _generator(self, purpose: str, epoch: int, row: int) -> torch.Generator:
        digest = hashlib.sha256(f"{purpose} {self._seed} {epoch} {row}".encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little"))

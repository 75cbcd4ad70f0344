"""A transfer set as blocks of so many rows, whether it lies on disk or streams past."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import datasets
import pyarrow as pa

from hf_distill.data.length_bucket_sampler import example_lengths


@dataclass(frozen=True)
class RowBlock:
    """Rows that follow each other.

    Attributes:
        index: Of the block, over all epochs.
        epoch: The transfer set comes once an epoch.
        first_row: Number of the first of the rows in the transfer set.
        rows: Themselves.
    """

    index: int
    epoch: int
    first_row: int
    rows: datasets.Dataset

    @property
    def table(self) -> pa.Table:
        """The rows as they are stored, without what a transform makes of them."""
        return self.rows.with_format("arrow")[:]


class RowBlocks:
    """Goes over the blocks of a transfer set, the last of an epoch being the smaller one.

    Args:
        dataset: On disk or a stream.
        size: Rows of a block.
        epochs: How many times it comes.

    Raises:
        ValueError: It is neither, or holds no row.
    """

    def __init__(self, dataset: datasets.Dataset | datasets.IterableDataset, size: int, epochs: int = 1):
        if not isinstance(dataset, datasets.Dataset | datasets.IterableDataset):
            raise ValueError(
                f"label_transfer_set needs a datasets.Dataset or IterableDataset, got a {type(dataset).__name__}"
            )
        self._dataset, self._size, self._epochs = dataset, size, epochs
        self._features = dataset.features
        self.first = next(iter(self), RowBlock(0, 0, 0, None)).rows
        if self.first is None or not len(self.first):
            raise ValueError("the transfer set holds 0 rows; labeling needs at least 1")
        self._features = self.first.features

    @property
    def rows(self) -> int | None:
        """In all epochs; None where it is not known."""
        return len(self._dataset) * self._epochs if isinstance(self._dataset, datasets.Dataset) else None

    def longest(self) -> int | None:
        """Tokens of the longest row; None where it is not known."""
        return max(example_lengths(self._dataset) or [0]) or None

    def __iter__(self) -> Iterator[RowBlock]:
        index = 0
        for epoch in range(self._epochs):
            for number, rows in enumerate(self._of_one_epoch()):
                yield RowBlock(index, epoch, number * self._size, rows)
                index += 1

    def _of_one_epoch(self) -> Iterator[datasets.Dataset]:
        if isinstance(self._dataset, datasets.Dataset):
            for start in range(0, len(self._dataset), self._size):
                yield self._dataset.select(range(start, min(start + self._size, len(self._dataset))))
            return
        stream = iter(self._dataset)
        while rows := list(islice(stream, self._size)):
            yield datasets.Dataset.from_list(rows, features=self._features)

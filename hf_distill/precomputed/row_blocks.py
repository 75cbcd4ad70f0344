"""A transfer set as blocks of a fixed number of rows, read from disk or from a stream."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import datasets
import pyarrow as pa

from hf_distill.data.length_bucket_sampler import example_lengths


@dataclass(frozen=True)
class RowBlock:
    """Consecutive rows of a transfer set.

    Attributes:
        index: The index of the block, counted from 0 over all epochs.
        epoch: The epoch, counted from 0.
        first_row: The index in the transfer set of the first of the rows.
        rows: The rows.
    """

    index: int
    epoch: int
    first_row: int
    rows: datasets.Dataset

    @property
    def table(self) -> pa.Table:
        """The rows as they are stored, without a transform applied."""
        return self.rows.with_format("arrow")[:]


class RowBlocks:
    """Iterates over the blocks of a transfer set; the last block of an epoch may be smaller.

    Args:
        dataset: The transfer set, on disk, in memory or a stream.
        size: Rows per block.
        epochs: Passes over the transfer set.

    Attributes:
        first: The rows of the first block.

    Raises:
        ValueError: The data set is of another type, or has no rows.
    """

    def __init__(self, dataset: datasets.Dataset | datasets.IterableDataset, size: int, epochs: int = 1):
        if not isinstance(dataset, datasets.Dataset | datasets.IterableDataset):
            raise ValueError(
                f"label_transfer_set needs a datasets.Dataset or IterableDataset, got a {type(dataset).__name__}"
            )
        self._dataset, self._size, self._epochs = dataset, size, epochs
        self._features = dataset.features
        first = next(iter(self), None)
        if first is None or not len(first.rows):
            raise ValueError("the transfer set holds 0 rows; labeling needs at least 1")
        self.first = first.rows
        self._features = self.first.features

    @property
    def rows(self) -> int | None:
        """The number of rows of all epochs; None of a stream."""
        return len(self._dataset) * self._epochs if isinstance(self._dataset, datasets.Dataset) else None

    def longest(self) -> int | None:
        """The number of tokens of the longest row; None where it is not known."""
        lengths = example_lengths(self._dataset)
        return None if lengths is None else int(lengths.max(initial=0)) or None

    def __iter__(self) -> Iterator[RowBlock]:
        index = 0
        for epoch in range(self._epochs):
            for number, rows in enumerate(self._blocks_of_epoch()):
                yield RowBlock(index, epoch, number * self._size, rows)
                index += 1

    def _blocks_of_epoch(self) -> Iterator[datasets.Dataset]:
        if isinstance(self._dataset, datasets.Dataset):
            for start in range(0, len(self._dataset), self._size):
                yield self._dataset.select(range(start, min(start + self._size, len(self._dataset))))
            return
        stream = iter(self._dataset)
        while rows := list(islice(stream, self._size)):
            yield datasets.Dataset.from_list(rows, features=self._features)

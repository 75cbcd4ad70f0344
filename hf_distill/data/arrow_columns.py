"""Columns of a data set, read from Arrow without converting them to Python objects."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import datasets
import numpy as np
import pyarrow as pa

_ROWS_AT_A_TIME, _BYTES_AT_A_TIME = 1 << 14, 1 << 24
# Gathering a row by its index takes about this many times as long as reading it where it is stored.
_GATHERING_COST = 32


@dataclass(frozen=True)
class StoredRows:
    """The rows of a data set in the order in which they are stored.

    The rows of a shuffled, selected or filtered data set are gathered one by one, each a slice of its own, if they are read
    in the order of the data set.

    Attributes:
        rows: The stored rows, among them all of the data set.
        places: The place among the stored rows of each row of the data set, int (rows,). None: the two are the same.
    """

    rows: datasets.Dataset
    places: np.ndarray | None

    @classmethod
    def of(cls, dataset: datasets.Dataset) -> StoredRows:
        """The stored rows of a data set; the data set itself if it has few of them, which are read faster one by one."""
        if dataset._indices is None or len(dataset) * _GATHERING_COST < dataset.data.num_rows:
            return cls(dataset, None)
        # The fingerprint would otherwise be a hash of all rows that are in memory.
        rows = datasets.Dataset(dataset.data, dataset.info, fingerprint=f"{dataset._fingerprint}-stored")
        return cls(rows, dataset._indices.column(0).to_numpy())

    def numbers(self, stored: np.ndarray) -> np.ndarray:
        """The numbers in the data set of the rows that are stored at these places, int (rows,), in ascending order."""
        is_one = np.zeros(len(self.rows), bool)
        is_one[stored] = True
        return np.flatnonzero(is_one if self.places is None else is_one[self.places])

    def values(self, column: str, of: Callable[[pa.ChunkedArray], Any], dtype: Any = np.int8) -> np.ndarray:
        """One value per row of the data set.

        Args:
            column: The name of a column.
            of: Function that makes values, one per row, of a block of the column.
            dtype: The smallest type of the values.

        Returns:
            The values, (rows,).
        """
        blocks = [np.asarray(of(table[column])) for table in self._tables([column])]
        found = np.concatenate([np.zeros(0, dtype), *blocks])
        return found if self.places is None else found[self.places]

    def blocks(self, columns: Sequence[str]) -> Iterator[tuple[np.ndarray, pa.Table]]:
        """Read columns of the data set, each stored row once.

        Args:
            columns: The names of the columns.

        Yields:
            The places of a block's rows among the stored rows, int (rows,) and ascending, and the block.
        """
        is_used = None
        if self.places is not None:
            is_used = np.zeros(len(self.rows), bool)
            is_used[self.places] = True
        start = 0
        for table in self._tables(columns):
            places = np.arange(start, start + len(table))
            start += len(table)
            if is_used is not None and not (used := is_used[places]).all():
                places, table = places[used], table.filter(pa.array(used))
            if len(places):
                yield places, table

    def _tables(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        rows = self.rows.select_columns(list(columns)).with_format("arrow")
        bytes_of_row = 1 + rows.data.nbytes // max(1, rows.data.num_rows)
        return rows.iter(batch_size=max(1, min(_ROWS_AT_A_TIME, _BYTES_AT_A_TIME // bytes_of_row)))


def lists_of_numbers(
    dataset: Any, column: str, depth: int = 1, of: Callable[[pa.DataType], bool] = pa.types.is_integer
) -> Iterator[tuple[Callable[[int], int], pa.ChunkedArray]]:
    """A column of numbers stored in Arrow, in blocks of rows; nothing if the column is missing or of another type.

    Args:
        dataset: Any data set; rows that are computed when they are read are not included.
        column: The name of the column.
        depth: The number of nested lists that contain the numbers; 0 for one number per row.
        of: Predicate on the Arrow type of the numbers.

    Yields:
        A function from the index of a row in the block to its number in the data set, and the block.
    """
    if not isinstance(dataset, datasets.Dataset) or dataset.format["type"] == "custom":
        return
    if column not in dataset.column_names:
        return
    kind = dataset.features.arrow_schema.field(column).type
    for _ in range(depth):
        kind = getattr(kind, "value_type", None)
    if kind is None or not of(kind):
        return
    stored = StoredRows.of(dataset)
    for places, table in stored.blocks([column]):
        yield partial(_number, stored, places), table[column]


def _number(stored: StoredRows, places: np.ndarray, row: int) -> int:
    return int(stored.numbers(places[[row]])[0])

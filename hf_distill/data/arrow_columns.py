"""Columns of numbers of a data set, read from Arrow without converting them to Python objects."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import datasets
import pyarrow as pa

_ROWS_AT_A_TIME = 1 << 16


def lists_of_numbers(
    dataset: Any, column: str, depth: int = 1, of: Callable[[pa.DataType], bool] = pa.types.is_integer
) -> Iterator[tuple[int, pa.ChunkedArray]]:
    """A column of numbers stored in Arrow, in blocks of rows; nothing if the column is missing or of another type.

    Args:
        dataset: Any data set; rows that are computed when they are read are not included.
        column: The name of the column.
        depth: The number of nested lists that contain the numbers; 0 for one number per row.
        of: Predicate on the Arrow type of the numbers.

    Yields:
        The index of a block's first row, and the block.
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
    rows = dataset.select_columns([column]).with_format("arrow")
    for first in range(0, len(rows), _ROWS_AT_A_TIME):
        yield first, rows[first : first + _ROWS_AT_A_TIME][column]

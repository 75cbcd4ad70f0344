"""Arrow columns of lists made of NumPy arrays, one array per row."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

_MOST_VALUES = 2**31 - 1  # offsets of an Arrow list are 32 bits wide


def list_array(rows: Sequence[np.ndarray], kind: pa.DataType) -> pa.Array:
    """Make a column of lists, or of lists of lists.

    Args:
        rows: The arrays, all of one dimension or all of two.
        kind: The Arrow type of the column.

    Returns:
        The column, one list per array.

    Raises:
        ValueError: The arrays have more values than an Arrow list can hold.
    """
    flat = np.concatenate([row.ravel() for row in rows])
    if len(flat) > _MOST_VALUES:
        raise ValueError(
            f"{len(rows)} rows hold {len(flat)} values, a shard at most {_MOST_VALUES}: lower rows_per_shard"
        )
    leaves = kind
    while pa.types.is_list(leaves):
        leaves = leaves.value_type
    array = pa.array(flat.astype(leaves.to_pandas_dtype(), copy=False))
    if rows[0].ndim == 2:
        array = pa.ListArray.from_arrays(_offsets([row.shape[1] for row in rows for _ in range(len(row))]), array)
    return pa.ListArray.from_arrays(_offsets([len(row) for row in rows]), array).cast(kind)


def _offsets(lengths: Sequence[int]) -> pa.Array:
    return pa.array(np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int32))

"""Content hashes of models, data sets, files and JSON, and the versions of packages."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from importlib.metadata import version
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import torch
from torch import nn

from hf_distill.distributed.weights import full_state_dict

_READ_AT_ONCE = 1 << 22
_PACKAGES = ("hf_distill", "torch", "transformers", "accelerate", "datasets")


def weights_sha256(model: nn.Module) -> str:
    """SHA-256 over names, types, shapes and bytes of a model's full state dict, hexadecimal."""
    digest = hashlib.sha256()
    for name, tensor in sorted(full_state_dict(model).items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def rows_sha256(dataset: datasets.Dataset) -> str:
    """SHA-256 over a data set's column names and rows, in their order, hexadecimal."""
    digest = hashlib.sha256()
    for rows in dataset.with_format(None).iter(batch_size=1000):
        digest.update(repr(sorted(rows.items())).encode())
    return digest.hexdigest()


def json_sha256(content: Any) -> str:
    """SHA-256 of a JSON value, hexadecimal, independent of the order of keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def file_sha256(path: str | os.PathLike) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(_READ_AT_ONCE):
            digest.update(block)
    return digest.hexdigest()


def table_sha256(table: pa.Table) -> str:
    """SHA-256 over an Arrow table's column names, types and values, hexadecimal, independent of its chunks."""
    digest = hashlib.sha256()
    for field, column in zip(table.schema, table.columns, strict=True):
        digest.update(f"{field.name} {field.type}\n".encode())
        _update(digest, column.combine_chunks())
    return digest.hexdigest()


def sequence_hashes(
    sequences: pa.Array | pa.ChunkedArray, counted: pa.Array | pa.ChunkedArray | None = None
) -> np.ndarray:
    """A 64-bit hash of each list of integers, which depends on the integers and their order.

    Args:
        sequences: Lists of integers, one per row.
        counted: Lists of the same lengths, 0 at integers to be ignored. None: all count.

    Returns:
        The hashes, int64 (rows,).
    """
    array = _in_one(sequences)
    lengths = np.asarray(array.value_lengths().fill_null(0), dtype=np.int64)
    values = np.asarray(array.flatten()).astype(np.int64).view(np.uint64)
    if counted is not None:
        counts = np.asarray(_in_one(counted).flatten()).astype(bool)
        ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])[np.cumsum(lengths)]
        values, lengths = values[counts], np.diff(ends, prepend=0)
    starts = np.cumsum(lengths) - lengths
    places = (np.arange(len(values)) - np.repeat(starts, lengths) + 1).astype(np.uint64)
    with np.errstate(over="ignore"):
        mixed = _mixed(values + places * np.uint64(0x9E3779B97F4A7C15))
        sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(mixed, dtype=np.uint64)])
        return (sums[starts + lengths] - sums[starts] + _mixed(lengths.astype(np.uint64))).view(np.int64)


def package_versions() -> dict[str, str]:
    """The versions of Python and of the packages that results depend on."""
    return {"python": platform.python_version(), **{package: version(package) for package in _PACKAGES}}


def _in_one(array: pa.Array | pa.ChunkedArray) -> pa.Array:
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def _mixed(numbers: np.ndarray) -> np.ndarray:
    """The finalizer of SplitMix64 (Steele et al. 2014): every input bit changes half of the output bits."""
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))


def _update(digest: Any, array: pa.Array) -> None:
    if isinstance(array, pa.ChunkedArray):  # combine_chunks keeps an array without chunks chunked
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    digest.update(len(array).to_bytes(8, "little"))
    if array.null_count:
        digest.update(np.packbits(np.asarray(array.is_null(), dtype=bool)))
    if pa.types.is_struct(array.type):
        for index in range(array.type.num_fields):
            _update(digest, array.field(index))
    elif pa.types.is_list(array.type) or pa.types.is_large_list(array.type):
        digest.update(np.asarray(array.value_lengths().fill_null(0), dtype=np.int64))
        _update(digest, array.flatten())
    elif pa.types.is_string(array.type) or pa.types.is_binary(array.type):
        values = array.cast(pa.large_binary()).fill_null(b"")
        ends = np.frombuffer(values.buffers()[1], np.int64)[values.offset :][: len(values) + 1] if len(values) else None
        if ends is not None:
            digest.update(ends - ends[0])
            digest.update(memoryview(values.buffers()[2] or b"")[ends[0] : ends[-1]])
    elif pa.types.is_integer(array.type) or pa.types.is_floating(array.type):
        digest.update(np.ascontiguousarray(array.fill_null(0).to_numpy(zero_copy_only=False)))
    else:  # dates, decimals, booleans
        digest.update(repr(array.to_pylist()).encode())

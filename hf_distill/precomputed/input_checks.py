"""Checks that precomputed teacher outputs belong to the model inputs: the same rows, truncation and transforms."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import islice
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from hf_distill.data.arrow_columns import StoredRows
from hf_distill.data.random_state import random_state_kept
from hf_distill.objectives.reduction import position_items
from hf_distill.precomputed.checks import refusal
from hf_distill.precomputed.input_fingerprints import (
    stored_token_fingerprints,
    token_fingerprints,
    value_difference,
    value_fingerprints,
)
from hf_distill.precomputed.provenance import TOKENS_READ, Provenance

_ROWS_LOOKED_AT = 64


def require_matching_inputs(
    dataset: Any,
    collate: Callable[[list], dict[str, Any]],
    found: Mapping[str, Provenance],
    recorded: Collection[str],
) -> None:
    """Refuse outputs for other inputs than those made by a data set and a collator, or for inputs that are random.

    Model inputs are made of a few rows and compared with those the teacher read: of rows whose stored `input_ids` differ,
    for which all rows of a `datasets.Dataset` are searched, else of the first rows.

    Args:
        dataset: The data set with the precomputed teacher outputs. The first rows of a stream are read once, others twice.
        collate: Makes model inputs of rows; called twice.
        found: The provenances of the outputs, by column.
        recorded: The names of the columns that hold the outputs.

    Raises:
        ValueError: An input differs; names it, its value then and its value now.
    """
    others = {column: _others(dataset, column) for column in found}
    numbers = np.unique(np.concatenate(list(others.values())))[:_ROWS_LOOKED_AT].tolist()
    is_indexed = hasattr(dataset, "__len__")
    if is_indexed and not numbers:
        numbers = list(range(min(_ROWS_LOOKED_AT, len(dataset))))
    with random_state_kept():
        rows = _rows(dataset, numbers if is_indexed else None)
        if not rows:
            return
        try:
            inputs = dict(collate([dict(row) for row in rows]))
        except (ValueError, RuntimeError) as error:  # of tokens beside the mask of other ones
            for column, provenance in found.items():
                if len(others[column]):
                    longest = max(len(row.get("input_ids", ())) for row in rows)
                    raise _other_tokens(provenance, len(others[column]), len(dataset), longest) from error
            raise
        again = dict(collate([dict(row) for row in (_rows(dataset, numbers) if is_indexed else rows)]))
    _require_steady(inputs, again, recorded)
    for column, provenance in found.items():
        read = _read_by_teacher(dataset, column, numbers, rows)
        if len(read) == len(rows):
            searched = len(dataset) if len(others[column]) else 0
            _require_same_tokens(
                read, inputs, provenance, np.isin(numbers, others[column]), (len(others[column]), searched)
            )
            _require_same_values(read, inputs, numbers)


def _others(dataset: Any, column: str) -> np.ndarray:
    """Numbers of the stored rows whose `input_ids` are not those that the teacher read."""
    found = [np.zeros(0, np.int64)]
    is_read_as_stored = isinstance(dataset, datasets.Dataset) and dataset.format["type"] != "custom"
    if not is_read_as_stored or "input_ids" not in dataset.column_names:
        return found[0]
    names = [name for name in ("input_ids", "attention_mask", column) if name in dataset.column_names]
    stored = StoredRows.of(dataset)
    for places, table in stored.blocks(names):
        read = np.asarray(pa.compute.struct_field(table[column], TOKENS_READ))
        found.append(places[(stored_token_fingerprints(table) != read) & (read != 0)])
    return stored.numbers(np.concatenate(found))


def _rows(dataset: Any, numbers: Sequence[int] | None) -> list[Mapping[str, Any]]:
    if numbers is None:
        return list(islice(iter(dataset), _ROWS_LOOKED_AT))
    return [dataset[number] for number in numbers]


def _read_by_teacher(
    dataset: Any, column: str, numbers: Sequence[int], rows: Sequence[Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """The fingerprints in rows of the inputs that the teacher read, bypassing transforms."""
    if isinstance(dataset, datasets.Dataset):
        return dataset.with_format(None).select_columns([column])[numbers][column]
    return [row[column] for row in rows if column in row]


def _require_steady(inputs: Mapping[str, Any], again: Mapping[str, Any], recorded: Collection[str]) -> None:
    """Refuse model inputs that differ when made again of the same rows: the outputs are for one of them only."""
    for name, value in inputs.items():
        other = again[name]
        if name in recorded or not isinstance(value, Tensor) or torch.equal(value, other):
            continue
        values = "other shapes"
        if value.shape == other.shape:
            place = tuple((value != other).nonzero()[0].tolist())
            values = f"at {place} first {value[place].item()} and then {other[place].item()}"
        raise refusal("for inputs that stay the same", f"the same rows gave other {name} when read again, {values}")


def _require_same_tokens(
    read: Sequence[Mapping[str, Any]],
    inputs: Mapping[str, Any],
    provenance: Provenance,
    are_others: np.ndarray,
    searched: tuple[int, int],
) -> None:
    """Refuse rows with other tokens than the teacher read.

    Args:
        read: The fingerprints of what the teacher read, by row.
        inputs: The model inputs made of the rows.
        provenance: The provenance of the precomputed teacher outputs.
        are_others: Whether the stored tokens of each row differ, bool (rows,).
        searched: The number of stored rows that differ, and of the rows searched, 0 where none differs.
    """
    known = np.array([int(row[TOKENS_READ]) for row in read])
    tokens = token_fingerprints(inputs)
    if tokens is not None and len(tokens) == len(known):
        are_others = (tokens != known) & (known != 0)
    if are_others.any():
        count, rows = searched if searched[1] else (int(are_others.sum()), len(read))
        longest = int(position_items(inputs).sum(dim=-1).max())
        raise _other_tokens(provenance, count, rows, longest)


def _other_tokens(provenance: Provenance, count: int, rows: int, longest: int) -> ValueError:
    return refusal(
        f"for rows truncated to {provenance.max_length or 'an unknown number of'} tokens",
        f"{count} of {rows} rows have other input_ids than those, the longest of those looked at {longest} tokens: texts were "
        "encoded anew, with another truncation or tokenizer, or the outputs were put beside other rows. Encode them as they were "
        "labeled, or label them again",
    )


def _require_same_values(read: Sequence[Mapping[str, Any]], inputs: Mapping[str, Any], numbers: Sequence[int]) -> None:
    """Refuse rows whose floating-point inputs, such as `pixel_values`, are not those that the teacher read."""
    for name in read[0].keys() - {"teacher", TOKENS_READ}:
        values = inputs.get(name)
        if not isinstance(values, Tensor) or values.dim() < 2 or len(values) != len(read):
            continue
        for index, (row, print_) in enumerate(zip(read, value_fingerprints(values), strict=True)):
            difference = value_difference(np.asarray(row[name], np.float32), print_)
            if difference is not None:
                number = numbers[index] if numbers else index
                raise refusal(
                    f"for {name} {difference[0]} in row {number}",
                    f"this data set and data_collator make them {difference[1]}. Resize and normalize as when the rows were "
                    "labeled (the same transform or image processor), or label them again with this one",
                )

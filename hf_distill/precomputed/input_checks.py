"""What makes a teacher's recorded answers those to other inputs: other rows, truncation or transforms, or chance."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import islice
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

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

_ROWS_AT_ONCE = 10_000
_ROWS_LOOKED_AT = 64


def require_matching_inputs(
    dataset: Any,
    collate: Callable[[list], dict[str, Any]],
    found: Mapping[str, Provenance],
    recorded: Collection[str],
) -> None:
    """Refuse answers to other inputs than those that a data set and a collator make, or to ones that change each time.

    A few rows become model inputs, which are compared with what the teacher read: those whose stored `input_ids` are
    others, for which all rows of a `datasets.Dataset` are searched, else the first ones.

    Args:
        dataset: Has the answers. Of a stream the first rows are read once, else rows are read twice.
        collate: Makes model inputs of rows, twice.
        found: Provenances of the answers, by column.
        recorded: Names of the answers themselves.

    Raises:
        ValueError: Names the input, what it was and what it is.
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
    """Numbers of the stored rows whose `input_ids` are not those that were answered."""
    found, start = [np.zeros(0, np.int64)], 0
    if (
        isinstance(dataset, datasets.Dataset)
        and dataset.format["type"] != "custom"
        and "input_ids" in dataset.column_names
    ):
        names = [name for name in ("input_ids", "attention_mask", column) if name in dataset.column_names]
        for table in dataset.select_columns(names).with_format("arrow").iter(batch_size=_ROWS_AT_ONCE):
            read = np.asarray(pa.compute.struct_field(table[column], TOKENS_READ))
            found.append(start + np.flatnonzero((stored_token_fingerprints(table) != read) & (read != 0)))
            start += len(table)
    return np.concatenate(found)


def _rows(dataset: Any, numbers: Sequence[int] | None) -> list[Mapping[str, Any]]:
    if numbers is None:
        return list(islice(iter(dataset), _ROWS_LOOKED_AT))
    return [dataset[number] for number in numbers]


def _read_by_teacher(
    dataset: Any, column: str, numbers: Sequence[int], rows: Sequence[Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """What rows say about the inputs that were answered, whatever a transform leaves of them."""
    if isinstance(dataset, datasets.Dataset):
        return dataset.with_format(None).select_columns([column])[numbers][column]
    return [row[column] for row in rows if column in row]


def _require_steady(inputs: Mapping[str, Any], again: Mapping[str, Any], recorded: Collection[str]) -> None:
    """Refuse model inputs that are others when made again of the same rows: answers are to one of them only."""
    for name, value in inputs.items():
        other = again[name]
        if name in recorded or not isinstance(value, Tensor) or torch.equal(value, other):
            continue
        values = "other shapes"
        if value.shape == other.shape:
            place = tuple((value != other).nonzero()[0].tolist())
            values = f"at {place} first {value[place].item()} and then {other[place].item()}"
        raise refusal("to inputs that stay as they are", f"the same rows gave other {name} when read again, {values}")


def _require_same_tokens(
    read: Sequence[Mapping[str, Any]],
    inputs: Mapping[str, Any],
    provenance: Provenance,
    are_others: np.ndarray,
    searched: tuple[int, int],
) -> None:
    """Refuse rows with other tokens than were answered.

    Args:
        read: By row what the teacher read.
        inputs: Made of the rows.
        provenance: Of the answers.
        are_others: Which rows have other tokens as they are stored.
        searched: How many of how many stored rows do; of none where none does.
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
        f"to rows of at most {provenance.max_length or 'an unknown number of'} tokens, cut there",
        f"{count} of {rows} rows have other input_ids than those, the longest of those looked at {longest} tokens: texts were "
        "encoded anew, with another truncation or tokenizer, or answers were put beside other rows. Encode them as they were "
        "labeled, or label them again",
    )


def _require_same_values(read: Sequence[Mapping[str, Any]], inputs: Mapping[str, Any], numbers: Sequence[int]) -> None:
    """Refuse rows whose inputs of numbers, such as `pixel_values`, are not those that were answered."""
    for name in read[0].keys() - {"teacher", TOKENS_READ}:
        values = inputs.get(name)
        if not isinstance(values, Tensor) or values.dim() < 2 or len(values) != len(read):
            continue
        for index, (row, print_) in enumerate(zip(read, value_fingerprints(values), strict=True)):
            difference = value_difference(np.asarray(row[name], np.float32), print_)
            if difference is not None:
                number = numbers[index] if numbers else index
                raise refusal(
                    f"to {name} {difference[0]} in row {number}",
                    f"this data set and data_collator make them {difference[1]}. Resize and normalize as when the rows were "
                    "labeled (the same transform or image processor), or label them again with this one",
                )

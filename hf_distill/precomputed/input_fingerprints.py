"""Fingerprints of a row's model inputs that are equal in whatever batch, padding or precision the row is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from hf_distill.fingerprints import sequence_hashes
from hf_distill.objectives.reduction import valid_positions

PLACES = 32
# Relative to a row's largest value: half precision and rounding to 256 levels stay below, other resizing or normalization
# does not.
TOLERANCE = 0.02
_GOLDEN = (5**0.5 - 1) / 2


def stored_token_fingerprints(rows: pa.Table) -> np.ndarray | None:
    """Hash of each stored row's `input_ids` without padding, int64 (rows,); None where the rows have none."""
    if "input_ids" not in rows.column_names:
        return None
    tokens, mask = rows["input_ids"], rows["attention_mask"] if "attention_mask" in rows.column_names else None
    is_flat = mask is not None and pa.types.is_list(mask.type) and not pa.types.is_nested(mask.type.value_type)
    fits = is_flat and pa.compute.list_value_length(mask).equals(pa.compute.list_value_length(tokens))
    return sequence_hashes(tokens, mask if fits else None)


def token_fingerprints(inputs: Mapping[str, Any]) -> np.ndarray | None:
    """The same hashes of a batch of model inputs, int64 (batch,); None where no `attention_mask` marks padding."""
    tokens, valid = inputs.get("input_ids"), valid_positions(inputs)
    if tokens is None or valid is None or tokens.shape != valid.shape:
        return None
    return sequence_hashes(_lists(tokens), _lists(valid.to(torch.uint8)))


def value_fingerprints(values: Tensor) -> np.ndarray:
    """Shape of each row of a batch and its values at 32 places, float32 (batch, dimensions + 32)."""
    shape = values.shape[1:]
    chosen = values.flatten(1)[:, torch.from_numpy(_places(shape))].float().cpu().numpy()
    return np.concatenate([np.tile(np.asarray(shape, np.float32), (len(values), 1)), chosen], axis=1)


def value_difference(expected: np.ndarray, found: np.ndarray) -> tuple[str, str] | None:
    """What differs between two rows of `value_fingerprints`, in words for each; None where they are equal."""
    shape, other_shape = (tuple(map(int, each[:-PLACES])) for each in (expected, found))
    if shape != other_shape:
        return f"of shape {shape}", f"of shape {other_shape}"
    values, others = expected[-PLACES:], found[-PLACES:]
    apart = np.abs(values - others)
    worst = int(apart.argmax())
    if apart[worst] <= TOLERANCE * max(np.abs(values).max(), np.abs(others).max()):
        return None
    place = tuple(map(int, np.unravel_index(_places(shape)[worst], shape)))
    return f"{values[worst]:.4g} at {place}", f"{others[worst]:.4g} there"


def _places(shape: tuple[int, ...]) -> np.ndarray:
    """Flat indices, (32,), that are spread over all dimensions; indices in equal steps may all fall into one column."""
    return (np.arange(1, PLACES + 1) * _GOLDEN % 1 * np.prod(shape)).astype(np.int64)


def _lists(rows: Tensor) -> pa.ListArray:
    count, length = rows.shape
    return pa.ListArray.from_arrays(pa.array(np.arange(count + 1) * length, pa.int32()), rows.cpu().numpy().ravel())

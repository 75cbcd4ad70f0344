"""Rows a distributed loader repeats so that every process has equally many: none of them may count twice."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from hf_distill.objectives.reduction import NO_REAL_EXAMPLE, row_count


def without_repeats(batch: dict[str, Any], accelerator: Accelerator, drop_last: bool) -> dict[str, Any]:
    """The last batch of a distributed loader without the rows that only fill it up; any other batch as it is.

    Args:
        batch: Model inputs, just taken from a loader the accelerator prepared.
        accelerator: Knows how far the loader is, and which process this is.
        drop_last: The loader leaves an incomplete last batch out.
    """
    loader = accelerator.gradient_state
    may_be_filled_up = accelerator.num_processes > 1 and accelerator.even_batches and not drop_last
    if not (may_be_filled_up and loader.end_of_dataloader):
        return batch
    rows, remainder = row_count(batch), loader.remainder
    if remainder < 0:  # unknown to a loader that skipped batches, as after a resume
        dataset = loader.active_dataloader.dataset
        remainder = len(dataset) % (rows * accelerator.num_processes) if hasattr(dataset, "__len__") else 0
    if remainder == 0:
        return batch
    num_real = min(max(remainder - accelerator.process_index * rows, 0), rows)
    return batch if num_real == rows else drop_repeated_rows(batch, num_real)


def drop_repeated_rows(batch: Mapping[str, Any], num_real: int) -> dict[str, Any]:
    """The first rows of a batch that a distributed sampler filled up with repetitions.

    Args:
        batch: Model inputs, tensors of (batch, ...).
        num_real: Rows that are no repetitions, at the front. 0 keeps one row and marks it as counting for nothing.

    Returns:
        The batch with `num_real` rows, or with one row and the input `NO_REAL_EXAMPLE`.
    """
    rows = row_count(batch)
    kept = {
        name: value[: max(num_real, 1)] if isinstance(value, Tensor) and len(value) == rows else value
        for name, value in batch.items()
    }
    return kept if num_real else kept | {NO_REAL_EXAMPLE: True}


def fill_up_rows(values: Any, rows: int) -> Any:
    """Nested tensors of fewer than `rows` rows, filled up by repeating their last row.

    Args:
        values: A tensor (batch, ...), None, or a tuple or mapping of such.
        rows: The length wanted.
    """
    if isinstance(values, Mapping):
        return {name: fill_up_rows(value, rows) for name, value in values.items()}
    if isinstance(values, tuple):
        return tuple(fill_up_rows(value, rows) for value in values)
    if values is None or len(values) >= rows:
        return values
    return torch.cat([values, values[-1:].expand(rows - len(values), *values.shape[1:])])


def without(inputs: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """The batch without the named inputs."""
    return {name: value for name, value in inputs.items() if name not in names}

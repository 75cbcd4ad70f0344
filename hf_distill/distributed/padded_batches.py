"""Rows that a distributed data loader repeats so that every process has equally many, and that must not count twice."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from hf_distill.objectives.reduction import NO_REAL_EXAMPLE, row_count


def without_repeats(batch: dict[str, Any], accelerator: Accelerator, drop_last: bool) -> dict[str, Any]:
    """Remove the rows that a distributed data loader repeated to fill up its last batch.

    Args:
        batch: Model inputs, the latest batch of a data loader that the accelerator prepared.
        accelerator: The accelerator, which knows the state of the data loader and the index of this process.
        drop_last: Whether the data loader drops an incomplete last batch.

    Returns:
        The batch without repeated rows, see `drop_repeated_rows`; the batch itself if it has none. Of batches of different
        sizes a whole one is repeated, or none.
    """
    loader = accelerator.gradient_state
    may_be_filled_up = accelerator.num_processes > 1 and accelerator.even_batches and not drop_last
    if not (may_be_filled_up and loader.end_of_dataloader):
        return batch
    if (batches := _batches_of_queries(loader.active_dataloader)) is not None:
        in_last_round = batches % accelerator.num_processes or accelerator.num_processes
        return batch if accelerator.process_index < in_last_round else drop_repeated_rows(batch, 0)
    rows, remainder = row_count(batch), loader.remainder
    if remainder < 0:  # unknown after skipped batches, as when training resumes
        dataset = loader.active_dataloader.dataset
        remainder = len(dataset) % (rows * accelerator.num_processes) if hasattr(dataset, "__len__") else 0
    if remainder == 0:
        return batch
    num_real = min(max(remainder - accelerator.process_index * rows, 0), rows)
    return batch if num_real == rows else drop_repeated_rows(batch, num_real)


def _batches_of_queries(loader: Any) -> int | None:
    """Number of batches of all processes where these differ in size, so that whole batches are repeated; else None."""
    sampler = loader.batch_sampler
    while hasattr(sampler, "batch_sampler"):  # inside what shards it, and what skips batches
        sampler = sampler.batch_sampler
    return len(sampler) if getattr(sampler, "batch_size", 0) is None else None


def drop_repeated_rows(batch: Mapping[str, Any], num_real: int) -> dict[str, Any]:
    """Keep the first rows of a batch, after which all rows are repetitions.

    Args:
        batch: Model inputs, tensors of (batch, ...).
        num_real: The number of rows that are not repetitions. 0: one row is kept, marked as not counting.

    Returns:
        The batch with `num_real` rows, or with one row and the additional input `NO_REAL_EXAMPLE`.
    """
    rows = row_count(batch)
    kept = {
        name: value[: max(num_real, 1)] if isinstance(value, Tensor) and len(value) == rows else value
        for name, value in batch.items()
    }
    return kept if num_real else kept | {NO_REAL_EXAMPLE: True}


def fill_up_rows(values: Any, rows: int) -> Any:
    """Fill up nested tensors to a number of rows by repeating their last row.

    Args:
        values: A tensor (batch, ...), None, or a tuple or mapping of such.
        rows: The wanted number of rows.

    Returns:
        The same structure of tensors with at least `rows` rows.
    """
    if isinstance(values, Mapping):
        return {name: fill_up_rows(value, rows) for name, value in values.items()}
    if isinstance(values, tuple):
        return tuple(fill_up_rows(value, rows) for value in values)
    if values is None or len(values) >= rows:
        return values
    return torch.cat([values, values[-1:].expand(rows - len(values), *values.shape[1:])])


def without(inputs: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """The inputs without those of certain names."""
    return {name: value for name, value in inputs.items() if name not in names}

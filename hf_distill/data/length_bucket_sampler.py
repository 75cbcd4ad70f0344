"""Batches of examples of similar length: shuffled, seeded, the same for every split over processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch.utils.data import Dataset, Sampler
from transformers import TrainingArguments

from hf_distill.data.arrow_columns import StoredRows

# Few enough that batches differ from epoch to epoch, many enough that a batch spans 2 % of the lengths.
_BATCHES_SORTED_TOGETHER = 50
_ROWS_AT_ONCE = 1 << 16


class LengthBucketSampler(Sampler[int]):
    """Every example once an epoch, in shuffled batches of similar length.

    Unlike transformers' `LengthGroupedSampler`, whose batches grow shorter all through each group of fifty, the
    batches come in random order, and the order depends on seed and epoch alone, so a resumed run has the same one.

    Args:
        lengths: The length of each example, in tokens.
        batch_size: Examples per optimizer step, over all processes and accumulated micro-batches; these are of similar
            length, so that the examples of a step do not depend on how it is split.
        seed: The seed of the shuffling, to which the epoch is added.
        epoch: Function that returns the current epoch, called at the start of each.
    """

    def __init__(self, lengths: Sequence[int] | np.ndarray, batch_size: int, seed: int, epoch: Callable[[], int]):
        self.lengths = np.asarray(lengths)
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch())
        grouped = _length_grouped(self.lengths, self.batch_size * _BATCHES_SORTED_TOGETHER, generator)
        full = len(grouped) // self.batch_size
        batches, ragged = grouped[: full * self.batch_size], grouped[full * self.batch_size :]
        order = torch.randperm(full, generator=generator).numpy()
        return chain.from_iterable(_in_lists(batches.reshape(full, self.batch_size), order, ragged))


def _length_grouped(lengths: np.ndarray, size: int, generator: torch.Generator) -> np.ndarray:
    """A random permutation in which every group of `size` indices has falling lengths, the longest example of all first.

    The order is that of transformers' `get_length_grouped_indices`, which holds Python lists of all indices.
    """
    kind = torch.int32 if len(lengths) <= np.iinfo(np.int32).max else torch.int64
    indices = torch.randperm(len(lengths), generator=generator, dtype=kind).numpy()
    full, step = len(indices) // size * size, size * max(1, _ROWS_AT_ONCE // size)
    for start in range(0, full, step):
        _sort_falling(indices[start : min(start + step, full)].reshape(-1, size), lengths)
    _sort_falling(indices[full:].reshape(1, -1), lengths)
    longest = size * int(lengths[indices[::size]].argmax())
    indices[[0, longest]] = indices[[longest, 0]]
    return indices


def _sort_falling(groups: np.ndarray, lengths: np.ndarray) -> None:
    """Sort each group of indices, (groups, size), in place by falling length; equal lengths keep their order."""
    backwards = groups[:, ::-1]
    order = np.argsort(lengths[backwards], axis=1, kind="stable")
    groups[:] = np.take_along_axis(backwards, order, axis=1)[:, ::-1]


def _in_lists(batches: np.ndarray, order: np.ndarray, ragged: np.ndarray) -> Iterator[list[int]]:
    """Batches of indices, (batches, batch size), in this order, as lists of many batches each, and the last batch."""
    step = max(1, _ROWS_AT_ONCE // batches.shape[1])
    for start in range(0, len(order), step):
        yield batches[order[start : start + step]].ravel().tolist()
    yield ragged.tolist()


def length_bucket_sampler(
    dataset: Dataset, args: TrainingArguments, batch_size: int, epoch: Callable[[], int]
) -> LengthBucketSampler | None:
    """The sampler for a training set of examples of known length.

    Args:
        dataset: The training set.
        args: The training arguments, with the seed, the column of lengths and the number of accumulated micro-batches.
        batch_size: Examples per micro-batch of one process.
        epoch: Function that returns the current epoch.

    Returns:
        The sampler; None where the lengths are not known.
    """
    lengths = example_lengths(dataset, args.length_column_name)
    if lengths is None or not len(lengths):
        return None
    seed = args.seed if args.data_seed is None else args.data_seed
    return LengthBucketSampler(lengths, batch_size * args.gradient_accumulation_steps * args.world_size, seed, epoch)


def example_lengths(dataset: Dataset, column: str = "length") -> np.ndarray | None:
    """Tokens per example of a tokenized `datasets.Dataset`, read from Arrow without converting tokens to Python lists.

    Args:
        dataset: Any data set.
        column: The column of lengths, used if there is one of numbers.

    Returns:
        The length of each row, (rows,), from `column` or from `input_ids`; None for any other data set, and for one whose
        rows are computed when they are read (`set_transform`).
    """
    if not isinstance(dataset, datasets.Dataset) or dataset.format["type"] == "custom":
        return None
    kinds = {field.name: field.type for field in dataset.features.arrow_schema}
    stored = StoredRows.of(dataset)
    kind = kinds.get(column, pa.null())
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return stored.values(column, lambda lengths: lengths)
    return stored.values("input_ids", _lengths) if "input_ids" in kinds else None


def _lengths(rows: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.fill_null(pc.list_value_length(rows), 0)

"""Batches of examples of similar length: shuffled, seeded, the same for every split over processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import datasets
import pyarrow.compute
import torch
from torch.utils.data import Dataset, Sampler
from transformers import TrainingArguments
from transformers.trainer_pt_utils import get_length_grouped_indices

# Few enough that batches differ from epoch to epoch, many enough that a batch spans 2 % of the lengths.
_BATCHES_SORTED_TOGETHER = 50


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

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int, epoch: Callable[[], int]):
        self.lengths = lengths
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch())
        grouped = get_length_grouped_indices(self.lengths, self.batch_size, _BATCHES_SORTED_TOGETHER, generator)
        batches = [grouped[start : start + self.batch_size] for start in range(0, len(grouped), self.batch_size)]
        ragged = batches.pop() if len(batches[-1]) < self.batch_size else []
        order = torch.randperm(len(batches), generator=generator).tolist()
        return iter([index for batch in order for index in batches[batch]] + ragged)


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
    if not lengths:
        return None
    seed = args.seed if args.data_seed is None else args.data_seed
    return LengthBucketSampler(lengths, batch_size * args.gradient_accumulation_steps * args.world_size, seed, epoch)


def example_lengths(dataset: Dataset, column: str = "length") -> list[int] | None:
    """Tokens per example of a tokenized `datasets.Dataset`, read from Arrow without converting tokens to Python lists.

    Args:
        dataset: Any data set.
        column: The column of lengths, used if there is one.

    Returns:
        The length of each row, from `column` or from `input_ids`; None for any other data set, and for one whose rows
        are computed when they are read (`set_transform`).
    """
    if not isinstance(dataset, datasets.Dataset) or dataset.format["type"] == "custom":
        return None
    if column in dataset.column_names:
        return list(dataset.select_columns([column]).with_format(None)[:][column])
    if "input_ids" not in dataset.column_names:
        return None
    table = dataset.select_columns(["input_ids"]).with_format("arrow")[:]
    return pyarrow.compute.list_value_length(table["input_ids"]).to_pylist()

"""Batches of texts of similar length: shuffled, seeded, the same for every split over processes."""

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
    batches come in random order, and the order depends on seed and epoch alone, so a resumed run meets the same one.

    Args:
        lengths: Length of each example, in tokens.
        batch_size: Examples of one optimizer step, over all processes and accumulated micro-batches: what is sorted
            together, so that the step's examples do not depend on how it is split.
        seed: Base of the shuffle.
        epoch: The current epoch, asked at the start of each.
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
    """The sampler for a training set whose lengths are known, None for any other.

    Args:
        dataset: The training set.
        args: Give the seed, the column of lengths, and how a step is split.
        batch_size: Examples of a micro-batch on one process.
        epoch: The current epoch.
    """
    lengths = example_lengths(dataset, args.length_column_name)
    if not lengths:
        return None
    seed = args.seed if args.data_seed is None else args.data_seed
    return LengthBucketSampler(lengths, batch_size * args.gradient_accumulation_steps * args.world_size, seed, epoch)


def example_lengths(dataset: Dataset, column: str = "length") -> list[int] | None:
    """Tokens per example of a tokenized `datasets.Dataset`, read from Arrow without making Python lists.

    Args:
        dataset: Any dataset.
        column: A column that already holds the lengths.

    Returns:
        One length per row, from `column` or from `input_ids`; None for any other dataset, or one whose rows are made
        on the fly (`set_transform`).
    """
    if not isinstance(dataset, datasets.Dataset) or dataset.format["type"] == "custom":
        return None
    if column in dataset.column_names:
        return list(dataset.select_columns([column]).with_format(None)[:][column])
    if "input_ids" not in dataset.column_names:
        return None
    table = dataset.select_columns(["input_ids"]).with_format("arrow")[:]
    return pyarrow.compute.list_value_length(table["input_ids"]).to_pylist()

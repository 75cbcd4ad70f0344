"""Batches of similar length, and where the lengths come from."""

from __future__ import annotations

from itertools import pairwise

import datasets
import pytest
import torch
from transformers.trainer_pt_utils import LengthGroupedSampler

from hf_distill.data.length_bucket_sampler import LengthBucketSampler, example_lengths, length_bucket_sampler

BATCH = 16
ROWS = [[5, 6, 7], [5], [], [5, 6], [7, 7, 7, 7]]
LENGTHS = [3, 1, 0, 2, 4]


def sentence_lengths(rows: int) -> list[int]:
    """Like a set of sentences: most around 25 tokens, a few up to 128."""
    generator = torch.Generator().manual_seed(11)
    return (3.2 + 0.7 * torch.randn(rows, generator=generator)).exp().clamp(4, 128).long().tolist()


def sampler(lengths, batch_size=BATCH, seed=42, epoch=0):
    return LengthBucketSampler(lengths, batch_size, seed, epoch=lambda: epoch)


def batches_of(indices, batch_size=BATCH):
    indices = list(indices)
    return [indices[start : start + batch_size] for start in range(0, len(indices), batch_size)]


def padding(lengths, batches):
    """Share of a padded epoch that is padding."""
    padded = sum(len(batch) * max(lengths[index] for index in batch) for batch in batches)
    return 1 - sum(lengths[index] for batch in batches for index in batch) / padded


@pytest.mark.parametrize("rows", [1, 15, 16, 17, 64, 133, 1003])
@pytest.mark.parametrize("batch_size", [1, 16])
def test_every_example_once(rows, batch_size):
    order = sampler(sentence_lengths(rows), batch_size)
    assert len(order) == rows
    assert sorted(order) == list(range(rows))


def test_order_depends_on_seed_and_epoch_alone():
    lengths = sentence_lengths(400)
    reference = list(sampler(lengths, seed=1, epoch=0))
    torch.manual_seed(99)
    assert list(sampler(lengths, seed=1, epoch=0)) == reference
    others = [list(sampler(lengths, seed=1, epoch=epoch)) for epoch in (1, 2)] + [list(sampler(lengths, seed=7))]
    assert len({tuple(order) for order in [reference, *others]}) == 4


def test_drawing_an_order_leaves_the_global_random_state_alone():
    before = torch.get_rng_state()
    list(sampler(sentence_lengths(100)))
    assert torch.equal(torch.get_rng_state(), before)


def test_epoch_is_asked_at_the_start_of_each_pass():
    epochs = iter([0, 1, 0])
    order = LengthBucketSampler(sentence_lengths(400), BATCH, seed=3, epoch=lambda: next(epochs))
    first, second, again = list(order), list(order), list(order)
    assert first == again != second


@pytest.mark.parametrize(("rows", "at_most"), [(1000, 0.2), (1603, 0.1), (2490, 0.1), (5000, 0.1)])
def test_little_padding(rows, at_most):
    """Small sets gain less: transformers sorts at most a quarter of the set together."""
    lengths = sentence_lengths(rows)
    random_order = torch.randperm(rows, generator=torch.Generator().manual_seed(0)).tolist()
    assert padding(lengths, batches_of(random_order)) > 0.4
    assert padding(lengths, batches_of(sampler(lengths))) < at_most


@pytest.mark.parametrize("rows", [1603, 2490, 5000])
def test_every_full_batch_holds_similar_lengths(rows):
    """All but the batch that may have taken in the longest text of the set for one of its own."""
    lengths = sentence_lengths(rows)
    random, bucketed = (
        sorted(padding(lengths, [batch]) for batch in batches_of(order) if len(batch) == BATCH)
        for order in (range(rows), sampler(lengths))
    )
    assert random[len(random) // 2] > 0.5
    assert bucketed[len(bucketed) // 2] < 0.06
    assert bucketed[-2] < 0.4


@pytest.mark.parametrize("rows", [100, 1603])
def test_ragged_batch_comes_last(rows):
    """A ragged batch anywhere else would shift the limits of all batches behind it."""
    lengths = list(range(rows))
    batches = batches_of(sampler(lengths))
    assert [len(batch) for batch in batches] == [BATCH] * (rows // BATCH) + [rows % BATCH]
    # With lengths 0, 1, 2, ... every batch runs downwards, save where its first text was swapped for the longest of all.
    rising = sum(later > earlier for batch in batches for earlier, later in pairwise(batch))
    assert rising <= 1


def falling_pairs(lengths, indices):
    longest = [max(lengths[index] for index in batch) for batch in batches_of(indices)]
    return sum(later < earlier for earlier, later in pairwise(longest)) / (len(longest) - 1)


def test_batches_come_in_no_order_of_length():
    lengths = sentence_lengths(4000)
    assert 0.35 < falling_pairs(lengths, sampler(lengths)) < 0.6
    generator = torch.Generator().manual_seed(0)
    stock = LengthGroupedSampler(BATCH, lengths=lengths, generator=generator)
    assert falling_pairs(lengths, stock) > 0.8  # what this sampler is there to avoid


@pytest.fixture
def tokenized() -> datasets.Dataset:
    return datasets.Dataset.from_dict({"input_ids": ROWS, "labels": list(range(5))})


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda rows: rows, LENGTHS),
        (lambda rows: rows.select([4, 0, 0]), [4, 3, 3]),
        (lambda rows: rows.select(range(1, 4)), [1, 0, 2]),
        (lambda rows: rows.filter(lambda row: row["labels"] % 2 == 0), [3, 0, 4]),
        (lambda rows: datasets.concatenate_datasets([rows, rows.select([3])]), [*LENGTHS, 2]),
        (lambda rows: rows.with_format("torch"), LENGTHS),
        (lambda rows: rows.with_format("numpy", columns=["labels"]), LENGTHS),
        (lambda rows: rows.select([]), []),
    ],
    ids=["plain", "selected", "sliced", "filtered", "concatenated", "torch", "other columns", "empty"],
)
def test_lengths_of_input_ids(tokenized, change, expected):
    lengths = example_lengths(change(tokenized))
    assert lengths == expected
    assert all(type(length) is int for length in lengths)


def test_lengths_follow_a_shuffle(tokenized):
    shuffled = tokenized.shuffle(seed=3)
    assert shuffled["labels"] != tokenized["labels"]
    assert example_lengths(shuffled) == [LENGTHS[label] for label in shuffled["labels"]]


@pytest.mark.parametrize(
    "feature", [datasets.List(datasets.Value("int32"), length=4), datasets.LargeList(datasets.Value("int64"))]
)
def test_lengths_of_other_kinds_of_lists(feature):
    features = datasets.Features({"input_ids": feature})
    dataset = datasets.Dataset.from_dict({"input_ids": [[1, 2, 3, 4], [5, 6, 7, 8]]}, features=features)
    assert example_lengths(dataset) == [4, 4]


@pytest.mark.parametrize("format_type", [None, "torch", "numpy"])
@pytest.mark.parametrize("column", ["length", "words"])
def test_a_column_of_lengths_is_believed(tokenized, column, format_type):
    dataset = tokenized.add_column(column, [30, 10, 0, 20, 40]).with_format(format_type)
    lengths = example_lengths(dataset.select([4, 1]), column)
    assert lengths == [40, 10]
    assert all(type(length) is int for length in lengths)


def test_a_column_of_lengths_needs_no_tokens():
    assert example_lengths(datasets.Dataset.from_dict({"length": [3, 1], "text": ["a b c", "a"]})) == [3, 1]


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: rows.with_transform(lambda batch: batch),
        lambda rows: rows.add_column("length", LENGTHS).with_transform(lambda batch: batch),
        lambda rows: rows.remove_columns("input_ids"),
        lambda rows: rows.to_iterable_dataset(),
        lambda rows: rows.to_list(),
        lambda rows: torch.utils.data.TensorDataset(torch.zeros(5, 3)),
        lambda rows: None,
    ],
    ids=["transform", "transform with lengths", "no tokens", "iterable", "list", "torch", "none"],
)
def test_other_datasets_have_no_lengths(tokenized, change):
    assert example_lengths(change(tokenized)) is None


def test_set_transform_in_place_too(tokenized):
    tokenized.set_transform(lambda batch: batch)
    assert example_lengths(tokenized) is None


@pytest.mark.parametrize(("data_seed", "seed"), [(None, 42), (5, 5), (0, 0)])
def test_sampler_for_a_training_set(tokenized, arguments, data_seed, seed):
    """What is sorted together is the optimizer step; data_seed, also 0, goes before seed."""
    args = arguments(gradient_accumulation_steps=4, data_seed=data_seed, seed=42)
    order = length_bucket_sampler(tokenized, args, batch_size=2, epoch=lambda: 3)
    assert (order.lengths, order.batch_size, order.seed, order.epoch()) == (LENGTHS, 2 * 4, seed, 3)


def test_sampler_reads_the_column_the_arguments_name(tokenized, arguments):
    dataset = tokenized.add_column("words", [30, 10, 0, 20, 40])
    order = length_bucket_sampler(dataset, arguments(length_column_name="words"), batch_size=2, epoch=lambda: 0)
    assert order.lengths == [30, 10, 0, 20, 40]


@pytest.mark.parametrize(
    "change",
    [lambda rows: rows.remove_columns("input_ids"), lambda rows: rows.to_list(), lambda rows: rows.select([])],
    ids=["no tokens", "list", "empty"],
)
def test_no_sampler_without_lengths(tokenized, arguments, change):
    assert length_bucket_sampler(change(tokenized), arguments(), batch_size=2, epoch=lambda: 0) is None

"""Batches of similar length, and where the lengths come from."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise

import datasets
import numpy as np
import pytest
import torch
from transformers.trainer_pt_utils import LengthGroupedSampler, get_length_grouped_indices

from hf_distill.data.arrow_columns import StoredRows
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


def order_in_lists(lengths, batch_size, seed, epoch):
    """The order by transformers' own function, as Python lists; the weights of a trained model depend on it."""
    generator = torch.Generator().manual_seed(seed + epoch)
    grouped = get_length_grouped_indices(lengths, batch_size, 50, generator)
    batches = batches_of(grouped, batch_size)
    ragged = batches.pop() if len(batches[-1]) < batch_size else []
    order = torch.randperm(len(batches), generator=generator).tolist()
    return [index for batch in order for index in batches[batch]] + ragged


@pytest.mark.parametrize("rows", [1, 7, 16, 400, 799, 800, 801, 5003])
@pytest.mark.parametrize("batch_size", [1, 8, 16, 64])
def test_order_is_that_of_transformers_function(rows, batch_size):
    """A step's examples are batch size x accumulation x processes, so that 64 is also 8 processes of 8."""
    for seed, epoch in ((0, 0), (42, 0), (42, 3), (1234567, 1)):
        for lengths in (sentence_lengths(rows), [row % 3 for row in range(rows)], [5] * rows):
            order = list(sampler(lengths, batch_size, seed, epoch))
            assert order == order_in_lists(lengths, batch_size, seed, epoch)
            assert all(type(index) is int for index in order)


def test_order_of_many_rows():
    lengths = sentence_lengths(150_001)
    assert list(sampler(lengths, 8, 3, 1)) == order_in_lists(lengths, 8, 3, 1)


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float64"])
def test_order_is_the_same_for_lengths_of_any_type(dtype):
    lengths = sentence_lengths(900)
    assert list(sampler(np.array(lengths, dtype))) == order_in_lists(lengths, BATCH, 42, 0)


def test_the_order_of_an_epoch_is_no_python_list():
    """8 bytes a row for lists of pointers alone, and 28 for their integers."""
    lengths = np.full(400_000, 9, np.int32)
    tracemalloc.start()
    order = iter(sampler(lengths))
    assert next(order) >= 0
    assert tracemalloc.get_traced_memory()[1] < 16 * len(lengths)
    tracemalloc.stop()


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
    assert example_lengths(change(tokenized)).tolist() == expected


def test_lengths_follow_a_shuffle(tokenized):
    shuffled = tokenized.shuffle(seed=3)
    assert shuffled["labels"] != tokenized["labels"]
    assert example_lengths(shuffled).tolist() == [LENGTHS[label] for label in shuffled["labels"]]


@pytest.fixture
def on_disk(tmp_path) -> datasets.Dataset:
    """3,000 rows of 0 to 12 tokens in chunks of 1,000, of which every 100th row is null, mapped into memory."""
    rows = [{"input_ids": None if row % 100 == 7 else list(range(row * 7 % 13)), "row": row} for row in range(3000)]
    features = datasets.Features({"input_ids": datasets.List(datasets.Value("int32")), "row": datasets.Value("int64")})
    datasets.Dataset.from_list(rows, features=features).save_to_disk(tmp_path)
    return datasets.load_from_disk(tmp_path)


def lengths_one_by_one(rows):
    return [len(tokens or ()) for tokens in rows["input_ids"]]


CHANGES = {
    "shuffled": lambda rows: rows.shuffle(seed=3),
    "split": lambda rows: rows.train_test_split(0.2, seed=1)["train"],
    "repeated": lambda rows: rows.select([*range(2000, 100, -1), *range(500)]),
    "filtered and shuffled": lambda rows: rows.filter(lambda row: row["row"] % 3 > 0).shuffle(seed=2),
    "slice of shuffled": lambda rows: rows.shuffle(seed=3).select(range(5, 2800)),
    "concatenated": lambda rows: datasets.concatenate_datasets([rows, rows.shuffle(seed=1).select(range(900))]),
    "concatenated and shuffled": lambda rows: datasets.concatenate_datasets([rows, rows]).shuffle(seed=4),
    "formatted": lambda rows: rows.shuffle(seed=3).with_format("torch"),
    "few rows": lambda rows: rows.shuffle(seed=3).select(range(60)),
    "in memory": lambda rows: datasets.Dataset.from_dict(rows[:]).shuffle(seed=3),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_lengths_are_those_of_the_rows_in_any_order(on_disk, change):
    rows = change(on_disk)
    assert example_lengths(rows).tolist() == lengths_one_by_one(rows.with_format(None))


@pytest.mark.parametrize("name", [name for name in CHANGES if name != "few rows"])
def test_no_row_is_gathered_to_read_its_length(on_disk, name, monkeypatch):
    rows = CHANGES[name](on_disk)

    def gathered(*args):
        raise AssertionError("rows were gathered one by one")

    monkeypatch.setattr(datasets.table.IndexedTableMixin, "fast_gather", gathered)
    assert len(example_lengths(rows)) == len(rows)
    with pytest.raises(AssertionError, match="one by one"):
        rows.shuffle(seed=0)[:]


def test_a_few_rows_are_read_without_all_that_are_stored(on_disk):
    stored = StoredRows.of(CHANGES["few rows"](on_disk))
    assert len(stored.rows) == 60 and stored.places is None


@pytest.mark.parametrize(
    "feature", [datasets.List(datasets.Value("int32"), length=4), datasets.LargeList(datasets.Value("int64"))]
)
def test_lengths_of_other_kinds_of_lists(feature):
    features = datasets.Features({"input_ids": feature})
    dataset = datasets.Dataset.from_dict({"input_ids": [[1, 2, 3, 4], [5, 6, 7, 8]]}, features=features)
    assert example_lengths(dataset).tolist() == [4, 4]


@pytest.mark.parametrize("format_type", [None, "torch", "numpy"])
@pytest.mark.parametrize("column", ["length", "words"])
def test_a_column_of_lengths_is_believed(tokenized, column, format_type):
    dataset = tokenized.add_column(column, [30, 10, 0, 20, 40]).with_format(format_type)
    assert example_lengths(dataset.select([4, 1]), column).tolist() == [40, 10]


def test_a_column_of_lengths_needs_no_tokens():
    dataset = datasets.Dataset.from_dict({"length": [3, 1], "text": ["a b c", "a"]})
    assert example_lengths(dataset).tolist() == [3, 1]


def test_a_column_that_holds_no_numbers_is_no_column_of_lengths(tokenized):
    dataset = tokenized.add_column("length", ["long", "short", "none", "short", "long"])
    assert example_lengths(dataset).tolist() == LENGTHS


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
    assert (order.batch_size, order.seed, order.epoch()) == (2 * 4, seed, 3)
    assert order.lengths.tolist() == LENGTHS


def test_sampler_reads_the_column_the_arguments_name(tokenized, arguments):
    dataset = tokenized.add_column("words", [30, 10, 0, 20, 40])
    order = length_bucket_sampler(dataset, arguments(length_column_name="words"), batch_size=2, epoch=lambda: 0)
    assert order.lengths.tolist() == [30, 10, 0, 20, 40]


@pytest.mark.parametrize(
    "change",
    [lambda rows: rows.remove_columns("input_ids"), lambda rows: rows.to_list(), lambda rows: rows.select([])],
    ids=["no tokens", "list", "empty"],
)
def test_no_sampler_without_lengths(tokenized, arguments, change):
    assert length_bucket_sampler(change(tokenized), arguments(), batch_size=2, epoch=lambda: 0) is None

"""Columns are read in the order in which they are stored, and values are still those of each row."""

import datasets
import numpy as np
import pytest

from hf_distill.data.arrow_columns import StoredRows, lists_of_numbers

ROWS = 2000
ORDERS = {
    "stored": lambda rows: rows,
    "shuffled": lambda rows: rows.shuffle(seed=1),
    "half": lambda rows: rows.select(range(0, ROWS, 2)),
    "repeated": lambda rows: rows.select([*range(ROWS - 1, 50, -1), 60, 60]),
    "few": lambda rows: rows.shuffle(seed=1).select(range(20)),
    "none": lambda rows: rows.select([]),
    "concatenated": lambda rows: datasets.concatenate_datasets([rows, rows.shuffle(seed=2)]).shuffle(seed=3),
}


@pytest.fixture(scope="module")
def on_disk(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    rows = {"number": range(ROWS), "tokens": [[row, row % 7] for row in range(ROWS)], "text": ["x"] * ROWS}
    datasets.Dataset.from_dict(rows).save_to_disk(folder, num_shards=3)
    return datasets.load_from_disk(folder)


@pytest.fixture(params=ORDERS.values(), ids=ORDERS)
def rows(request, on_disk):
    return request.param(on_disk)


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr("hf_distill.data.arrow_columns._ROWS_AT_A_TIME", 300)


def test_values_are_those_of_each_row(rows, small_blocks):
    assert StoredRows.of(rows).values("number", lambda numbers: numbers).tolist() == rows["number"][:]


def test_every_stored_row_is_read_once(rows, small_blocks):
    stored, places_read, numbers = StoredRows.of(rows), [], np.array(rows["number"][:])
    for places, table in stored.blocks(["tokens", "number"]):
        found = table["number"].to_pylist()
        assert table.column_names == ["tokens", "number"] and len(places) == len(table) <= 300
        assert [row[0] for row in table["tokens"].to_pylist()] == found
        assert set(numbers[stored.numbers(places)]) == set(found)
        places_read += places.tolist()
    assert places_read == sorted(set(places_read))
    assert sorted(stored.numbers(np.array(places_read, int))) == list(range(len(rows)))


def test_a_row_of_a_block_has_a_number_in_the_data_set(rows, small_blocks):
    numbers, found = rows["number"][:], []
    for number_of, tokens in lists_of_numbers(rows, "tokens"):
        for index in (0, len(tokens) - 1):
            found.append(number_of(index))
            assert numbers[found[-1]] == tokens[index].as_py()[0]
    assert bool(found) == bool(len(rows)) and all(type(each) is int for each in found)


def test_long_rows_are_read_in_small_blocks():
    rows = datasets.Dataset.from_dict({"tokens": [[7] * 50_000] * 100})
    sizes = [len(places) for places, _ in StoredRows.of(rows).blocks(["tokens"])]
    assert sum(sizes) == 100 and max(sizes) * 50_000 * 8 <= 1 << 24


def test_rows_in_memory_are_not_hashed(monkeypatch):
    rows = datasets.Dataset.from_dict({"number": range(100)}).shuffle(seed=1)

    def hashed(dataset):
        raise AssertionError("all rows are hashed for a fingerprint")

    monkeypatch.setattr("datasets.arrow_dataset.generate_fingerprint", hashed)
    assert sorted(StoredRows.of(rows).values("number", lambda numbers: numbers)) == list(range(100))

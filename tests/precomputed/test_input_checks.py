"""Rows are matched with what a teacher read where they are stored, whatever their order."""

import datasets
import numpy as np
import pytest

from hf_distill import label_transfer_set
from hf_distill.precomputed.input_checks import _others
from hf_distill.precomputed.input_fingerprints import stored_token_fingerprints
from hf_distill.precomputed.provenance import TOKENS_READ
from tests.tiny_models import encoded_sentences, tiny_bert, tiny_tokenizer

COLUMN = "teacher_provenance"
ORDERS = {
    "stored": lambda rows: rows,
    "shuffled": lambda rows: rows.shuffle(seed=1),
    "selected": lambda rows: rows.select(range(0, 200, 2)),
    "repeated": lambda rows: rows.select([*range(199, 20, -1), *range(60)]),
    "few": lambda rows: rows.shuffle(seed=1).select(range(5)),
    "split": lambda rows: rows.train_test_split(0.3, seed=2)["test"],
    "concatenated": lambda rows: datasets.concatenate_datasets([rows, rows.shuffle(seed=2)]),
    "formatted": lambda rows: rows.shuffle(seed=1).with_format("torch"),
    "flattened": lambda rows: rows.shuffle(seed=1).flatten_indices(),
}


@pytest.fixture(scope="module")
def labeled():
    """200 rows, of which every 9th has other tokens than the teacher read, and some are longer."""
    rows = label_transfer_set(encoded_sentences(200), tiny_bert(), tiny_tokenizer(), disable_tqdm=True, batch_size=50)

    def changed(row, number):
        tokens = row["input_ids"][::-1] if number % 9 == 4 else row["input_ids"]
        return {"input_ids": tokens, "attention_mask": [1] * len(tokens)}

    return rows.map(changed, with_indices=True)


def others_one_by_one(rows):
    """The same, each row read and hashed by itself."""
    found = []
    for number, row in enumerate(rows.with_format("arrow").iter(batch_size=1)):
        read = row[COLUMN][0].as_py()[TOKENS_READ]
        if stored_token_fingerprints(row)[0] != read:
            found.append(number)
    return found


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_rows_with_other_tokens_are_found_in_any_order(labeled, order):
    rows = order(labeled)
    found = _others(rows, COLUMN)
    assert found.dtype == np.int64 and found.tolist() == others_one_by_one(rows)
    assert 0 < len(found) < len(rows) or len(rows) == 5


def test_a_shuffled_row_is_not_gathered_to_be_hashed(labeled, monkeypatch):
    rows = labeled.shuffle(seed=1)
    monkeypatch.delattr(datasets.table.IndexedTableMixin, "fast_gather")
    assert len(_others(rows, COLUMN)) == len(_others(labeled, COLUMN))

"""A validation split is held out where the data have none, and the labeled split is found."""

from __future__ import annotations

import datasets
import pytest

from hf_distill.scripts.splits import is_labeled, labeled_split, training_splits
from hf_distill.tasks import Task


def test_the_same_seed_holds_out_the_same_rows():
    rows = datasets.Dataset.from_dict({"text": [str(row) for row in range(30_000)]})
    held_out = [training_splits({"corpus": rows}, seed)[0]["validation"]["text"][:] for seed in (1, 1, 2)]
    assert held_out[0] == held_out[1] != held_out[2] and len(held_out[0]) == 1000
    splits = {"train": rows, "test": rows.select(range(3))}
    assert training_splits(splits, 1) == (splits, None)
    with pytest.raises(ValueError, match=r"several splits needs one called train, got \['test', 'validation'\]"):
        training_splits({"validation": rows, "test": rows}, 1)


def test_the_labeled_split_is_test_or_else_validation():
    labeled = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [None, 1]})
    unlabeled = datasets.Dataset.from_dict({"text": ["a"], "label": [None]})
    task = Task.SEQUENCE_CLASSIFICATION
    assert is_labeled(labeled, task) and not is_labeled(unlabeled, task)
    assert labeled_split({"train": labeled, "validation": labeled, "test": labeled}, task) == "test"
    assert labeled_split({"train": labeled, "validation": labeled, "test": unlabeled}, task) == "validation"
    assert labeled_split({"train": labeled, "test": unlabeled}, task) is None
    assert not is_labeled(labeled, Task.QUESTION_ANSWERING)


def test_texts_without_labels_are_enough_for_sentence_encoders():
    rows = datasets.Dataset.from_dict({"text": ["a", "b", "c"], "number": [1, 2, 3]})
    assert is_labeled(rows, Task.SENTENCE_EMBEDDING) and not is_labeled(rows, Task.SEQUENCE_CLASSIFICATION)
    assert not is_labeled(rows.select(range(2)), Task.SENTENCE_EMBEDDING)
    assert not is_labeled(rows.select_columns("number"), Task.SENTENCE_EMBEDDING)

"""Data sets by name: built-in ones of the kind that a script takes, and what is read of them."""

import json

import pytest
from datasets import Dataset

from hf_distill.resources import built_in
from hf_distill.resources.built_in import TEXTS, WORDS
from hf_distill.scripts.datasets import load_evaluation_rows, load_named_splits, load_splits, load_unlabeled_rows


@pytest.fixture
def wordnet(monkeypatch):
    splits = {split: Dataset.from_list([{"text": split, "label": 0}]) for split in ("train", "validation", "test")}
    monkeypatch.setattr(built_in, "load_wordnet", lambda: splits)
    return splits


def test_a_built_in_set_of_another_kind_is_refused_before_the_hub_is_asked(wordnet):
    assert load_named_splits("wordnet", TEXTS) == wordnet == load_splits("wordnet")
    with pytest.raises(ValueError, match=r"must be one of the built-in \['brown'\] here, .*got 'wordnet'"):
        load_named_splits("wordnet", WORDS)


def test_training_rows_are_labeled_and_the_others_evaluated_on(wordnet, tmp_path):
    assert load_unlabeled_rows("wordnet", streaming=True)["text"][:] == ["train"]
    assert [rows["text"][:] for rows in load_evaluation_rows("wordnet")] == [["validation"], ["test"]]
    (tmp_path / "a.txt").write_text("a film\n")
    (own,) = load_evaluation_rows(str(tmp_path / "a.txt"))
    assert own["text"][:] == load_unlabeled_rows(str(tmp_path / "a.txt"))["text"][:] == ["a film"]


def test_a_folder_of_squads_files_is_read_as_splits(tmp_path):
    row = {"id": "1", "title": "", "question": "w5?", "context": "w6 w7", "answers": {"text": [], "answer_start": []}}
    for name, rows in {"train-v2.0": 3, "dev-v2.0": 2, "test": 1}.items():
        (tmp_path / f"{name}.json").write_text(json.dumps({"version": "v2.0", "data": [row] * rows}))
    found = load_splits(str(tmp_path))
    assert {split: len(rows) for split, rows in found.items()} == {"train": 3, "validation": 2, "test": 1}
    assert found["test"][0]["question"] == "w5?"

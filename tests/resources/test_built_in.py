"""The built-in data sets: every name loads, rows for training and labeling hold none that is evaluated on, docs list all."""

import re
from pathlib import Path

import pytest
from datasets import Dataset, DatasetDict

from hf_distill.resources import built_in
from hf_distill.resources.built_in import LABELED, UNLABELED_TEXTS, WORDS, load_labeled, load_unlabeled
from hf_distill.resources.sentiment import DOMAINS

ROOT = Path(__file__).parents[2]


@pytest.fixture
def loaders(monkeypatch):
    """Loaders that return a row, which says what it was loaded by."""

    def rows(text):
        return Dataset.from_list([{"text": text, "label": 0, "examples": ["x"]}])

    def splits(text):
        return DatasetDict({split: rows(f"{text} {split}") for split in ("train", "validation", "test")})

    monkeypatch.setattr(built_in, "load_sentiment", splits)
    monkeypatch.setattr(built_in, "load_transfer_set", lambda names: rows("+".join(names)))
    for name in ("wordnet", "brown", "digits_dataset"):
        monkeypatch.setattr(built_in, f"load_{name}", lambda name=name: splits(name))
    for name in ("prose", "large_prose"):
        monkeypatch.setattr(built_in, f"load_{name}", lambda name=name: rows(name))


def test_every_name_loads_its_own_set(loaders):
    found = {name: load_labeled(name)["test"][0]["text"] for name in LABELED}
    assert found == {name: f"{name} test" for name in (*DOMAINS, "wordnet", "brown")} | {
        "digits": "digits_dataset test"
    }
    found = {name: load_unlabeled(name)[0]["text"] for name in (*UNLABELED_TEXTS, *WORDS)}
    assert found == {name: name for name in (*DOMAINS, "prose", "large_prose")} | {
        "icwsm2014": "+".join(DOMAINS), "wordnet": "wordnet train", "brown": "brown train",
    }  # fmt: skip
    assert load_unlabeled("wordnet").column_names == ["text", "label"]


def test_docs_and_help_name_the_sets_that_there_are():
    page = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")
    table = page.partition("| built-in set |")[2].partition("\n\n")[0]
    listed = re.findall(r"`(\w+)`", "".join(line.split("|")[1] for line in table.splitlines()[2:]))
    assert sorted(listed) == sorted({*LABELED, *UNLABELED_TEXTS})
    options = (ROOT / "hf_distill" / "cli" / "options.py").read_text(encoding="utf-8")
    shown = [name for names in re.findall(r"A built-in set \((.*?), \.\.\.\)", options) for name in names.split(", ")]
    assert "brown" in shown and set(shown) <= set(LABELED)


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["wordnet", "brown"])
def test_training_rows_are_not_evaluated_on(name):
    splits, rows = load_labeled(name), load_unlabeled(name)
    column = rows.column_names[0]
    texts = {str(text).lower() for text in rows[column]}
    assert len(rows) == len(splits["train"])
    assert not texts & {str(text).lower() for split in ("validation", "test") for text in splits[split][column]}

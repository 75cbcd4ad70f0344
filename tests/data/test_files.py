"""Data files are read by one rule: only an empty field is missing, and a path is what it says."""

from __future__ import annotations

import json

import datasets
import pytest

from hf_distill.data.files import load_files, load_named, load_texts, require_place, require_texts, with_texts
from hf_distill.data.questions import WindowEncoder
from hf_distill.data.sequences import SequenceEncoder, label_ids
from hf_distill.data.words import WordEncoder, word_label_ids
from tests.tiny_models import tiny_bert, tiny_tokenizer

WORDS = ["None", "NA", "null", "nan", "N/A", "#N/A", "NULL", "<NA>"]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))


def written(path, lines: list[str]):
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def table(folder, name: str = "data.csv") -> str:
    rows = ["None,null,1,1,1.5,True,1.0", "NA,nan,2,,,,", ',"",3,3,2.5,False,2.0']
    return written(folder / name, ["text,label,number,gaps,score,flag,whole", *rows])


EXPECTED = {
    "text": ["None", "NA", None],
    "label": ["null", "nan", None],
    "number": [1, 2, 3],
    "gaps": [1, None, 3],
    "score": [1.5, None, 2.5],
    "flag": [True, None, False],
    "whole": [1.0, None, 2.0],
}
KINDS = {"number": "int64", "gaps": "int64", "score": "float64", "flag": "bool", "whole": "float64"}


def test_only_an_empty_field_is_missing_and_numbers_stay_what_they_are(tmp_path):
    rows = load_files({"train": table(tmp_path)})["train"]
    assert rows[:] == EXPECTED
    assert {name: rows.features[name].dtype for name in KINDS} == KINDS
    assert list(load_texts(table(tmp_path), streaming=True)["text"]) == EXPECTED["text"]


@pytest.mark.parametrize("name", ["reviews[1].csv", "re*views?.csv", "{a,b}.csv", "__odd.csv"])
def test_a_path_is_no_pattern(tmp_path, name):
    table(tmp_path / "[x] *")  # such as a pattern would find
    path = table(tmp_path / "[x] *", name)
    assert load_files({"train": path})["train"]["text"][:] == EXPECTED["text"]
    assert load_texts(path)["text"][:] == EXPECTED["text"]


@pytest.mark.parametrize("kind", ["json", "jsonl", "csv", "txt", "parquet"])
def test_words_are_words_in_files_of_all_kinds(tmp_path, kind):
    path = tmp_path / f"data.{kind}"
    if kind == "parquet":
        datasets.Dataset.from_dict({"text": WORDS}).to_parquet(path)
    elif kind == "json":
        written(path, [json.dumps([{"text": word} for word in WORDS])])
    else:
        wrap = (lambda word: json.dumps({"text": word})) if kind == "jsonl" else str
        written(path, [*(["text"] if kind == "csv" else []), *map(wrap, WORDS)])
    for rows in (load_files({"all": str(path)})["all"], load_texts(str(path))):
        assert rows["text"][:] == WORDS


def test_null_is_missing_in_json(tmp_path):
    path = written(tmp_path / "data.jsonl", ['{"text": "a", "label": 2}', '{"text": null, "label": null}'])
    assert load_texts(path)[:] == {"text": ["a", None], "label": [2, None]}


def test_tables_of_a_folder_are_read_by_the_same_rule(tmp_path):
    folder = tmp_path / "data"
    table(folder, "train.csv"), table(folder, "test.csv")
    splits = load_named(str(folder))
    assert set(splits) == {"train", "test"}
    assert splits["train"][:] == splits["test"][:] == EXPECTED
    assert load_named(str(folder), split="test")[:] == EXPECTED
    assert load_texts(str(folder))[:] == {name: values * 2 for name, values in EXPECTED.items()}


def test_a_folder_of_other_files_is_read_as_ever(tmp_path):
    written(tmp_path / "data" / "train.jsonl", ['{"text": "None"}', '{"text": null}'])
    assert load_named(str(tmp_path / "data"))["train"]["text"][:] == ["None", None]
    assert list(load_named(str(tmp_path / "data"), split="train", streaming=True)["text"]) == ["None", None]


def test_one_type_is_found_for_all_rows_of_a_long_table(tmp_path):
    path = written(tmp_path / "data.csv", ["text,label", *["w,"] * 15_000, *["w,1"] * 10_000])
    labels = load_texts(path)["label"]
    assert (labels[0], labels[20_000]) == (None, 1)


def test_a_file_that_is_not_there_is_not_looked_for_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table(tmp_path, "reviews.csv")
    for wrong in ("reviws.csv", "./reviws.csv", str(tmp_path / "reviws.csv")):
        with pytest.raises(
            FileNotFoundError, match=r"there is no file or folder .*reviws\.csv'; similar are .*reviews"
        ):
            load_texts(wrong)
    with pytest.raises(FileNotFoundError, match=r"'away/reviews\.csv': there is no folder 'away'"):
        load_named("away/reviews.csv")
    with pytest.raises(FileNotFoundError, match=r"there is no file or folder 'a/b/c'"):
        require_place("a/b/c")
    for name in ("imdb", "nyu-mll/glue", "alice/set-v1.5", "reviews.csv", "./reviews.csv"):
        require_place(name)


def test_rows_without_a_text_are_named_and_empty_texts_are_texts():
    rows = datasets.Dataset.from_dict({"text": ["w4", "", None, "w5", None], "other": ["w4"] * 5})
    message = r"nothing in the column 'text', counted from 1: 3, 5\. "
    with pytest.raises(ValueError, match=message):
        require_texts(rows, ["other", "text"])
    with pytest.raises(ValueError, match=message):
        SequenceEncoder(tiny_tokenizer(), label_ids(tiny_bert().config))(rows, ["text", "other"])
    with pytest.raises(ValueError, match=message):
        list(with_texts(rows.to_iterable_dataset(), ["text"]))
    require_texts(rows.select([3, 1, 0]), ["text"])
    assert list(with_texts(rows.select([1, 3]).to_iterable_dataset(), ["text"])) == [rows[1], rows[3]]
    many = datasets.Dataset.from_dict({"text": [None, "w4"] * 6_000})
    with pytest.raises(ValueError, match=r"1, 3, 5, .*, 19 and 5990 more\."):
        require_texts(many, ["text"])


def test_words_and_questions_cannot_be_missing_either():
    words = datasets.Dataset.from_dict({"tokens": [["w4"], None], "tags": [[0], [0]]})
    with pytest.raises(ValueError, match="column 'tokens', counted from 1: 2"):
        WordEncoder(tiny_tokenizer(), word_label_ids(tiny_bert().config))(words, "tokens", "tags")
    questions = datasets.Dataset.from_dict({"question": [None, "w4"], "context": ["w4", "w5"]})
    with pytest.raises(ValueError, match="column 'question', counted from 1: 1"):
        WindowEncoder.fitting(tiny_tokenizer())(questions, for_training=False)

"""`hf-distill evaluate` compares folders on files, and keeps what it found where it is asked to."""

from __future__ import annotations

import csv
import json

import pytest

from hf_distill.publishing.run_record import RunRecord
from tests.cli.commands import invoke, invoke_json
from tests.publishing.test_run_record import MODEL, record
from tests.tiny_models import tiny_bert, tiny_tokenizer

NAMES = {"id2label": {0: "cold", 1: "warm"}, "label2id": {"cold": 0, "warm": 1}}
QUICK = ["--runs", "1", "--batch-sizes", "1", "--lengths", "8"]


@pytest.fixture
def folders(tmp_path):
    for seed, name in enumerate(("teacher", "one", "two")):
        tiny_bert(32, 2, seed=seed, **NAMES).save_pretrained(tmp_path / name)
        tiny_tokenizer().save_pretrained(tmp_path / name)
    record(teacher=MODEL).save(tmp_path / "one")
    return tmp_path


@pytest.fixture
def data(tmp_path):
    with open(tmp_path / "reviews.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["says", "verdict"])
        writer.writerows([[f"w{row % 90 + 4} w{row * 7 % 90 + 4}", ["cold", "warm"][row % 2]] for row in range(30)])
    return ["--dataset", tmp_path / "reviews.csv", "--text-column", "says", "--label-column", "verdict"]


def test_json_table_plot_and_cards(folders, data):
    places = [folders / "one", folders / "two", "--teacher", folders / "teacher"]
    found = invoke_json("evaluate", *places, *data, *QUICK)
    assert [(row["name"], row["role"]) for row in found["rows"]] == [
        ("teacher", "teacher"), ("one", "distilled"), ("two", "other"),
    ]  # fmt: skip
    assert found["data"] | {"fingerprint": ""} == {
        "name": "reviews", "split": "reviews", "examples": 30, "fingerprint": "",
    }  # fmt: skip
    output = invoke("evaluate", *places, *data, *QUICK, "--output-dir", folders / "out", "--write-cards").output
    assert "distilled" in output and "two has no run.json: no card" in output.replace("\n", "")
    again = json.loads((folders / "out" / "evaluation.json").read_text())
    assert [row["metrics"] for row in again["rows"]] == [row["metrics"] for row in found["rows"]]
    assert (folders / "out" / "evaluation.png").stat().st_size > 10_000
    assert RunRecord.load(folders / "one").evaluation["this"] == 1
    assert "**one** (this model)" in (folders / "one" / "README.md").read_text()
    assert not (folders / "two" / "README.md").exists()


def test_without_a_teacher_or_latency(folders, data):
    found = invoke_json("evaluate", folders / "one", *data, "--no-latency", "--max-examples", "11")
    assert found["data"]["examples"] == 11 and "latency" not in found["rows"][0] and "fidelity" not in found["rows"][0]
    assert "ms" not in invoke("evaluate", folders / "one", *data, "--no-latency").output.split("accuracy")[0]


def test_folders_of_one_name_are_told_apart(folders, data):
    (folders / "other").mkdir()
    (folders / "one").rename(folders / "other" / "two")
    found = invoke_json("evaluate", folders / "two", folders / "other" / "two", *data, "--no-latency")
    assert [row["name"] for row in found["rows"]] == [f"{folders.name}/two", "other/two"]


def test_the_second_of_two_columns_is_read_whatever_the_first_is_called(folders, tmp_path):
    rows = [[f"w{row % 90 + 4}", f"w{row * 7 % 90 + 4}", ["cold", "warm"][row % 2]] for row in range(30)]
    with open(tmp_path / "pairs.csv", "w", newline="") as file:
        csv.writer(file).writerows([["text", "reply", "label"], *rows])
    asked = ["evaluate", folders / "one", "--dataset", tmp_path / "pairs.csv", "--no-latency", "--text-column", "text"]
    alone, paired = (invoke_json(*asked, *more)["rows"][0]["metrics"] for more in ([], ["--text-column", "reply"]))
    assert alone != paired


def test_options_may_be_written_with_underscores(folders, data):
    written = [str(word).replace("-column", "_column") for word in data]
    assert "accuracy" in invoke_json("evaluate", folders / "one", *written, "--no_latency")["rows"][0]["metrics"]

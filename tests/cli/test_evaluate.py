"""`hf-distill evaluate` compares folders on files, and saves the results on request."""

from __future__ import annotations

import csv
import json
import re

import pytest
import torch
from datasets import Dataset, DatasetDict
from transformers import AutoModelForSequenceClassification
from typer.testing import CliRunner

from hf_distill.cli.main import app
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
        "name": "reviews", "split": "reviews", "examples": 30, "scored": 30, "fingerprint": "",
    }  # fmt: skip
    output = invoke("evaluate", *places, *data, *QUICK, "--output-dir", folders / "out", "--write-cards").output
    assert "distilled" in output and "two has no run.json: no card" in output.replace("\n", "")
    again = json.loads((folders / "out" / "evaluation.json").read_text())
    assert [row["metrics"] for row in again["rows"]] == [row["metrics"] for row in found["rows"]]
    assert (folders / "out" / "evaluation.png").stat().st_size > 10_000
    assert RunRecord.load(folders / "one").evaluation["this"] == 1
    assert "**one** (this model)" in (folders / "one" / "README.md").read_text()
    assert not (folders / "two" / "README.md").exists()


def test_several_formats_have_a_table_of_their_own(folders, data):
    formats = (*QUICK, "--formats", "fp32,int8")
    output = invoke("evaluate", folders / "one", "--teacher", folders / "teacher", *data, *formats).output
    models, by_format = output.split("accuracy")[:2], output.split("format")[1]
    assert "format" not in models[0] and all(name in by_format for name in ("fp32", "int8", "MB"))


@pytest.mark.parametrize("width", [80, 160])
def test_no_name_and_no_number_is_broken_in_a_terminal(folders, data, width):
    name = "multilingual-e5-small-movie-reviews"
    (folders / "one").rename(folders / name)
    places = [folders / name, "--teacher", folders / "teacher", *data, "--max-examples", "20"]
    command = ["evaluate", *places, *QUICK, "--formats", "fp32,int8"]
    result = CliRunner().invoke(app, list(map(str, command)), env={"COLUMNS": str(width)})
    lines = result.stdout.splitlines()
    assert result.exit_code == 0 and max(map(len, lines)) <= width
    named, *others = (index for index, line in enumerate(lines) if name in line)
    assert re.search(r"[+-]\d+\.\d \([+-]\d+\.\d to [+-]\d+\.\d\) ", " ".join(lines[named : named + 2]))
    by_format = " ".join(lines[others[0] : others[0] + 3])
    assert "fp32" in by_format and "int8" in by_format
    assert ("not shown for want of width" in " ".join(result.stdout.split())) is (width == 80)


def test_without_a_teacher_or_latency(folders, data):
    found = invoke_json("evaluate", folders / "one", *data, "--no-latency", "--max-examples", "11")
    assert found["data"]["examples"] == 11 and "latency" not in found["rows"][0] and "fidelity" not in found["rows"][0]
    assert "ms" not in invoke("evaluate", folders / "one", *data, "--no-latency").output.split("accuracy")[0]


def test_folders_of_one_name_are_told_apart(folders, data):
    (folders / "other").mkdir()
    (folders / "one").rename(folders / "other" / "two")
    found = invoke_json("evaluate", folders / "two", folders / "other" / "two", *data, "--no-latency")
    assert [row["name"] for row in found["rows"]] == [f"{folders.name}/two", "other/two"]


def test_words_that_look_missing_are_labels_and_empty_fields_are_not_scored(folders):
    names = ["None", "against", "NA"]
    labels = {"id2label": dict(enumerate(names)), "label2id": {name: index for index, name in enumerate(names)}}
    model = tiny_bert(32, 2, seed=4, **labels)
    model.save_pretrained(folders / "one")
    texts = [f"w{row % 90 + 4} w{row * 7 % 90 + 4}" for row in range(30)]
    with torch.no_grad():
        answers = [names[model(**tiny_tokenizer()(text, return_tensors="pt")).logits.argmax()] for text in texts]
    assert set(answers) == set(names)
    answers[::5] = [""] * 6
    path = folders / "stance[1].csv"
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *zip(texts, answers, strict=True)])
    found = invoke_json("evaluate", folders / "one", "--dataset", path, "--no-latency")
    assert found["rows"][0]["metrics"]["accuracy"] == 1
    assert (found["data"]["examples"], found["data"]["scored"]) == (30, 24)
    shown = invoke("evaluate", folders / "one", "--dataset", path, "--no-latency").output
    assert "24 examples with a label, of 30" in shown


def test_rows_without_a_text_have_the_numbers_of_the_file_also_in_a_sample(folders):
    path = folders / "gaps.csv"
    path.write_text("says,label\n" + "w5,cold\n" * 20 + ",warm\n" + "w6,warm\n" * 20)
    sample = ["--text-column", "says", "--max-examples", "40", "--no-latency"]
    output = invoke("evaluate", folders / "one", "--dataset", path, *sample, exit_code=1).output
    assert "nothing in the column 'says', counted from 1: 21. " in output


def test_a_file_that_is_not_there_is_named_with_those_like_it(folders, data):
    wrong = folders / "revews.csv"
    output = invoke("evaluate", folders / "one", "--dataset", wrong, "--no-latency", exit_code=1).output
    assert f"there is no file or folder '{wrong}'; similar are ['{folders / 'reviews.csv'}']" in output


def test_an_empty_file_is_refused(folders):
    (folders / "none.csv").write_text("text,label\n")
    result = invoke("evaluate", folders / "one", "--dataset", folders / "none.csv", exit_code=1)
    assert "none.csv holds 0 rows; at least 1 is needed" in result.output


def test_adapters_are_evaluated_label_and_teach(folders, data):
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query"], init_lora_weights=False)
    base = AutoModelForSequenceClassification.from_pretrained(folders / "teacher")
    peft.get_peft_model(base, config).save_pretrained(folders / "adapter")
    found = invoke_json("evaluate", folders / "one", "--teacher", folders / "adapter", *data, "--no-latency")
    assert found["rows"][1]["fidelity"]["teacher_agreement"] <= 1
    placed = ["--teacher", folders / "adapter", "--output-dir", folders / "labeled", "--text-columns", "says"]
    assert invoke_json("label", data[1], *placed)["teacher"]["name"] == "adapter"
    quick = ["--max_steps", "1", "--use_cpu", "--report_to", "none", "--disable_tqdm", "true", "--bf16", "false"]
    given = ["--student", "1/32", "--output-dir", folders / "student", *quick]
    assert invoke_json("train", folders / "adapter", *given, *data)["teacher"]["name"] == "adapter"


def test_the_second_of_two_columns_is_read_whatever_the_first_is_called(folders, tmp_path):
    rows = [[f"w{row % 90 + 4}", f"w{row * 7 % 90 + 4}", ["cold", "warm"][row % 2]] for row in range(30)]
    with open(tmp_path / "pairs.csv", "w", newline="") as file:
        csv.writer(file).writerows([["text", "reply", "label"], *rows])
    command = [
        "evaluate",
        folders / "one",
        "--dataset",
        tmp_path / "pairs.csv",
        "--no-latency",
        "--text-column",
        "text",
    ]
    alone, paired = (invoke_json(*command, *more)["rows"][0]["metrics"] for more in ([], ["--text-column", "reply"]))
    assert alone != paired


def test_options_may_be_written_with_underscores(folders, data):
    written = [str(word).replace("-column", "_column") for word in data]
    assert "accuracy" in invoke_json("evaluate", folders / "one", *written, "--no_latency")["rows"][0]["metrics"]


def test_a_cascade_is_fitted_on_one_split_and_reported_on_another(folders):
    def rows(start, count):
        texts = [f"w{row % 90 + 4} w{row * 7 % 90 + 4}" for row in range(start, start + count)]
        return Dataset.from_dict({"text": texts, "label": [["cold", "warm"][row % 2] for row in range(count)]})

    DatasetDict(test=rows(0, 30), validation=rows(30, 40)).save_to_disk(folders / "data")
    places = [folders / "one", folders / "two", "--teacher", folders / "teacher", "--dataset", folders / "data"]
    found = invoke_json("evaluate", *places, *QUICK, "--cascade", "5", "--write-cards")
    teacher, *students = found["rows"]
    assert "cascade" not in teacher
    for row in students:
        cascade = row["cascade"]
        assert cascade["margin"] == 0.05 and cascade["fitted_on"] == "validation"
        assert cascade["accuracy"] == pytest.approx(teacher["metrics"]["accuracy"] + cascade["difference"])
        times = teacher["latency"][0]["median_ms"], row["latency"][0]["median_ms"]
        assert cascade["mean_ms"] == pytest.approx(times[1] + (1 - cascade["share"]) * times[0])
    assert RunRecord.load(folders / "one").evaluation["rows"][1]["cascade"] == students[0]["cascade"]
    output = invoke("evaluate", *places, *QUICK, "--cascade", "99", "--no-latency").output
    assert "answered by it" in output and "fitted on validation to lose at most 99 points" in output.replace("\n", " ")
    invoke("evaluate", *places, *QUICK, "--cascade", "99", "--write-cards")
    assert "In a cascade this model answers the 100 % of the examples" in (folders / "one" / "README.md").read_text()


def test_cascades_that_cannot_be_are_refused_before_anything_runs(folders, data):
    alone = invoke("evaluate", folders / "one", *data, "--cascade", "1", exit_code=1).output
    assert "the split to fit on must be one of []" in alone
    rows = Dataset.from_dict({"text": ["w5"] * 4, "label": ["cold", "warm"] * 2})
    DatasetDict(test=rows, validation=rows).save_to_disk(folders / "data")
    given = ["--dataset", folders / "data", "--cascade", "1"]
    assert "got no --teacher" in invoke("evaluate", folders / "one", *given, exit_code=1).output
    same = invoke(
        "evaluate", folders / "one", "--teacher", folders / "teacher", *given, "--cascade-split", "test", exit_code=1
    )
    assert "must be one of ['validation']" in same.output

"""`hf-distill label`, as README.md shows it."""

import csv
import json
import re

import pytest
import torch
from datasets import ClassLabel, Dataset, Features, List, Value, load_dataset
from transformers import AutoConfig, AutoTokenizer, BertForTokenClassification
from typer.testing import CliRunner

from hf_distill import DistillationTrainer, load_teacher_outputs
from hf_distill.cli.main import app
from tests.examples.test_run_glue import REVIEWS, save_bert


@pytest.fixture
def given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    with open("reviews.csv", "w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *REVIEWS])
    save_bert(tmp_path / "teacher", 32, 2, seed=1, labels=["negative", "positive"])
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(
        app, ["label", "reviews.csv", "--teacher", "teacher", "--output-dir", "labeled", *arguments]
    )


def test_label_and_train(given, arguments):
    result = run("--dtype", "float16", "--rows-per-shard", "5")
    assert result.exit_code == 0, result.output
    assert f"{len(REVIEWS)} rows with the outputs of teacher in labeled" in result.output
    assert re.search(r"2 files, [\d.e+]+ floating-point operations, [\d.]+ seconds\)", result.output)
    rows = load_teacher_outputs("labeled")
    assert (
        rows["text"][:] == [text for text, _ in REVIEWS] and rows.features["teacher_logits"].feature.dtype == "float16"
    )
    tokenizer = AutoTokenizer.from_pretrained("teacher")
    student = save_bert(given / "student", 16, 1, seed=0, labels=["negative", "positive"])
    from transformers import AutoModelForSequenceClassification

    student = AutoModelForSequenceClassification.from_pretrained(student)
    for dataset in (rows, load_dataset("labeled", split="train", cache_dir=str(given / "cache"))):
        assert next(iter(dataset))["labels"] == ["negative", "positive"].index(REVIEWS[0][1])
        trainer = DistillationTrainer(
            student, arguments(max_steps=2), train_dataset=dataset, processing_class=tokenizer
        )
        trainer.train()
        assert "soft_label_loss" in trainer.state.log_history[0]


def test_the_same_command_again_computes_nothing_and_reports_as_json(given):
    first = run("--json")
    assert first.exit_code == 0, first.output
    found = json.loads(first.stdout)
    assert found["rows"] == len(REVIEWS) and found["teacher"]["name"] == "teacher" and found["bytes"] > 1000
    cost = json.loads((given / "labeled" / "cost.json").read_text())
    assert (found["flops"], found["seconds"]) == (cost["flops"], cost["seconds"]) and min(
        found["flops"], found["seconds"]
    ) > 0
    before = (given / "labeled" / "manifest.json").read_bytes()
    assert json.loads(run("--json").stdout) == found
    assert (given / "labeled" / "manifest.json").read_bytes() == before
    streamed = CliRunner().invoke(
        app, ["label", "reviews.csv", "--teacher", "teacher", "--output-dir", "streamed", "--streaming", "--json"]
    )
    assert json.loads(streamed.stdout)["rows"] == len(REVIEWS)
    outputs = [load_teacher_outputs(folder)["teacher_logits"][:] for folder in ("labeled", "streamed")]
    torch.testing.assert_close(*map(torch.tensor, outputs), rtol=1e-3, atol=1e-3)  # in half precision


@pytest.mark.parametrize(
    ("wrong", "message"),
    [(("--text-columns", "sentence"), r"no columns \['sentence'\], it has"), (("--max-length", "0"), "max.length")],
)
def test_wrong_options(given, wrong, message):
    result = run(*wrong)
    assert result.exit_code == 2
    assert re.search(message, re.sub(r"[│\n]| {2,}", "", result.output)), result.output


def test_words_that_look_missing_are_classes_and_texts(given):
    save_bert(given / "stance", 32, 2, seed=1, labels=["None", "against", "NA"])
    rows = [("null", "None"), ("a warm film", "NA"), ("NA", ""), ("nan", "Against")]
    with open("stance[1].csv", "w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    for more in ([], ["--streaming"]):
        arguments = ["label", "stance[1].csv", "--teacher", "stance", "--output-dir", f"labeled{len(more)}", *more]
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output
        found = load_teacher_outputs(f"labeled{len(more)}")
        assert (found["labels"][:], found["text"][:]) == ([0, 2, -100, 1], ["null", "a warm film", "NA", "nan"])


@pytest.mark.parametrize("more", [[], ["--streaming"]])
def test_rows_without_a_text_are_named(given, more):
    with open("reviews.csv", "w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *REVIEWS[:2], ("", "positive"), *REVIEWS[2:]])
    result = run(*more)
    assert (
        result.exit_code == 1
        and "Error: these rows have nothing in the column 'text', counted from 1: 3" in result.output
    )


def test_a_file_that_is_not_there_is_named(given):
    result = CliRunner().invoke(app, ["label", "review.csv", "--teacher", "teacher", "--output-dir", "labeled"])
    assert result.exit_code == 1
    assert "there is no file or folder 'review.csv'; similar are ['reviews.csv']" in result.output


def test_words_are_labeled_with_their_classes_and_train_a_student(given, monkeypatch):
    """Every word has a label, in a column that stays, and the teacher's outputs are of its tokens."""
    features = Features({"words": List(Value("string")), "tags": List(ClassLabel(names=["X", "NOUN"]))})
    rows = [{"words": text.split(), "tags": [index % 2 for index in range(len(text.split()))]} for text, _ in REVIEWS]
    splits = dict.fromkeys(("train", "validation", "test"), Dataset.from_list(rows, features=features))
    monkeypatch.setattr("hf_distill.resources.built_in.load_brown", lambda: splits)
    named = {"id2label": {0: "NOUN", 1: "X"}, "label2id": {"NOUN": 0, "X": 1}}  # in another order
    config = AutoConfig.from_pretrained("teacher", **named)
    BertForTokenClassification(config).save_pretrained("teacher")
    labeled = ["label", "brown", "--teacher", "teacher", "--output-dir", "labeled", "--text-columns"]
    assert CliRunner().invoke(app, [*labeled, "words"]).exit_code == 0
    found = load_teacher_outputs("labeled")
    assert found["words"][:] == [row["words"] for row in rows] and found["tags"][:] == [row["tags"] for row in rows]
    first = found[0]
    assert first["labels"] == [-100, *(1 - tag for tag in rows[0]["tags"]), -100]
    assert len(first["teacher_logits"]) == len(first["input_ids"]) and len(first["teacher_logits"][0]) == 2
    student = [
        "train",
        "teacher",
        "--student",
        "1/32",
        "--dataset",
        "labeled",
        "--output-dir",
        "student",
        "--max_steps",
    ]
    quick = ["2", "--initialization", "random", "--use_cpu", "true", "--report_to", "none", "--disable_tqdm", "true"]
    result = CliRunner().invoke(app, [*student, *quick])
    assert result.exit_code == 0, result.output
    result = CliRunner().invoke(app, [*labeled, "words,tags"])
    assert result.exit_code == 2 and "words are read from one column" in result.output.replace("\n", " ")

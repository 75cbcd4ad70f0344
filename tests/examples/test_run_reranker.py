"""The reranker script, as a user runs it, in this process, on a few queries with tiny models."""

from __future__ import annotations

import runpy
import sys

import pytest

from hf_distill.scripts.user_errors import TRACEBACK
from tests.examples.test_run_glue import QUIET, REPOSITORY, TEXTS, read_json, save_bert, write_csv, write_jsonl

SCRIPT = str(REPOSITORY / "examples" / "run_reranker.py")
NEGATIVES = [[TEXTS[(row + step) % len(TEXTS)] for step in range(1, 3 + row % 2)] for row in range(len(TEXTS))]
TRAINING = ["--do_train", "--learning_rate", "5e-3", "--per_device_train_batch_size", "8", "--save_strategy", "no"]


def queries(first: int = 0) -> list[dict]:
    """The first words of a text as the query, the text as its document, and two or three others."""
    rows = zip(TEXTS[first:], NEGATIVES[first:], strict=True)
    return [{"query": text[:12], "positive": text, "negatives": others} for text, others in rows]


@pytest.fixture
def run_script(monkeypatch, tmp_path):
    monkeypatch.setenv(TRACEBACK, "1")

    def run(*arguments: str, output: str = "output"):
        monkeypatch.setattr(sys, "argv", [SCRIPT, *arguments, *QUIET, "--output_dir", str(tmp_path / output)])
        runpy.run_path(SCRIPT, run_name="__main__")
        return tmp_path / output

    return run


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {
        "teacher": save_bert(folder / "teacher", 32, 2, seed=1, labels=["relevance"]),
        "student": save_bert(folder / "student", 16, 1, seed=0, labels=["score"]),
    }


@pytest.mark.parametrize("loss", ["margin_mse", "listwise_kl"])
def test_distilled_evaluated_and_predicted(loss, models, run_script, tmp_path):
    files = {name: write_jsonl(tmp_path / f"{name}.jsonl", queries(first)) for name, first in (("all", 0), ("last", 5))}
    output = run_script(
        "--model_name_or_path", models["student"], "--teacher_model_name_or_path", models["teacher"],
        "--train_file", files["all"], "--validation_file", files["last"], "--test_file", files["last"],
        "--soft_label_loss", loss, *TRAINING, "--do_eval", "--do_predict", "--max_predict_queries", "2",
    )  # fmt: skip
    metrics = read_json(output, "all_results.json")
    assert 0 < metrics["eval_mrr"] <= 1 and 0 < metrics["eval_ndcg@10"] <= 1
    assert metrics["train_samples"] == sum(1 + len(row["negatives"]) for row in queries())
    config = read_json(output, "config.json")
    assert (config["id2label"], config["problem_type"]) == ({"0": "relevance"}, "regression")
    record = read_json(output, "run.json")
    assert record["objective"][0] | {"weight": 1.0} == {
        "name": "soft_label", "weight": 1.0, "loss": loss, "temperature": 1.0, "query_column": "query_id"
    }  # fmt: skip
    header, *lines = (output / "predict_results.txt").read_text().splitlines()
    assert header == "index\tquery\tscore"
    assert [line.split("\t")[1] for line in lines] == ["0"] * (1 + len(NEGATIVES[5])) + ["1"] * (1 + len(NEGATIVES[6]))


def test_labels_alone_from_rows_with_ids_that_are_texts(models, run_script, tmp_path):
    rows = [(f"q{row}", text[:12], text, row % 3) for row, text in enumerate(TEXTS)]
    rows += [(f"q{row}", text[:12], TEXTS[row - 1], 0) for row, text in enumerate(TEXTS)]
    file = write_csv(tmp_path / "rows.csv", ["qid", "query", "document", "label"], rows)
    output = run_script(
        "--model_name_or_path", models["student"], "--train_file", file, "--validation_file", file,
        "--query_column", "qid", *TRAINING, "--do_eval", "--max_steps", "2",
    )  # fmt: skip
    assert read_json(output, "all_results.json").keys() >= {"eval_ndcg@10", "eval_mrr", "eval_loss"}


@pytest.mark.parametrize(
    ("columns", "arguments", "message"),
    [
        (["query", "text"], [], r"query, positive and negatives \(a list\), got \['query', 'text'\]"),
        (["query", "document"], ["--do_eval"], "--do_eval needs a column 'label'"),
        (["query", "document"], ["--max_train_queries", "0"], "max_train_queries must be at least 1"),
        (["query", "document"], ["--soft_label_loss", "margin_mse"], "9 queries have one candidate"),
    ],
)
def test_what_is_missing_is_named(columns, arguments, message, models, run_script, tmp_path):
    file = write_csv(tmp_path / "rows.csv", columns, [(text[:12], text) for text in TEXTS])
    with pytest.raises(ValueError, match=message):
        run_script(
            "--model_name_or_path", models["student"], "--teacher_model_name_or_path", models["teacher"],
            "--train_file", file, "--validation_file", file, *TRAINING, *arguments,
        )  # fmt: skip


def test_rows_without_labels_need_a_teacher(run_script, tmp_path):
    file = write_csv(tmp_path / "rows.csv", ["query", "document"], [(text[:12], text) for text in TEXTS])
    with pytest.raises(ValueError, match=r"training without a teacher needs labels, .* the column label, or positive"):
        run_script("--model_name_or_path", "nowhere", "--train_file", file, *TRAINING)

"""The three stages on a few sentences with tiny random models, in this process."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Value
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer, TrainerCallback

from hf_distill.data.files import load_texts
from hf_distill.publishing.run_record import RunRecord
from tests.examples.test_run_glue import QUIET, REVIEWS, TEXTS, save_bert, write_csv

STEPS = ["--pretraining_steps", "4", "--distillation_steps", "4", "--fine_tuning_steps", "30", "--max_seq_length", "12"]
ALL_STAGES = ["pretraining", "distillation", "fine_tuning"]


@pytest.fixture
def run(run_main, tmp_path):
    """Calls main on files of the reviews; the output folder and the arm are the first arguments."""
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for part in ("one", "two"):
        (corpus / f"{part}.txt").write_text("\n".join(TEXTS * 3) + "\n", encoding="utf-8")
    labeled = write_csv(tmp_path / "labeled.csv", ["text", "label"], REVIEWS)
    transfer = write_csv(tmp_path / "transfer.csv", ["text", "label"], [*REVIEWS, ("a film", "wrong")])
    held_out = write_csv(tmp_path / "test.csv", ["text", "label"], [("A  dull FILM", "negative"), REVIEWS[0]])
    teacher = save_bert(tmp_path / "teacher", hidden_size=64, layers=2, seed=1, labels=["negative", "positive"])

    def call(output: str, arm: str, *arguments: str) -> Path:
        places = [
            "--corpus",
            str(corpus),
            "--transfer_set",
            transfer,
            "--train_file",
            labeled,
            "--test_file",
            held_out,
        ]
        command = ["--teacher_model_name_or_path", teacher, "--output_dir", str(tmp_path / output), "--arm", arm]
        run_main(*command, *places, *STEPS, "--student", "1/64", *arguments, *QUIET)
        return tmp_path / output

    return call


def test_three_stages_leave_one_student_one_record_and_one_card(run):
    output = run("all", "PD-F")
    record = RunRecord.load(output)
    assert [stage["name"] for stage in record.stages] == ALL_STAGES
    assert [[term["name"] for term in stage["objective"]] for stage in record.stages] == [
        ["hard_label"], ["soft_label"], ["hard_label"],
    ]  # fmt: skip
    assert [stage["training"]["steps"] for stage in record.stages] == [4, 4, 30]
    # Of ten texts one is evaluated on: it is dropped, and the labels of the others are not read.
    assert record.stages[1]["data"]["evaluation_texts_dropped"] == 1
    assert record.stages[1]["data"]["train_examples"] == len(REVIEWS)
    assert (
        record.teacher["num_hidden_layers"] == 2 and "distilled from **teacher**" in (output / "README.md").read_text()
    )
    assert record.student["name"] == "all" and 0 <= record.metrics["test_accuracy"] <= 1
    card = (output / "README.md").read_text(encoding="utf-8")
    assert "| fine-tuning | hard label | 30 |" in card and "| distillation | soft label | 4 |" in card
    assert "# all\n" in card and "On test.csv:" in card and "Training data: labeled.csv, 9 examples" in card
    assert (
        "First weights: random, before the first stage." in card
        and "no teacher in this stage" in card
        and "precomputed" not in card
    )
    student = AutoModelForSequenceClassification.from_pretrained(output).eval()
    assert student.config.id2label == {0: "negative", 1: "positive"} and student.config.num_hidden_layers == 1
    inputs = AutoTokenizer.from_pretrained(output)(["a warm film"], return_tensors="pt")
    assert torch.isfinite(student(**inputs).logits).all()


def test_a_stopped_run_goes_on_where_it_stopped(run, script, monkeypatch):
    whole = load_file(run("whole", "PD-F", "--save_steps", "2") / "model.safetensors")
    calls = []
    train = script.DistillationTrainer.train

    class StopAtFirstSave(TrainerCallback):
        def on_save(self, args, state, control, **kwargs):
            raise KeyboardInterrupt

    def stopped(self, resume_from_checkpoint=None):
        calls.append((Path(self.args.output_dir).name, resume_from_checkpoint and Path(resume_from_checkpoint).name))
        if len(calls) == 2:  # in the middle of distillation
            self.add_callback(StopAtFirstSave())
        return train(self, resume_from_checkpoint=resume_from_checkpoint)

    monkeypatch.setattr(script.DistillationTrainer, "train", stopped)
    with pytest.raises(KeyboardInterrupt):
        run("stopped", "PD-F", "--save_steps", "2")
    output = run("stopped", "PD-F", "--save_steps", "2")
    assert calls == [
        ("pretraining", None),
        ("pretraining+distillation", None),
        ("pretraining+distillation", "checkpoint-2"),
        ("pretraining+distillation+fine_tuning", None),
    ]
    resumed = load_file(output / "model.safetensors")
    assert all(torch.equal(resumed[name], tensor) for name, tensor in whole.items())
    run("stopped", "PD-F", "--save_steps", "2")
    assert len(calls) == 4


@pytest.mark.parametrize(
    ("arm", "stages"),
    [("PD", ALL_STAGES[:2]), ("PF", [ALL_STAGES[0], ALL_STAGES[2]]), ("D", ALL_STAGES[1:2]), ("B", ALL_STAGES[2:])],
)
def test_an_arm_is_its_stages(run, arm, stages):
    assert [stage["name"] for stage in RunRecord.load(run(arm, arm)).stages] == stages


def test_answers_kept_teach_as_the_live_teacher_does(run, tmp_path):
    live, kept = run("live", "D"), run("kept", "D", "--teacher_answers", str(tmp_path / "answers"))
    assert len(list((tmp_path / "answers").iterdir())) == 2  # to the transfer set and to the test split
    live, kept = (load_file(folder / "model.safetensors") for folder in (live, kept))
    torch.testing.assert_close(live, kept, rtol=1e-3, atol=1e-4)  # 4 steps move a weight by 1e-3


def test_truncated_and_pretrained_students_skip_pretraining(run, tmp_path):
    truncated = run("tf", "TF", "--fine_tuning_steps", "1", "--fine_tuning_learning_rate", "0")
    teacher, student = (load_file(tmp_path / folder / "model.safetensors") for folder in ("teacher", "tf"))
    assert all(torch.equal(tensor, teacher[name]) for name, tensor in student.items())
    assert RunRecord.load(truncated).student["initialization"] == "truncated"
    own = ["--initialization", "pretrained", "--pretrained_model_name_or_path", str(truncated)]
    assert [stage["name"] for stage in RunRecord.load(run("own", "PD-F", *own)).stages] == ALL_STAGES[1:]


def test_few_labels_and_all_training_texts_of_a_built_in_set(run, script, monkeypatch):
    """Fine-tuning reads the first rows, distillation the texts of all."""
    rows = [{"text": text, "label": ["negative", "positive"].index(label)} for text, label in REVIEWS]
    features = Features({"text": Value("string"), "label": ClassLabel(names=["negative", "positive"])})
    splits = {"train": Dataset.from_list(rows[1:], features=features)}
    splits |= dict.fromkeys(("validation", "test"), Dataset.from_list(rows[:1], features=features))
    monkeypatch.setattr("hf_distill.resources.built_in.load_wordnet", lambda: splits)
    whole = script.PipelineArguments("unused", dataset_name="wordnet")
    assert (whole.corpus, whole.transfer_set) == ("wordnet", "wordnet")
    given = ["--dataset_name", "wordnet", "--transfer_set", "wordnet", "--max_train_samples", "3"]
    stages = RunRecord.load(run("few", "PD-F", *given)).stages
    assert [stage["data"]["train_examples"] for stage in stages[1:]] == [len(REVIEWS) - 1, 3]


def test_columns_of_other_names_are_recognized_and_named(run, tmp_path, caplog, monkeypatch):
    rows = [(number, label, text) for number, (text, label) in enumerate(REVIEWS)]
    files = [
        write_csv(tmp_path / f"{name}.csv", ["ticket_id", "queue", "message"], rows[start:])
        for start, name in enumerate(("unlabeled", "fine", "judged"))
    ]
    given = [
        argument
        for pair in zip(("--transfer_set", "--train_file", "--test_file"), files, strict=True)
        for argument in pair
    ]
    for name in ("transformers", "hf_distill"):  # whatever ran before has made of them
        caplog.set_level(logging.WARNING, name)
        monkeypatch.setattr(logging.getLogger(name), "propagate", True)
    monkeypatch.setattr(logging.getLogger("transformers.pretrained_distillation"), "disabled", False)
    output = run("other", "D", *given)
    assert "distillation: texts are read from the column message of" in caplog.text
    assert "Labels are read from queue" in caplog.text
    card, record = (output / "README.md").read_text(encoding="utf-8"), RunRecord.load(output)
    assert record.data["evaluation_texts_dropped"] == 7 and "Training data: unlabeled.csv, 2 examples" in card
    assert "On judged.csv:" in card and "of the teacher, " in card and "precomputed" not in card


def test_what_holds_no_texts_is_refused_before_the_first_stage(run, tmp_path):
    numbers = write_csv(tmp_path / "numbers.csv", ["ticket_id", "score"], [(1, 2), (3, 4)])
    gaps = write_csv(tmp_path / "gaps.csv", ["ticket_id", "text"], [(1, "a film"), (2, "")])
    for given, message in (
        (["--transfer_set", numbers], r"the first of strings, got the columns \['ticket_id', 'score'\]"),
        (["--corpus", numbers], r"the first of strings, got the columns"),
        (["--transfer_set", gaps], r"nothing in the column 'text', counted from 1: 2"),
        (["--train_file", gaps], r"train needs the column label, .*got \['ticket_id', 'text'\]"),
    ):
        with pytest.raises(ValueError, match=message):
            run("refused", "PD-F", *given)
        assert not (tmp_path / "refused").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(arm="DP"), r"arm must be one of \['PD', .*got 'DP'"),
        (dict(arm="PF", train_file="x"), r"arm PF has a stage pretraining, which needs corpus, got none"),
        (dict(arm="D"), r"arm D has a stage distillation, which needs transfer_set, got none"),
        (dict(arm="TF"), r"fine_tuning, which needs dataset_name or train_file, got none"),
    ],
)
def test_what_a_stage_needs_is_asked_for_first(script, arguments, message):
    with pytest.raises(ValueError, match=message):
        script.PipelineArguments(teacher_model_name_or_path="unused", **arguments)


def test_unknown_labels_and_mixed_folders_are_refused(run, script, tmp_path):
    wrong = write_csv(tmp_path / "wrong.csv", ["text", "label"], [("a film", "so so")])
    with pytest.raises(ValueError, match=r"have the label 'so so'; allowed are .*'negative', 'positive'\]"):
        run("wrong", "B", "--train_file", wrong)
    with pytest.raises(ValueError, match=r"must hold files of one of the types .*got \['csv', .*'json'"):
        (tmp_path / "mixed").mkdir()
        (tmp_path / "mixed" / "a.csv").touch()
        (tmp_path / "mixed" / "b.json").touch()
        load_texts(str(tmp_path / "mixed"))

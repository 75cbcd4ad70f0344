"""The task-agnostic study and its teacher on a few sentences with a tiny model."""

from __future__ import annotations

import json
import sys

import datasets
import pytest
import torch
from transformers import AutoConfig, AutoTokenizer, BertForMaskedLM

from tests.examples.test_run_glue import REVIEWS, TEXTS, save_bert

EVALUATED = "not a perfect film"


@pytest.fixture
def small(benchmark_module, monkeypatch, tmp_path):
    """The modules `prose_teacher` and `quality_task_agnostic` with data and models that take seconds."""
    teacher, study = benchmark_module("prose_teacher"), benchmark_module("quality_task_agnostic")
    encoder = save_bert(tmp_path / "encoder", hidden_size=24, layers=2, seed=0)
    BertForMaskedLM(AutoConfig.from_pretrained(encoder)).save_pretrained(encoder)
    prose = datasets.Dataset.from_dict({"text": [*TEXTS * 40, EVALUATED]})
    for name, value in {
        "minilm_path": lambda: encoder, "load_large_prose": lambda: prose, "load_wordnet": labeled,
        "load_sentiment": labeled, "MIN_COUNT": 1, "COUNTED_SHARE": 0.5, "LENGTH": 8, "HELD_OUT": 4,
    }.items():  # fmt: skip
        monkeypatch.setattr(teacher, name, value)
    tasks = {name: study.Task(labeled, 8, 3, ("validation", "test"), 2) for name in study.TASKS}
    for name, value in {"TASKS": tasks, "BATCH_SIZE": 2, "LENGTH": 8}.items():
        monkeypatch.setattr(study, name, value)
    monkeypatch.setattr(teacher, "ARGUMENTS", teacher.ARGUMENTS | {"use_cpu": True, "bf16": False})
    monkeypatch.setattr(study, "arguments", lambda *given, **more: call(*given, use_cpu=True, bf16=False, **more))
    monkeypatch.setattr(benchmark_module("compare_under_budget"), "RESAMPLES", 50)
    call = benchmark_module("quality_movie_reviews").arguments
    return teacher, study


def labeled() -> datasets.DatasetDict:
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(2)})
    rows = [{"text": text, "label": int(label == "positive")} for text, label in REVIEWS]
    held_out = [{"text": EVALUATED, "label": 0}, {"text": "a funny film", "label": 1}]
    splits = {"train": rows, "validation": held_out[:1], "test": held_out[1:]}
    return datasets.DatasetDict(
        {split: datasets.Dataset.from_list(each, features=features) for split, each in splits.items()}
    )


def test_the_teacher_learns_masked_words_of_the_text_without_evaluated_ones(small, tmp_path):
    teacher, _ = small
    folder = teacher.trained_teacher(tmp_path / "teacher", steps=4)
    measured = json.loads((folder / "teacher.json").read_text())
    assert measured["loss"] < measured["loss_before"] and measured["spent"]["tokens"] == 4 * 32 * 8
    written = [json.loads(line)["text"] for line in (tmp_path / "teacher" / "texts.json").read_text().splitlines()]
    assert EVALUATED not in written and len(written) == 41 * len(TEXTS)
    assert len(AutoTokenizer.from_pretrained(folder)) == measured["vocabulary"]
    marked = folder / "teacher.json"
    marked.write_text("{}")
    assert teacher.trained_teacher(tmp_path / "teacher", steps=4) == folder and marked.read_text() == "{}"


def test_all_arms_spend_the_same_and_end_with_the_same_shape(small, monkeypatch, tmp_path, capsys):
    _, study = small
    options = {"folder": tmp_path / "cells", "teacher_folder": tmp_path / "teacher", "results": tmp_path / "results"}
    options |= {"teacher_steps": 2, "width": 12, "flops": 1e7, "seeds": 2, "fine_tuning_steps": 2}
    command = ["x", *(f"--{name}={value}" for name, value in options.items())]
    monkeypatch.setattr(sys, "argv", command)
    study.main()
    path = tmp_path / "results" / "quality_task_agnostic_12.json"
    content, said = json.loads(path.read_text()), capsys.readouterr().out
    arms = content["arms"]
    assert list(arms) == ["gradual", "one_shot", "truncated", "scratch", "no_teacher"]
    for arm in arms.values():
        assert all(1e7 <= spent < 1.1e7 for spent in arm["flops"]["values"])
        assert arm["learning_rate"] == float(min(arm["loss_by_rate"], key=arm["loss_by_rate"].get))
    assert len({tuple(arm["parameters"]["values"]) for arm in arms.values()}) == 1
    assert arms["no_teacher"]["steps"]["mean"] > arms["scratch"]["steps"]["mean"] > arms["gradual"]["steps"]["mean"]
    for name, gap in content["gradual_ahead_of"].items():
        ours, theirs = arms["gradual"]["reviews"]["mean"], arms[name]["reviews"]["mean"]
        assert gap["reviews"]["difference"] == pytest.approx(ours - theirs)
        assert gap["reviews"]["interval_low"] <= gap["reviews"]["difference"] <= gap["reviews"]["interval_high"]
    assert "gradual_0.0012_0" in said and 0 <= content["teacher"]["definitions"] <= 100
    assert str(tmp_path) not in path.read_text()
    monkeypatch.setattr(study.Study, "_distil", None)
    monkeypatch.setattr(study.Study, "_fine_tune", None)
    study.main()  # finished cells are not run again
    assert json.loads(path.read_text()) == content
    monkeypatch.setattr(sys, "argv", [*command, "--fine_tuning_steps=3"])
    with pytest.raises(SystemExit, match=r"holds cells with .*'fine_tuning_steps': 2"):
        study.main()


def test_arms_differ_in_their_first_weights(small, tmp_path, monkeypatch):
    _, study = small
    monkeypatch.setattr(sys, "argv", ["x", f"--folder={tmp_path / 'cells'}", "--teacher_steps=1", "--width=12"])
    options = study.options_of()
    options.teacher_folder = tmp_path / "teacher"
    made = study.Study(options)
    embeddings = made.teacher.get_input_embeddings().weight
    first = {arm: made.trainer(arm, 1e-3, 0).model.get_input_embeddings().weight for arm in study.ARMS}
    assert torch.equal(first["gradual"], embeddings) and torch.equal(first["one_shot"], embeddings)
    assert torch.equal(first["truncated"], embeddings[:, :12])
    assert first["scratch"].shape == first["no_teacher"].shape == first["truncated"].shape
    assert not torch.equal(first["scratch"], first["truncated"])
    assert made.trainer("no_teacher", 1e-3, 0).teacher is None

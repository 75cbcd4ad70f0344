"""The comparison under a budget on definitions, with a tiny model and a few sentences."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import datasets
import pytest
import torch
from transformers import AutoConfig, BertForMaskedLM

from tests.examples.test_run_glue import QUIET, REVIEWS, TEXTS, save_bert

CLASSES = ["noun.act", "noun.food", "verb.motion"]
MORE = ["--seeds=0", "--fine_tuning_steps=2", "--per_device_train_batch_size=2", *QUIET]


@pytest.fixture
def quality_budget(benchmark_module, monkeypatch, tmp_path):
    """The benchmark, whose comparisons run in this process."""
    module = benchmark_module("quality_budget")
    teacher, texts = tmp_path / "teacher", tmp_path / "texts.json"
    torch.manual_seed(0)
    BertForMaskedLM(AutoConfig.from_pretrained(save_bert(teacher, 24, 2, seed=0))).save_pretrained(teacher)
    (teacher / "teacher.json").write_text('{"loss": 3.0}')
    texts.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS * 20))
    monkeypatch.setattr(module.prose_teacher, "trained_teacher", lambda folder, steps: teacher)
    monkeypatch.setattr(module.prose_teacher, "written_texts", lambda folder: texts)
    monkeypatch.setattr(module.prose_teacher, "LENGTH", 8)
    monkeypatch.setattr(module, "load_wordnet", definitions)
    monkeypatch.setattr(module, "LABELED", {"train": 6, "validation": 3, "test": 2})
    monkeypatch.setattr(module, "OF_STUDENT", {"2/128": {"learning_rates": 1e-3}})

    def run(command, env):
        assert command[1].name == "compare_under_budget.py" and env["OMP_NUM_THREADS"] == "1"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", [str(part) for part in command[1:]])
            patch.setattr(sys.modules["compare_under_budget"], "RESAMPLES", 50)
            sys.modules["compare_under_budget"].main()
        return SimpleNamespace(wait=lambda: 0)

    monkeypatch.setattr(module, "subprocess", SimpleNamespace(Popen=run))
    return module


def definitions() -> datasets.DatasetDict:
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=CLASSES)})
    rows = {"text": [text for text, _ in REVIEWS] * 3, "label": ([0] * 6 + [1, 1, 2]) * 3}
    splits = ("train", "validation", "test")
    return datasets.DatasetDict({split: datasets.Dataset.from_dict(rows, features=features) for split in splits})


def test_definitions_are_compared_at_every_budget(quality_budget, monkeypatch, tmp_path):
    options = {"output_dir": tmp_path / "cells", "results": tmp_path / "results", "task": "definitions"}
    command = ["x", "2/128", "flops", *(f"--{name}={value}" for name, value in options.items())]
    monkeypatch.setattr(sys, "argv", [*command, "--budgets", "1e8", "2e8", *MORE])
    quality_budget.main()
    for budget, name in ((1e8, "1e+08"), (2e8, "2e+08")):
        path = tmp_path / "results" / f"budget_2_128_flops_definitions_{name}.json"
        content = json.loads(path.read_text())
        assert path.with_suffix(".png").exists() and content["teacher"] == {"loss": 3.0}
        arms = {arm["arm"]: arm for arm in content["arms"]}
        assert set(arms) == {"no_kd", "vanilla_kd", "tinybert", "minilmv2", "untrained"}
        assert all(
            budget <= arm["spent"][0]["flops"] < 1.2 * budget for arm in arms.values() if arm != arms["untrained"]
        )
        assert content["conditions"]["unlimited"]["fine_tuning_steps"] == 2


def test_labeled_definitions_have_all_classes(quality_budget, tmp_path):
    paths = quality_budget.labeled_definitions(tmp_path)
    rows = {split: [json.loads(line) for line in path.read_text().splitlines()] for split, path in paths.items()}
    assert {split: len(each) for split, each in rows.items()} == quality_budget.LABELED
    assert {row["label"] for row in rows["train"]} == set(CLASSES)
    assert rows["test"][0] == {"text": REVIEWS[0][0], "label": "noun.act"}
    before = paths["train"].stat().st_mtime_ns
    assert quality_budget.labeled_definitions(tmp_path) == paths and paths["train"].stat().st_mtime_ns == before

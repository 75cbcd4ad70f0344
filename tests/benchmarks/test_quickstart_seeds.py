"""Means over seeds of the quickstart's results, and the interval of the mean difference over the reviews."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "quickstart_seeds.py"


@pytest.fixture(scope="module")
def quickstart_seeds():
    spec = importlib.util.spec_from_file_location("quickstart_seeds", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def results(seed, accuracy, pairs):
    difference = 100 * sum(pairs) / len(pairs)
    student = {"name": "BERT-Tiny", "parameters": 9, "labels_only": 70.0, "distilled": 70.0 + difference}
    student |= {"difference": difference, "interval_low": 0.0, "interval_high": 99.0, "pairs": pairs}
    return {
        "settings": {"seed": seed}, "data": {"examples": len(pairs)}, "conditions": {"hardware": "a CPU"},
        "rows": [{"name": "MiniLM-6-layers", "parameters": 90, "metrics": {"accuracy": accuracy}}],
        "students": [student], "word_counts": 0.65,
    }  # fmt: skip


def test_means_over_seeds(quickstart_seeds, monkeypatch, tmp_path):
    found = {0: results(0, 0.80, [1] * 20 + [0] * 80), 1: results(1, 0.78, [0] * 80 + [1] * 10 + [-1] * 10)}

    def run(command, check):
        options = dict(option.removeprefix("--").split("=") for option in command[2:])
        folder = Path(options["output_dir"])
        folder.mkdir(parents=True)
        (folder / "results.json").write_text(json.dumps(found.pop(int(options["seed"]))))
        assert options["steps"] == "2"

    monkeypatch.setattr(quickstart_seeds.subprocess, "run", run)
    output = tmp_path / "results.json"
    command = ["x", "--seeds=2", f"--folder={tmp_path / 'runs'}", f"--output={output}", "--steps=2"]
    monkeypatch.setattr(sys, "argv", command)
    quickstart_seeds.main()
    first = output.read_text()
    content = json.loads(first)
    assert content["teacher"] == {"name": "MiniLM-6-layers", "parameters": 90, "accuracy": 79.0}
    (student,) = content["students"]
    assert (student["labels_only"], student["distilled"], student["difference"]) == (70.0, 80.0, 10.0)
    assert 0 < student["interval_low"] < 10 < student["interval_high"] < 20  # over the reviews, not those of the runs
    assert [each["seed"] for each in content["seeds"]] == [0, 1] and content["word_counts"] == 65.0
    assert "pairs" not in first and content["seeds"][1]["students"][0]["difference"] == 0.0
    quickstart_seeds.main()  # finished runs are not run again
    assert output.read_text() == first

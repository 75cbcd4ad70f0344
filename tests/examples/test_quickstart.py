"""The quickstart, shortened, on the real data and the real encoder."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoModelForSequenceClassification, AutoTokenizer

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.real_data
def test_quickstart_leaves_students_cards_plot_and_results_and_continues(tmp_path):
    def start(*options):
        command = [sys.executable, "examples/quickstart.py", "--steps=2", "--examples=40", f"--output_dir={tmp_path}"]
        return subprocess.run(
            [*command, *options], capture_output=True, text=True, cwd=REPOSITORY, timeout=300, check=False
        )

    first = start()
    assert first.returncode == 0, first.stderr[-3000:]
    results = json.loads((tmp_path / "results.json").read_text())
    rows = results["rows"]
    assert [row["role"] for row in rows] == ["teacher"] + 3 * ["labels only", "labels only", "distilled"]
    assert results["data"]["examples"] == 80 and 0 < results["word_counts"] <= 1
    assert any(row["metrics"]["accuracy"] < 1 for row in rows)  # a sample with one label alone would be too easy
    assert (tmp_path / "comparison.png").stat().st_size > 10_000
    for row in rows[1:]:
        folder = tmp_path / row["name"].replace(", ", "-").replace(" ", "-")
        student = AutoModelForSequenceClassification.from_pretrained(folder)
        assert student.num_parameters() == row["parameters"] < rows[0]["parameters"] / 4
        assert len(AutoTokenizer.from_pretrained(folder)) == student.config.vocab_size < 3000
        card = (folder / "README.md").read_text()
        assert ("distilled from **all-MiniLM-L6-v2, fine-tuned on movie reviews**" in card) == (
            row["role"] == "distilled"
        )
        assert str(tmp_path) not in card + (folder / "run.json").read_text()
    for student, (short, long, distilled) in zip(
        results["students"], zip(*[iter(rows[1:])] * 3, strict=True), strict=True
    ):
        accuracies = [100 * row["metrics"]["accuracy"] for row in (short, long, distilled)]
        assert student["labels_only"] == pytest.approx(max(accuracies[:2]), abs=0.01)
        assert student["difference"] == pytest.approx(accuracies[2] - max(accuracies[:2]), abs=0.01)
        assert student["interval_low"] <= student["difference"] <= student["interval_high"]
        assert student["name"] in distilled["name"] and student["parameters"] == distilled["parameters"]
    weights = (folder / "model.safetensors").stat().st_mtime
    (tmp_path / "BERT-Mini-distilled" / "finished.json").unlink()  # as if it had been interrupted there
    second = start()
    assert second.returncode == 0 and second.stdout.count("found in") == 9, second.stderr[-3000:]
    assert (folder / "model.safetensors").stat().st_mtime == weights
    other = start("--seed=1")
    assert other.returncode == 1 and "pass another --output_dir" in other.stderr

"""The quickstart, shortened, on the real data and the real encoder."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoModelForSequenceClassification

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.real_data
def test_quickstart_leaves_students_cards_plot_and_results_and_continues(tmp_path):
    def start():
        command = [sys.executable, "examples/quickstart.py", "--steps=2", "--examples=40", f"--output_dir={tmp_path}"]
        return subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, timeout=300, check=False)

    first = start()
    assert first.returncode == 0, first.stderr[-3000:]
    rows = json.loads((tmp_path / "results.json").read_text())["rows"]
    assert [row["role"] for row in rows] == ["teacher"] + 3 * ["labels only", "distilled"]
    assert any(row["metrics"]["accuracy"] < 1 for row in rows)  # a sample with one label alone would be too easy
    assert (tmp_path / "comparison.png").stat().st_size > 10_000
    for row in rows[1:]:
        folder = tmp_path / row["name"].replace(", ", "-").replace(" ", "-")
        student = AutoModelForSequenceClassification.from_pretrained(folder)
        assert student.num_parameters() == row["parameters"]
        card = (folder / "README.md").read_text()
        assert ("distilled from **all-MiniLM-L6-v2, fine-tuned on movie reviews**" in card) == (
            row["role"] == "distilled"
        )
        assert str(tmp_path) not in card + (folder / "run.json").read_text()
    weights = (folder / "model.safetensors").stat().st_mtime
    (tmp_path / "BERT-Mini-distilled" / "finished.json").unlink()  # as if it had been interrupted there
    second = start()
    assert second.returncode == 0 and second.stdout.count("found in") == 6, second.stderr[-3000:]
    assert (folder / "model.safetensors").stat().st_mtime == weights

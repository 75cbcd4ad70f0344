"""Pro-KD and its baselines on few labels and many texts: one set of teacher outputs, cells that are kept, paired differences."""

import json
import sys
from pathlib import Path

import datasets
import pytest
from transformers import AutoModelForSequenceClassification, DataCollatorWithPadding

from tests.tiny_models import tiny_bert, tiny_tokenizer

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def modules(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    import quality_trajectories
    import teacher_trajectory
    import trajectory_ways

    return quality_trajectories, teacher_trajectory, trajectory_ways


def tiny_task(base):
    """A task of texts of six words, of which the first says the class, with a teacher of four layers."""

    class TinyTask(base):
        kinds = {"bottom": ("2/16", "truncated")}
        teacher_class, teacher_steps, teacher_rate = AutoModelForSequenceClassification, 16, 1e-3

        def __init__(self, folder):
            super().__init__(folder)
            tokenizer = tiny_tokenizer()
            texts = [f"w{10 + row % 2} " + " ".join(f"w{20 + (row * k) % 37}" for k in range(5)) for row in range(48)]
            rows = datasets.Dataset.from_dict(dict(tokenizer(texts)) | {"label": [row % 2 for row in range(48)]})
            self.splits = {"labeled": rows.take(16), "transfer": rows.take(40).remove_columns("label")}
            self.splits |= {split: rows.take(24) for split in ("validation", "test")}
            self.shared = {"processing_class": tokenizer, "data_collator": DataCollatorWithPadding(tokenizer)}

        def untrained_teacher(self):
            return tiny_bert(layers=4)

    return TinyTask


@pytest.fixture
def run(modules, monkeypatch, tmp_path):
    """Runs the script on tiny models, and returns its results."""
    script, _, _ = modules
    import few_label_tasks

    monkeypatch.setitem(script.TASKS, "reviews_e5", tiny_task(few_label_tasks.Task))

    def run_script(*options):
        output = tmp_path / "results.json"
        fixed = ["reviews_e5", f"--folder={tmp_path}", f"--output={output}", "--steps=12", "--seeds=2", "--rates=1e-3"]
        monkeypatch.setattr(sys, "argv", ["quality_trajectories.py", *fixed, *options])
        script.main()
        return json.loads(output.read_text())

    return run_script


def test_every_way_and_a_second_run_that_trains_nothing(modules, run, monkeypatch):
    _, trajectory, ways = modules
    found = run("--ways", *ways.WAYS)
    arms, teacher = found["arms"], found["teacher"]
    assert list(arms) == list(ways.WAYS) and teacher["steps"] == [2, 4, 6, 8, 10, 12, 14, 16]
    assert len(teacher["training_losses"]) == 9 and len(teacher["validation"]) == 8
    assert [len(arm["values"]) for arm in arms.values()] == [2] * len(arms)
    assert len(arms["labels_alone"]["validation_by_setting"]) == 2  # lengths
    assert len(arms["best_checkpoint"]["validation_by_setting"]) == 8
    assert found["conditions"]["rows"] == {"labeled": 16, "transfer": 40, "validation": 24, "test": 24}
    assert "before_final_stage" in arms["pro_kd"] and "before_final_stage" not in arms["rco"]
    stages = [arms["pro_kd"]["before_final_stage"]["values"], arms["pro_kd"]["values"]]
    chosen = arms["pro_kd"]["better_stage_by_validation"]["values"]
    assert all(value in pair for value, pair in zip(chosen, zip(*stages, strict=True), strict=True))
    assert "difference_to_vanilla_kd" not in arms["vanilla_kd"]
    difference = arms["pro_kd"]["difference_to_vanilla_kd"]
    means = arms["pro_kd"]["mean"] - arms["vanilla_kd"]["mean"]
    assert difference["mean"] == pytest.approx(means, abs=0.02)
    assert difference["interval_low"] <= difference["mean"] <= difference["interval_high"]
    monkeypatch.setattr(trajectory.TeacherTrajectory, "trained", None)
    assert run("--ways", *ways.WAYS) == found
    monkeypatch.setitem(ways.WAYS, "rco", ways.WAYS["pro_kd"])
    with pytest.raises(SystemExit, match="was trained as"):
        run("--ways", "rco")


def test_unknown_ways_are_refused(run, capsys):
    with pytest.raises(SystemExit):
        run("--ways", "fine_tuning")
    assert "unknown fine_tuning" in capsys.readouterr().err


def test_steep_checkpoints_are_those_where_the_loss_falls(modules, monkeypatch):
    _, trajectory, ways = modules
    comparison = object.__new__(ways.WayComparison)
    comparison.trajectory = object.__new__(trajectory.TeacherTrajectory)
    comparison.trajectory.__dict__["record"] = {"training_losses": [8.0, 7.9, 5.9, 3.9, 3.8, 1.9, 1.8, 1.7, 0.0]}
    assert comparison.checkpoints_of(ways.WAYS["pro_kd_steep"]) == (1, 2, 4, 7)
    assert comparison.checkpoints_of(ways.WAYS["pro_kd"]) == tuple(range(8))
    assert comparison.checkpoints_of(ways.WAYS["vanilla_kd"]) == (7,)


def test_the_columns_of_some_checkpoints(modules):
    _, trajectory, _ = modules
    names = ("teacher_logits", "teacher_provenance")
    rows = datasets.Dataset.from_dict(
        {"input_ids": [[1]]} | {f"{name}_{index}": [f"{name} of {index}"] for name in names for index in range(3)}
    )
    two, one = trajectory.outputs_of(rows, [0, 2]), trajectory.outputs_of(rows, [2])
    assert two[0] == {"input_ids": [1]} | {
        f"{name}_{place}": f"{name} of {index}" for name in names for place, index in ((0, 0), (1, 2))
    }
    assert one[0] == {"input_ids": [1]} | {name: f"{name} of 2" for name in names}

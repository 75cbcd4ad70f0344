"""Pro-KD and its baselines on few labels and many texts: one set of teacher outputs, cells that are kept, paired differences."""

import json
import sys
from pathlib import Path

import datasets
import pytest

from tests.tiny_models import tiny_bert, tiny_tokenizer

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def modules(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    import quality_trajectories
    import trajectory_texts
    import trajectory_ways

    return quality_trajectories, trajectory_texts, trajectory_ways


def texts_and_labels():
    """Texts of six words, of which the first says the class."""
    rows = [{"text": f"w{10 + row % 2} " + " ".join(f"w{20 + (row * k) % 37}" for k in range(5))} for row in range(48)]
    labeled = [row | {"label": index % 2} for index, row in enumerate(rows)]
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["even", "odd"])}
    )
    split = datasets.Dataset.from_list(labeled, features=features)
    return datasets.DatasetDict({name: split for name in ("train", "validation", "test")}), datasets.Dataset.from_list(
        rows
    )


@pytest.fixture
def run(modules, monkeypatch, tmp_path):
    """Runs the script on tiny models, and returns its results."""
    script, texts, _ = modules
    encoder = tmp_path / "encoder"
    tiny_bert(layers=4).base_model.save_pretrained(encoder)
    tiny_tokenizer().save_pretrained(encoder)
    task = texts.TextTask(
        texts_and_labels, labeled=16, texts=40, held_out=24, max_length=16, teacher_steps=16, rates=(1e-3,)
    )
    monkeypatch.setitem(script.TEXT_TASKS, "reviews", task)
    monkeypatch.setitem(texts.ENCODERS, "minilm", (lambda: encoder, ""))

    def run_script(*options):
        output = tmp_path / "results.json"
        fixed = ["reviews", "--encoder=minilm", f"--folder={tmp_path}", f"--output={output}", "--steps=12", "--seeds=2"]
        monkeypatch.setattr(sys, "argv", ["quality_trajectories.py", *fixed, *options])
        script.main()
        return json.loads(output.read_text())

    return run_script


def test_every_way_and_a_second_run_that_trains_nothing(modules, run, monkeypatch):
    _, texts, ways = modules
    found = run("--ways", *ways.WAYS)
    arms, teacher = found["arms"], found["teacher"]
    assert list(arms) == list(ways.WAYS) and teacher["steps"] == [2, 4, 6, 8, 10, 12, 14, 16]
    assert len(teacher["training_losses"]) == 9 and len(teacher["validation"]) == 8
    assert [len(arm["values"]) for arm in arms.values()] == [2] * len(arms)
    assert len(arms["labels_alone"]["validation_by_setting"]) == 2  # lengths
    assert len(arms["best_checkpoint"]["validation_by_setting"]) == 8
    assert found["conditions"]["labeled_rows"] == 16 and found["conditions"]["transfer_texts"] == 40
    assert "before_final_stage" in arms["pro_kd"] and "before_final_stage" not in arms["rco"]
    stages = [arms["pro_kd"]["before_final_stage"]["values"], arms["pro_kd"]["values"]]
    chosen = arms["pro_kd"]["better_stage_by_validation"]["values"]
    assert all(value in pair for value, pair in zip(chosen, zip(*stages, strict=True), strict=True))
    assert "difference_to_vanilla_kd" not in arms["vanilla_kd"]
    difference = arms["pro_kd"]["difference_to_vanilla_kd"]
    means = arms["pro_kd"]["mean"] - arms["vanilla_kd"]["mean"]
    assert difference["mean"] == pytest.approx(means, abs=0.02)
    assert difference["interval_low"] <= difference["mean"] <= difference["interval_high"]
    monkeypatch.setattr(texts.TaughtTexts, "trained", None)
    assert run("--ways", *ways.WAYS) == found


def test_unknown_ways_are_refused(run, capsys):
    with pytest.raises(SystemExit):
        run("--ways", "fine_tuning")
    assert "got fine_tuning" in capsys.readouterr().err


def test_steep_checkpoints_are_those_where_the_loss_falls(modules, monkeypatch):
    _, texts, ways = modules
    comparison = object.__new__(ways.WayComparison)
    comparison.taught = object.__new__(texts.TaughtTexts)
    comparison.taught.__dict__["teacher"] = {"training_losses": [8.0, 7.9, 5.9, 3.9, 3.8, 1.9, 1.8, 1.7, 0.0]}
    assert comparison.checkpoints_of(ways.WAYS["pro_kd_steep"]) == (1, 2, 4, 7)
    assert comparison.checkpoints_of(ways.WAYS["pro_kd"]) == tuple(range(8))
    assert comparison.checkpoints_of(ways.WAYS["vanilla_kd"]) == (7,)


def test_the_columns_of_some_checkpoints(modules):
    _, texts, _ = modules
    names = ("teacher_logits", "teacher_provenance")
    rows = datasets.Dataset.from_dict(
        {"input_ids": [[1]]} | {f"{name}_{index}": [f"{name} of {index}"] for name in names for index in range(3)}
    )
    two, one = texts.answers_of(rows, [0, 2]), texts.answers_of(rows, [2])
    assert two[0] == {"input_ids": [1]} | {
        f"{name}_{place}": f"{name} of {index}" for name in names for place, index in ((0, 0), (1, 2))
    }
    assert one[0] == {"input_ids": [1]} | {name: f"{name} of 2" for name in names}

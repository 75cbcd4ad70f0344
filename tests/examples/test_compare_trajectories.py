"""Pro-KD and its baselines on a few sentences with tiny random models, in this process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from hf_distill.publishing.run_record import RunRecord
from tests.examples.test_run_glue import QUIET, REVIEWS, save_bert, write_csv

CHECKPOINTS = (5, 10, 20)
STEPS = 9
LABELS = ["negative", "positive"]


@pytest.fixture
def compare(run_main, tmp_path):
    """Compares arms; returns what the JSON file says."""
    for index, step in enumerate(CHECKPOINTS):
        save_bert(tmp_path / "teacher" / f"checkpoint-{step}", hidden_size=64, layers=2, seed=index, labels=LABELS)
    train = write_csv(tmp_path / "train.csv", ["text", "label"], REVIEWS)
    held_out = write_csv(
        tmp_path / "held_out.csv", ["text", "label"], [(f"{text} film", label) for text, label in REVIEWS]
    )

    def call(*arguments: str, results: Path = tmp_path / "out") -> dict:
        places = ["--teacher_checkpoints", str(tmp_path / "teacher"), "--output_dir", str(tmp_path / "out")]
        places += ["--train_file", train, "--validation_file", held_out]
        training = [
            "--students",
            "1/64",
            "--steps",
            str(STEPS),
            "--per_device_train_batch_size",
            "4",
            "--save_steps",
            "4",
        ]
        options = ["--learning_rates", "1e-3", "--seeds", "0", "1"]
        run_main(*places, *training, *options, *QUIET, *arguments)
        return json.loads((results / "results.json").read_text())

    return call


@pytest.fixture
def trained(script, monkeypatch):
    """The folders in which training took place."""
    folders = []
    train = script.Comparison._train
    monkeypatch.setattr(
        script.Comparison, "_train", lambda self, *args: folders.append(args[2].name) or train(self, *args)
    )
    return folders


def steps_of(folder) -> list[int]:
    record = RunRecord.load(folder)
    return [stage["training"]["steps"] for stage in record.stages] or [record.training["steps"]]


def test_every_arm_takes_the_same_steps_and_nothing_is_run_twice(compare, script, trained, tmp_path, capsys):
    command = ["--assistant", "2/64", "--test_file", str(tmp_path / "train.csv"), "--logging_steps", "1"]
    results = compare(*command)
    entries = {entry["arm"]: entry for entry in results["arms"]}
    assert tuple(entries) == script.ARMS
    assert {entry["steps"] for entry in entries.values()} == {STEPS}
    assert entries["takd"]["extra_steps"] == STEPS and entries["best_checkpoint"]["extra_steps"] == 2 * STEPS
    assert all(len(entry["accuracies"]) == 2 for entry in entries.values())
    # Vanilla KD from the last checkpoint is shared; the other two are tried with one seed, the best gets the other.
    best = entries["best_checkpoint"]["checkpoint"]
    expected = {f"1-64_{name}_0.001_{seed}" for name in script.ARMS if "checkpoint" not in name for seed in (0, 1)}
    expected -= {f"1-64_vanilla_kd_0.001_{seed}" for seed in (0, 1)}
    expected |= {f"1-64_kd_from_{step}_0.001_0" for step in CHECKPOINTS} | {"2-64_kd_from_20_0.001_0"}
    expected |= {f"1-64_kd_from_{step}_0.001_1" for step in (20, best)}
    assert sorted(trained) == sorted(expected)
    steps = {name: steps_of(tmp_path / "out" / name) for name in trained}
    assert all(sum(parts) == STEPS for parts in steps.values())
    assert steps["1-64_pro_kd_0.001_0"] == steps["1-64_annealing_kd_0.001_1"] == [6, 3]
    assert not list((tmp_path / "out").rglob("checkpoint-*"))

    printed = capsys.readouterr().out
    mean, sd = entries["pro_kd"]["mean"], entries["pro_kd"]["sd"]
    assert f"{100 * mean:.1f} ± {100 * sd:.1f}" in printed and "accuracy % on test" in printed
    assert "9 + 18 searching" in printed and "9 + 9 of the assistant" in printed
    assert [run["checkpoint"] for run in results["checkpoints"]] == list(CHECKPOINTS)
    assert all((tmp_path / "out" / f"{name}.png").stat().st_size > 5_000 for name in ("arms", "checkpoints"))
    require_teachers_of_their_arms({name: tmp_path / "out" / name for name in trained if name.endswith("_0")})
    trained.clear()
    assert compare(*command) == results and not trained
    with pytest.raises(
        ValueError, match=r"holds a run with .*'random'.* not with .*'embeddings'.*another --output_dir"
    ):
        compare("--arms", "pro_kd", "--initialization", "embeddings")


def require_teachers_of_their_arms(folders):
    records = {name.split("_", 1)[1].removesuffix("_0.001_0"): folder for name, folder in folders.items()}
    stages = {name: (RunRecord.load(folder).stages or [{}])[0] for name, folder in records.items()}
    teachers = {name: RunRecord.load(folder).teacher for name, folder in records.items()}
    assert teachers["fine_tuning"] is None
    assert teachers["rco"]["trajectory"] == teachers["pro_kd"]["trajectory"] == list(CHECKPOINTS)
    assert teachers["annealing_kd"]["trajectory"] == [20]
    assert "trajectory" not in teachers["takd"]
    rco, pro_kd = (json.dumps(stages[name]["objective"]) for name in ("rco", "pro_kd"))
    assert "hard_label" in rco and "hard_label" not in pro_kd


def test_adapters_teach_too(compare, tmp_path):
    peft = pytest.importorskip("peft")
    base = save_bert(tmp_path / "base", hidden_size=64, layers=2, seed=0, labels=LABELS)
    config = peft.LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query", "value"])
    for step in CHECKPOINTS:
        folder = tmp_path / "adapters" / f"checkpoint-{step}"
        peft.get_peft_model(AutoModelForSequenceClassification.from_pretrained(base), config).save_pretrained(folder)
        AutoTokenizer.from_pretrained(base).save_pretrained(folder)
    arms = ["--arms", "vanilla_kd", "pro_kd", "--initialization", "truncated", "--seeds", "0"]
    results = compare(*arms, "--teacher_checkpoints", str(tmp_path / "adapters"))
    assert [entry["steps"] for entry in results["arms"]] == [STEPS] * 2


def test_the_learning_rate_is_the_best_on_validation_with_the_first_seed(compare, script, monkeypatch, tmp_path):
    rated = []

    def run(self, student, method, rate, seed):
        rated.append((rate, seed))
        return {"validation_accuracy": {1e-4: 0.5, 1e-3: 0.9, 1e-2: 0.6}[rate], "accuracy": 0.7, "steps": STEPS}

    monkeypatch.setattr(script.Comparison, "run", run)
    (tmp_path / "out").mkdir()
    (entry,) = compare("--arms", "pro_kd", "--learning_rates", "1e-4", "1e-3", "1e-2")["arms"]
    assert entry["learning_rate"] == 1e-3
    assert rated == [(1e-4, 0), (1e-3, 0), (1e-2, 0), (1e-3, 0), (1e-3, 1)]


def test_a_stopped_run_goes_on(compare, script, monkeypatch, tmp_path):
    whole = compare("--arms", "pro_kd", "--seeds", "0")
    weights = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out" / "1-64_pro_kd_0.001_0").state_dict()
    (tmp_path / "out").rename(tmp_path / "whole")
    make = script.make_trainer

    def stopping(*args, **kwargs):
        trainer = make(*args, **kwargs)
        monkeypatch.setattr(trainer, "_train_final_stage", lambda *args, **kwargs: 1 / 0)
        return trainer

    monkeypatch.setattr(script, "make_trainer", stopping)
    with pytest.raises(ZeroDivisionError):
        compare("--arms", "pro_kd", "--seeds", "0")
    monkeypatch.setattr(script, "make_trainer", make)
    assert compare("--arms", "pro_kd", "--seeds", "0") == whole
    resumed = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out" / "1-64_pro_kd_0.001_0").state_dict()
    assert all((weights[name] == resumed[name]).all() for name in weights)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--arms", "kd"], r"arms must be of \['fine_tuning'.* got \['kd'\]"),
        (["--arms", "takd"], r"the arm takd needs --assistant"),
        (["--final_share", "1", "--arms", "pro_kd"], r"final_share in \[0, 1\), got 9 and 1.0"),
        (
            ["--steps", "4", "--final_share", "0.5", "--arms", "pro_kd"],
            r"3 checkpoints need as many steps before the final, got 2",
        ),
        (["--teacher_checkpoints", "nowhere", "--arms", "pro_kd"], r"must be a folder with checkpoint-\*"),
    ],
)
def test_bad_input(compare, arguments, message):
    with pytest.raises(ValueError, match=message):
        compare(*arguments)


def test_data_of_other_classes_are_refused(compare, tmp_path):
    rows = [(text, "good" if label == "positive" else "bad") for text, label in REVIEWS]
    train = write_csv(tmp_path / "other.csv", ["text", "label"], rows)
    with pytest.raises(ValueError, match=r"the teacher's, \['negative', 'positive'\], got \['bad', 'good'\]"):
        compare("--arms", "pro_kd", "--train_file", train)


def test_teachers_asked_in_every_step_teach_the_same(compare, tmp_path):
    arms = ["--arms", "vanilla_kd", "annealing_kd", "pro_kd", "--seeds", "0"]
    once = compare(*arms)
    live = compare(*arms, "--live_teachers", "--output_dir", str(tmp_path / "live"), results=tmp_path / "live")
    for name in ("1-64_kd_from_20_0.001_0", "1-64_annealing_kd_0.001_0", "1-64_pro_kd_0.001_0"):
        weights = [load_file(tmp_path / folder / name / "model.safetensors") for folder in ("out", "live")]
        for of_run in weights:  # a key's bias moves no attention: its gradient is rounding, which Adam makes steps of
            for bias in [each for each in of_run if each.endswith("key.bias")]:
                del of_run[bias]
        torch.testing.assert_close(*weights, rtol=1e-3, atol=5e-4)  # a weight moves by up to 9e-3
    assert [entry["accuracies"] for entry in live["arms"]] == [entry["accuracies"] for entry in once["arms"]]


def test_teachers_of_other_sizes_show_the_capacity_gap(compare, tmp_path):
    for index, step in enumerate(CHECKPOINTS):
        save_bert(tmp_path / "small" / f"checkpoint-{step}", hidden_size=64, layers=1, seed=index, labels=LABELS)
    results = compare("--arms", "pro_kd", "--other_teachers", str(tmp_path / "small"), "--seeds", "0")
    small, large = results["teachers"][:2], results["teachers"][2:]
    assert [entry["arm"] for entry in small] == [entry["arm"] for entry in large] == ["vanilla_kd", "pro_kd"]
    assert small[0]["teacher_parameters"] < large[0]["teacher_parameters"] == large[1]["teacher_parameters"]
    assert large[1] == {"teacher_parameters": large[1]["teacher_parameters"]} | results["arms"][0]
    assert (tmp_path / "out" / "capacity_gap.png").stat().st_size > 5_000
    assert (tmp_path / "out" / "by_small" / "1-64_pro_kd_0.001_0").is_dir()

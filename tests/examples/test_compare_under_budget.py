"""The comparison under a budget on a few sentences with tiny random models, in this process."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from transformers import AutoConfig, BertForMaskedLM, EvalPrediction

from tests.examples.test_run_glue import QUIET, REVIEWS, TEXTS, save_bert, write_csv

SHORT = ["--max_seq_length", "8", "--points", "2", "--fine_tuning_steps", "2", "--learning_rates", "1e-3"]
SHORT += ["--per_device_train_batch_size", "1", "--student", "1/64", "--limited_fraction", "0.3"]


@pytest.fixture
def places(tmp_path):
    (tmp_path / "corpus.txt").write_text("\n".join(TEXTS * 3) + "\n", encoding="utf-8")
    held_out = [(f"{text} film", label) for text, label in REVIEWS]
    train = write_csv(tmp_path / "train.csv", ["text", "label"], REVIEWS)
    validation = write_csv(tmp_path / "validation.csv", ["text", "label"], held_out)
    files = ["--corpus", str(tmp_path / "corpus.txt"), "--train_file", train, "--validation_file", validation]
    return [*files, "--output_dir", str(tmp_path / "out"), *SHORT, *QUIET]


@pytest.fixture
def masked_words(tmp_path):
    """A teacher with a masked-word head."""
    folder = save_bert(tmp_path / "teacher", hidden_size=128, layers=2, seed=1)
    torch.manual_seed(0)
    BertForMaskedLM(AutoConfig.from_pretrained(folder)).save_pretrained(folder)
    return ["--teacher_model_name_or_path", folder]


@pytest.fixture
def classifier(tmp_path):
    folder = save_bert(tmp_path / "classifier", hidden_size=128, layers=2, seed=1, labels=["negative", "positive"])
    return ["--teacher_model_name_or_path", folder, "--stage", "classification"]


@pytest.fixture
def trained(script, monkeypatch):
    """Regime and arm of every training."""
    found = []

    def noting(train):
        def call(self, regime, changes):
            found.append((regime, self.name))
            return train(self, regime, changes)

        return call

    kinds = script.KINDS.values()
    for kind in {each for arm in kinds for each in arm.__mro__ if "train" in vars(each)}:
        monkeypatch.setattr(kind, "train", noting(kind.train))
    return found


def trajectory(folder: str, *steps: int) -> list[str]:
    """A teacher's checkpoints, as far as their names go."""
    for step in steps:
        shutil.copytree(folder, f"{folder}_training/checkpoint-{step}")
    return ["--teacher_checkpoints", f"{folder}_training"]


def results(tmp_path):
    return json.loads((tmp_path / "out" / "results.json").read_text())


def test_arms_get_the_same_budget_and_nothing_is_run_twice(run_main, places, masked_words, trained, tmp_path, capsys):
    command = [*masked_words, *places, "--max_flops", "7e8", "--seeds", "0"]
    run_main(*command)
    found, said = results(tmp_path), capsys.readouterr().out
    arms = [("unlimited", arm) for arm in ("no_kd", "vanilla_kd", "tinybert", "minilmv2")]
    arms += [("limited", arm) for _, arm in arms]
    assert [(entry["regime"], entry["arm"]) for entry in found["arms"]] == arms == trained
    for regime in ("unlimited", "limited"):
        entries = [entry for entry in found["arms"] if entry["regime"] == regime]
        assert_equal_budgets(entries, 7e8)
        assert (
            entries[0]["readings"] > 1.5 * entries[1]["readings"]
        )  # what the teacher takes is not read by the student
        assert [entry["spent"][0]["teacher_flops"] > 0 for entry in entries] == [False, True, True, True]
    entry = found["arms"][0]
    assert f"{100 * entry['mean']:.1f}" in said and "not unlimited" in said
    assert "of one seed" in said and "±" not in said and entry["sd"] is None
    assert "minilmv2 is" in said and "95 % interval" in said
    assert found["verdict"][-1].startswith("Intervals are over test examples and seeds")
    assert found["arms"][2]["remarks"] == ["tinybert without its attention term: 1 heads cannot be compared with 2"]
    assert (tmp_path / "out" / "quality_over_budget.png").stat().st_size > 5_000
    run_main(*command)
    assert results(tmp_path) == found and len(trained) == 8
    others = ["--arms", "no_kd", "untrained", "pro_kd", "homodistil", "--regimes", "unlimited"]
    run_main(*command, *others, *trajectory(masked_words[1], 5, 9), "--pretraining_share", "0.3")
    assert [arm for _, arm in trained[8:]] == ["untrained", "pro_kd", "homodistil"]  # no_kd is the same cell as before
    no_kd, untrained, *others = results(tmp_path)["arms"]
    assert_equal_budgets([no_kd, *others], 7e8, apart=0.013)  # one step of homodistil's
    (point,) = untrained["curve"]
    assert point["flops"] == point["tokens"] == untrained["spent"][0]["seconds"] == 0 < untrained["mean"]
    said = results(tmp_path)["verdict"]
    assert (
        all(any(start in line for line in said) for start in ("untrained is", "homodistil is"))
        and "untrained:" in said[-2]
    )
    assert float(said[0].split()[1]) >= 7e8
    with pytest.raises(ValueError, match="holds a cell with"):
        run_main(*masked_words, *places, "--max_flops", "2e9", "--seeds", "0")


def assert_equal_budgets(entries, budget, apart=0.01):
    costs = [spent["flops"] for entry in entries for spent in entry["spent"]]
    assert max(costs) / min(costs) < 1 + apart and min(costs) >= budget
    for entry in entries:
        assert [point["flops"] for point in entry["curve"]] == pytest.approx([budget / 2, budget], rel=0.05)


def test_stages_checkpoints_and_a_shrinking_student_share_the_budget_and_go_on(
    run_main, script, places, classifier, trained, tmp_path, capsys, monkeypatch
):
    seen, snapshot = [], sys.modules["budget_arms"].Snapshots.on_step_end

    def noting(self, args, state, control, **kwargs):
        snapshot(self, args, state, control, **kwargs)
        seen.append((Path(args.output_dir).name, state.global_step))
        if seen[-1] in stops:
            stops.remove(seen[-1])
            raise KeyboardInterrupt

    stops = {("pretraining", 30), ("distillation", 30), ("final_stage", 30)}
    monkeypatch.setattr(sys.modules["budget_arms"].Snapshots, "on_step_end", noting)
    command = [*classifier, *places, "--max_flops", "6e8", "--regimes", "limited", "--seeds", "0", "--save_steps", "25"]
    command += [*trajectory(classifier[1], 5, 9), "--arms", "no_kd", "pd", "pro_kd", "homodistil"]
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            run_main(*command)
    run_main(*command)
    for stage in ("pretraining", "distillation", "final_stage"):
        steps = [step for name, step in seen if name == stage]
        assert steps == [*range(1, 31), *range(26, steps[-1] + 1)] and len(steps) > 40, stage
    assert [step for name, step in seen if name == "general_stage"].count(1) == 1
    assert trained == [("limited", arm) for arm in ("no_kd", "pd", "pd", "pd", "pro_kd", "pro_kd", "homodistil")]
    entries, said = results(tmp_path)["arms"], capsys.readouterr().out
    assert_equal_budgets(entries, 6e8)
    no_kd, pd, pro_kd, homodistil = (entry["spent"][0] for entry in entries)
    assert no_kd["teacher_flops"] == 0 < homodistil["pruning_flops"]
    first = entries[1]["curve"][0]["flops"]  # masked words, without a teacher
    assert 0 < pd["teacher_flops"] < pd["flops"] - first and 0 < pro_kd["teacher_flops"] < 0.75 * 6e8
    assert "homodistil ends with 2 layers, not 1: it narrows its teacher" in entries[3]["remarks"]
    assert "Note: pd reads the unlabeled texts of the corpus" in said
    cells = {path.parent.name: json.loads(path.read_text()) for path in (tmp_path / "out").glob("*/result.json")}
    settings = {name.split("_limited_")[1][:4]: set(cell["settings"]) for name, cell in cells.items()}
    assert settings["pd_0"] - settings["no_k"] == {"pretraining_share"} and "pretraining_share" not in settings["pro_"]
    assert {"teacher_checkpoints", "final_stage_budget"} <= settings["pro_"] - settings["no_k"]
    assert "pruning_events" in settings["homo"] and not settings["no_k"] - settings["homo"]


def test_on_the_task_itself_in_seconds(run_main, places, classifier, trained, tmp_path, capsys):
    arms = ["--arms", "no_kd", "vanilla_kd", "--regimes", "limited", "--seeds", "0", "1"]
    rates = ["--learning_rates", "1e-3", "1e-4", "--fine_tuning_steps", "0"]
    run_main(*classifier, *places, *arms, *rates, "--max_seconds", "1.0")
    entries = results(tmp_path)["arms"]
    assert all(spent["seconds"] == pytest.approx(1.0, rel=0.3) for entry in entries for spent in entry["spent"])
    assert all(entry["learning_rate"] in (1e-3, 1e-4) for entry in entries) and "seconds" in capsys.readouterr().out
    assert [arm for _, arm in trained] == ["no_kd"] * 3 + [
        "vanilla_kd"
    ] * 3  # two rates with a seed, the better with the other
    assert all(len(entry["accuracies"]) == 2 for entry in entries)


@pytest.mark.parametrize("more", [["--stage", "classification"], ["--fine_tuning_steps", "0"], ["--arms", "untrained"]])
def test_a_student_without_the_stage_has_to_be_fine_tuned(run_main, places, masked_words, more):
    with pytest.raises(ValueError, match="arm untrained is fine-tuned without the stage"):
        run_main(*masked_words, *places, "--max_flops", "7e8", "--arms", "no_kd", "untrained", *more)


def test_the_verdict_says_what_is_shown(script):
    base = [[1, 0] * 200]
    better = [[1, 0, 1, 1] * 100]

    def entry(arm, correct):
        return {"regime": "limited", "arm": arm, "correct": correct, "readings": 3.0, "spent": [{"flops": 1e9}]}

    said = script.verdict(
        [entry("no_kd", base), entry("a", better), entry("b", base), entry("c", [[0] * 400])], "flops"
    )
    assert "a is better than no_kd: +25.0 points" in said[1]
    assert "b is not shown to differ from no_kd: +0.0 points" in said[2]
    assert "c is worse than no_kd: -50.0 points" in said[3]
    assert "0.00 % apart" in said[0] and not any("single step" in line for line in said)
    unequal = [entry("no_kd", base), entry("a", better) | {"spent": [{"flops": 1.02e9}]}]
    assert (
        "2.00 % apart" in script.verdict(unequal, "flops")[0] and "a single step" in script.verdict(unequal, "flops")[1]
    )
    gap, low, high = script.difference([[1, 0] * 200], [[1, 1, 0, 0] * 100])
    assert gap == 0 and low < 0 < high and high - low == pytest.approx(2 * 1.96 * 0.5**0.5 / 20, rel=0.1)


def test_the_verdict_doubts_what_seeds_disagree_about(script):
    wrong, right = [0] * 400, [1] * 300 + [0] * 100
    gap, low, high = script.difference([right, right, wrong], [wrong, wrong, [1] * 100 + [0] * 300])
    assert gap == pytest.approx(5 / 12) and low < 0 < high  # over examples alone: 0.37 to 0.46
    gap, low, high = script.difference([right, right, right], [wrong, wrong, [1] * 100 + [0] * 300])
    assert 0 < low < gap < high


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (dict(stage="task"), r"stage must be of \['masked_lm', 'classification'\], got 'task'"),
        (dict(regimes=["some"]), r"regimes must be of .* got \['some'\]"),
        (dict(arms=["no_kd", "magic"]), r"arms must be of \['no_kd', 'untrained', 'tinybert'.* got \['magic'\]"),
        (dict(limited_fraction=0.0), r"limited_fraction must be above 0 and at most 1, got 0\.0"),
        (dict(points=0), "points must be at least 1"),
        (dict(pretraining_share=1.0), r"pretraining_share must be above 0 and below 1, got 1\.0"),
        (dict(dataset_name=None), "the task must come from dataset_name or train_file"),
    ],
)
def test_bad_arguments(script, overrides, message):
    given = dict(teacher_model_name_or_path="teacher", dataset_name="movie_reviews") | overrides
    with pytest.raises(ValueError, match=message):
        script.ComparisonArguments(**given)


def test_what_cannot_be_compared_is_refused_before_anything_is_trained(
    run_main, places, masked_words, classifier, trained, tmp_path
):
    budget = ["--max_flops", "1e9"]
    of_classifier = trajectory(classifier[1], 5)
    other = save_bert(tmp_path / "other", hidden_size=64, layers=2, seed=1, labels=["negative", "positive"])
    reviews = write_csv(tmp_path / "other.csv", ["text", "label"], [(text, f"{label}!") for text, label in REVIEWS])
    for given, message in (
        (masked_words, "one budget, --max_flops or --max_seconds; got both or none"),
        ([*masked_words, *budget, "--max_steps", "9"], "max_steps must be -1, got 9"),
        ([*masked_words, *budget, "--target_hidden_size", "64"], r"must be None, got \{'target_hidden_size': 64\}"),
        ([*masked_words, *budget, "--arms", "pd"], "stage must be 'classification', got 'masked_lm'"),
        ([*masked_words, *budget, "--arms", "pro_kd"], "pass --teacher_checkpoints, got none"),
        (
            [*masked_words, *budget, "--arms", "pro_kd", *of_classifier],
            r"in stage masked_lm the checkpoints must be of a model \.\.\.ForMaskedLM, got 'BertForSequenceClassification'",
        ),
        (
            [*classifier, *budget, "--arms", "pro_kd", *trajectory(other, 5)],
            "must be of the teacher that the other arms have: hidden_size is 64",
        ),
        (
            [*classifier, *budget, "--arms", "pro_kd", *of_classifier, "--final_stage_steps", "9"],
            "final_stage_steps must be -1, got 9",
        ),
        (
            [*classifier, *budget, "--arms", "homodistil", "--student", "1/192"],
            "size of --student 1/192: the student has hidden_size 128 and cannot shrink to 192",
        ),
        ([*classifier, *budget, "--train_file", reviews], r"classes must be \['negative!', 'positive!'\], got"),
    ):
        with pytest.raises(ValueError, match=message):
            run_main(*places, *given)
    assert trained == []


def test_rows_without_a_label_are_no_class_and_are_not_judged(script):
    rows = datasets.Dataset.from_dict({"label": ["None", "good", None, "None"]})
    assert script.class_names(rows) == ["None", "good"]
    output = EvalPrediction(np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), np.array([0, -100, 0]))
    assert script.is_right(output) == [1, 0]

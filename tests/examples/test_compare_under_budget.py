"""The comparison under a budget on a few sentences with tiny random models, in this process."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import AutoConfig, BertForMaskedLM

from tests.examples.test_run_glue import QUIET, REVIEWS, TEXTS, save_bert, write_csv

SHORT = ["--max_seq_length", "8", "--points", "2", "--fine_tuning_steps", "3", "--learning_rates", "1e-3"]
SHORT += [
    "--per_device_train_batch_size",
    "2",
    "--student",
    "1/64",
    "--limited_fraction",
    "0.3",
    "--logging_steps",
    "1",
]


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


def results(tmp_path):
    return json.loads((tmp_path / "out" / "results.json").read_text())


def test_arms_get_the_same_budget_and_nothing_is_run_twice(
    run_main, script, places, masked_words, tmp_path, capsys, monkeypatch
):
    trained = []
    train = script.Comparison._train
    monkeypatch.setattr(script.Comparison, "_train", lambda self, *a: trained.append(a[:2]) or train(self, *a))
    command = [*masked_words, *places, "--max_flops", "1.5e9", "--seeds", "0", "1"]
    run_main(*command)
    found, said = results(tmp_path), capsys.readouterr().out
    arms = [("unlimited", arm) for arm in ("no_kd", "vanilla_kd", "tinybert", "minilmv2")]
    arms += [("limited", arm) for _, arm in arms]
    assert [(entry["regime"], entry["arm"]) for entry in found["arms"]] == arms
    assert trained == [arm for arm in arms for _ in range(2)]
    for regime in ("unlimited", "limited"):
        entries = [entry for entry in found["arms"] if entry["regime"] == regime]
        costs = [spent["flops"] for entry in entries for spent in entry["spent"]]
        assert max(costs) / min(costs) < 1.01 and min(costs) >= 1.5e9
        assert (
            entries[0]["readings"] > 1.5 * entries[1]["readings"]
        )  # what the teacher takes is not read by the student
        assert [entry["spent"][0]["teacher_flops"] > 0 for entry in entries] == [False, True, True, True]
    entry = found["arms"][0]
    assert f"{100 * entry['mean']:.1f} ± {100 * entry['sd']:.1f}" in said and "not unlimited" in said
    assert len(entry["curve"]) == 2 and entry["curve"][0]["flops"] == pytest.approx(0.75e9, rel=0.05)
    assert "minilmv2 is" in said and "95 % interval" in said
    assert found["verdict"][-1].startswith("Intervals are over test examples")
    assert found["arms"][2]["remarks"] == ["tinybert without its attention term: 1 heads cannot be compared with 2"]
    assert (tmp_path / "out" / "quality_over_budget.png").stat().st_size > 5_000
    run_main(*command)
    assert results(tmp_path) == found and len(trained) == 16
    with pytest.raises(ValueError, match="holds a cell with"):
        run_main(*masked_words, *places, "--max_flops", "2e9", "--seeds", "0")


def test_on_the_task_itself_in_seconds(run_main, places, tmp_path, capsys):
    teacher = save_bert(tmp_path / "classifier", hidden_size=128, layers=2, seed=1, labels=["negative", "positive"])
    arms = ["--arms", "no_kd", "vanilla_kd", "--regimes", "limited", "--seeds", "0", "--stage", "classification"]
    rates = ["--learning_rates", "1e-3", "1e-4", "--fine_tuning_steps", "0"]
    run_main("--teacher_model_name_or_path", teacher, *places, *arms, *rates, "--max_seconds", "1.0")
    entries = results(tmp_path)["arms"]
    assert all(entry["spent"][0]["seconds"] == pytest.approx(1.0, rel=0.3) for entry in entries)
    assert all(entry["learning_rate"] in (1e-3, 1e-4) for entry in entries) and "seconds" in capsys.readouterr().out


def test_the_verdict_says_what_is_shown(script):
    base = [1, 0] * 200
    better = [1, 0, 1, 1] * 100

    def entry(arm, correct):
        return {"regime": "limited", "arm": arm, "correct": correct, "readings": 3.0, "spent": [{"flops": 1e9}]}

    said = script.verdict([entry("no_kd", base), entry("a", better), entry("b", base), entry("c", [0] * 400)], "flops")
    assert "a is better than no_kd: +25.0 points" in said[1]
    assert "b is not shown to differ from no_kd: +0.0 points" in said[2]
    assert "c is worse than no_kd: -50.0 points" in said[3]
    assert "0.00 % apart" in said[0] and not any("single step" in line for line in said)
    unequal = [entry("no_kd", base), entry("a", better) | {"spent": [{"flops": 1.02e9}]}]
    assert (
        "2.00 % apart" in script.verdict(unequal, "flops")[0] and "a single step" in script.verdict(unequal, "flops")[1]
    )
    gap, low, high = script.difference([1, 0] * 200, [1, 1, 0, 0] * 100)
    assert gap == 0 and low < 0 < high and high - low == pytest.approx(2 * 1.96 * 0.5**0.5 / 20, rel=0.1)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (dict(stage="task"), r"stage must be of \['masked_lm', 'classification'\], got 'task'"),
        (dict(regimes=["some"]), r"regimes must be of .* got \['some'\]"),
        (dict(arms=["no_kd", "magic"]), r"arms must be of \['no_kd', 'tinybert'.* got \['magic'\]"),
        (dict(limited_fraction=0.0), r"limited_fraction must be above 0 and at most 1, got 0\.0"),
        (dict(points=0), "points must be at least 1"),
        (dict(dataset_name=None), "the task must come from dataset_name or train_file"),
    ],
)
def test_bad_arguments(script, overrides, message):
    given = dict(teacher_model_name_or_path="teacher", dataset_name="movie_reviews") | overrides
    with pytest.raises(ValueError, match=message):
        script.ComparisonArguments(**given)


def test_a_comparison_needs_one_budget(run_main, places, masked_words):
    with pytest.raises(ValueError, match="one budget, --max_flops or --max_seconds; got both or none"):
        run_main(*masked_words, *places)

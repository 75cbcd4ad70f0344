"""The ablation grid on a few sentences with tiny random models, in this process."""

from __future__ import annotations

import json

import pytest

from tests.examples.test_run_glue import QUIET, REVIEWS, TEXTS, save_bert, write_csv

STEPS = ["--pretraining_steps", "2", "--distillation_steps", "3", "--fine_tuning_steps", "3", "--max_seq_length", "12"]


@pytest.fixture
def run(run_main, tmp_path):
    """Answers a question; returns its entries."""
    (tmp_path / "corpus.txt").write_text("\n".join(TEXTS * 3) + "\n", encoding="utf-8")
    held_out = [(f"{text} film", label) for text, label in REVIEWS]
    train = write_csv(tmp_path / "train.csv", ["text", "label"], REVIEWS)
    validation = write_csv(tmp_path / "validation.csv", ["text", "label"], held_out)
    teacher = save_bert(tmp_path / "teacher", hidden_size=64, layers=2, seed=1, labels=["negative", "positive"])
    places = ["--corpus", str(tmp_path / "corpus.txt"), "--transfer_set", str(tmp_path / "corpus.txt")]
    places += ["--train_file", train, "--validation_file", validation]

    def call(question: str, *arguments: str) -> list[dict]:
        command = [
            "--question",
            question,
            "--teacher_model_name_or_path",
            teacher,
            "--output_dir",
            str(tmp_path / "out"),
        ]
        run_main(*command, *places, *STEPS, "--seeds", "0", "1", *arguments, *QUIET)
        assert (tmp_path / "out" / f"{question}.png").stat().st_size > 5_000
        found = json.loads((tmp_path / "out" / f"{question}.json").read_text())
        assert found["conditions"]["stages"]["distillation"]["steps"] == 3 and found["conditions"]["seeds"] == [0, 1]
        return found if question == "reduction" else found["cells"]

    return call


def test_every_start_meets_every_size_and_nothing_is_run_twice(run, script, tmp_path, capsys, monkeypatch):
    runs = []
    pipeline = script.Pipeline.run
    monkeypatch.setattr(script.Pipeline, "run", lambda self: runs.append(self.args.initialization) or pipeline(self))
    sizes = ["--students", "1/64", "2/64"]
    entries = run("initialization", *sizes, "--initializations", "random", "truncated")
    assert [(entry["row"], entry["column"]) for entry in entries] == [
        ("random", "1/64"), ("random", "2/64"), ("truncated", "1/64"), ("truncated", "2/64"),
    ]  # fmt: skip
    assert all(len(entry["accuracies"]) == 2 for entry in entries) and len(runs) == 8
    mean, sd = entries[0]["mean"], entries[0]["sd"]
    assert f"{100 * mean:.1f} ± {100 * sd:.1f}" in capsys.readouterr().out
    assert run("initialization", *sizes, "--initializations", "random", "truncated") == entries and len(runs) == 8
    more = run("initialization", *sizes, "--initializations", "random", "truncated", "pretraining")
    assert more[:4] == entries and runs[8:] == ["random"] * 4


def test_arms_of_a_size_share_one_pretraining(run, script, tmp_path, monkeypatch):
    trained = []
    train = script.Pipeline._train

    def counted(self, folder, *args, **kwargs):
        if not (folder / "finished.json").exists():
            trained.append(folder.name)
        return train(self, folder, *args, **kwargs)

    monkeypatch.setattr(script.Pipeline, "_train", counted)
    entries = run("arms", "--students", "1/64", "--arms", "PD", "PD-F", "PF", "TF")
    assert [entry["column"] for entry in entries] == ["PD", "PD-F", "PF", "TF"]
    stages = ["pretraining", "+distillation", "+fine_tuning"]
    names = ["".join(stages[:1]), "".join(stages[:2]), "".join(stages), stages[0] + stages[2], "fine_tuning"]
    assert sorted(trained) == sorted(names * 2)  # each once per seed
    run("initialization", "--students", "1/64", "--initializations", "pretraining")
    assert len(trained) == 10


def test_transfer_sets_of_several_sizes_and_sources(run, tmp_path):
    sizes = run("transfer_size", "--students", "1/64", "--transfer_sizes", "3", "6")
    assert [entry["column"] for entry in sizes] == ["3", "6"]
    record = json.loads(next((tmp_path / "out" / "students").glob("D_1-64_random_*_3_0/run.json")).read_text())
    assert record["data"]["train_examples"] == 3
    other = tmp_path / "other.txt"
    other.write_text("a film\nthe plot\n", encoding="utf-8")
    sources = run("transfer_domain", "--students", "1/64", "--transfer_sets", str(other))
    assert [entry["column"] for entry in sources] == [str(other)]


def test_the_smallest_student_near_the_teacher(run, script, tmp_path, capsys):
    sizes = ["--students", "1/64", "2/64", "--initializations", "random"]
    found = run("reduction", *sizes, "--points", "100")
    teacher, (one, two) = found["teacher"], found["cells"]
    assert 0 <= teacher["accuracy"] <= 1 and teacher["parameters"] > two["parameters"] - 1 > one["parameters"]
    assert found["smallest"] == {"random": one} and one["smaller"] == teacher["parameters"] / one["parameters"]
    assert f"random: 1/64, {100 * (teacher['accuracy'] - one['mean']):.1f} behind" in capsys.readouterr().out
    entries = [dict(row="a", column=str(mean), mean=mean, parameters=parameters) for mean, parameters in
               [(0.87, 3), (0.88, 2), (0.89, 4)]]  # fmt: skip
    assert script.smallest_within(1.5, {"accuracy": 0.9}, entries)["a"]["mean"] == 0.89
    assert script.smallest_within(2.5, {"accuracy": 0.9}, entries)["a"]["mean"] == 0.88
    assert script.smallest_within(0.5, {"accuracy": 0.9}, entries) == {"a": None}


def test_depth_against_width_needs_equal_sizes(run, script):
    assert [entry["column"] for entry in run("depth_width", "--shapes", "4/64", "1/128", "--initialization", "random")] == [
        "4/64", "1/128",
    ]  # fmt: skip
    with pytest.raises(ValueError, match=r"equal layers · hidden size², got \[16384, 32768\] for"):
        script.AblationArguments(question="depth_width", shapes=["1/128", "2/128"])
    with pytest.raises(ValueError, match=r"question must be one of \['initialization'.* got 'size'"):
        script.AblationArguments(question="size")

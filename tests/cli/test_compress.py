"""`hf-distill compress`: the plan, its steps in ordinary folders, and their resumption."""

from __future__ import annotations

import json
import re
import shutil

import pytest
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from hf_distill import load_teacher_outputs
from hf_distill.compression import compress as compression
from hf_distill.compression.workspace import Workspace
from hf_distill.publishing.run_record import RunRecord
from tests.cli.commands import invoke, invoke_json
from tests.compression.made import QUICK, save_data, save_teacher

OPTIONS = ["--max_steps", "3", *QUICK, "--batch-sizes", "1", "--lengths", "8"]


@pytest.fixture(scope="module", autouse=True)
def quick_timing():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hf_distill.evaluation.comparison._ENOUGH_MILLISECONDS", 20.0)
        yield


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    folder = tmp_path_factory.mktemp("given")
    return [save_teacher(folder), "--dataset", save_data(folder)]


@pytest.fixture(scope="module")
def compressed(given, tmp_path_factory):
    """The folder of a compression, and what the command printed."""
    folder = tmp_path_factory.mktemp("compressed") / "out"
    return folder, invoke("compress", *given, "--target", "3x", "--output-dir", folder, *OPTIONS).output


def test_every_step_leaves_an_ordinary_folder(compressed):
    folder, printed = compressed
    for name in ("start", "student"):
        model = AutoModelForSequenceClassification.from_pretrained(folder / name)
        assert model.config.num_hidden_layers == 1
        assert len(AutoTokenizer.from_pretrained(folder / name)) == model.config.vocab_size < 100
    assert "teacher_logits" in load_teacher_outputs(folder / "teacher-outputs").column_names
    assert (folder / "export" / "model_quantized.onnx").exists() and (folder / "evaluation.png").exists()
    assert "1 of 4 layers (0)" in " ".join(printed.split()) and "Compared on the split test" in printed


def test_the_student_has_a_record_of_its_teacher_and_a_card_with_its_export(compressed):
    record = RunRecord.load(compressed[0] / "student")
    assert record.teacher["name"] == "teacher" and record.student["initialization"] == "truncated"
    assert record.exports["rows"][1]["format"] == "onnx-int8"
    assert "onnx-int8" in (compressed[0] / "student" / "README.md").read_text()


def test_the_comparison_has_teacher_and_student_in_both_formats_with_intervals(compressed):
    found = json.loads((compressed[0] / "evaluation.json").read_text())
    assert [(row["name"], row["format"]) for row in found["rows"]] == [
        ("teacher", "fp32"), ("student", "fp32"), ("student", "onnx-int8"),
    ]  # fmt: skip
    teacher, *_, student = found["rows"]
    assert student["against_teacher"]["low"] <= student["against_teacher"]["high"]
    assert student["latency"][0]["format"] == "onnx-int8" and student["parameters"] * 3 <= teacher["parameters"]


def test_the_same_call_does_nothing_again(compressed, given, monkeypatch):
    monkeypatch.setattr(compression, "train_candidate", None)
    again = invoke("compress", *given, "--target", "3x", "--output-dir", compressed[0], *OPTIONS).output
    assert "distill: finished before" in again and "compare: finished before" in again


def test_another_plan_in_the_folder_is_refused_by_name(compressed, given):
    other = invoke("compress", *given, "--target", "2x", "--output-dir", compressed[0], *OPTIONS, exit_code=1).output
    assert "its --target is '3x', now it is '2x'" in " ".join(other.split())
    longer = [*OPTIONS, "--max_steps", "5"]
    other = invoke("compress", *given, "--target", "3x", "--output-dir", compressed[0], *longer, exit_code=1).output
    assert "its --max_steps is 3, now it is 5" in " ".join(other.split())


def test_killed_between_steps_it_goes_on_to_the_same_student(compressed, given, tmp_path, monkeypatch):
    folder = tmp_path / "out"
    call = ["compress", *given, "--target", "3x", "--output-dir", folder, *OPTIONS, "--format", "fp32"]
    for step in ("label", "distill"):
        with monkeypatch.context() as patch:
            patch.setattr(Workspace, "once", killed_after(step))
            invoke(*call, exit_code=130)
    said = invoke(*call).output
    assert "label: finished before" in said and "distill: finished before" in said and "compare: finished" not in said
    whole, resumed = (RunRecord.load(each / "student").student["weights_sha256"] for each in (compressed[0], folder))
    assert whole == resumed


def killed_after(step, once=Workspace.once):
    def interrupted(self, name, work):
        found = once(self, name, work)
        if name == step:
            raise KeyboardInterrupt
        return found

    return interrupted


def test_the_plan_alone_says_what_and_why_and_writes_nothing(given, tmp_path):
    plan = invoke("compress", *given, "--target", "3x", "--output-dir", tmp_path / "out", "--plan", *OPTIONS).output
    words = " ".join(re.sub(r"[│\s]+", " ", plan).split())
    assert "label" in words and "the most layers that meet the target" in words and "3 steps on the 48 texts" in words
    assert not (tmp_path / "out").exists()
    content = invoke_json("compress", *given, "--target", "3x", "--output-dir", tmp_path / "out", "--dry-run", *OPTIONS)
    assert [step["name"] for step in content["plan"]["steps"]] == [
        "teacher", "label", "trim", "truncate", "distill", "export",
    ]  # fmt: skip


def test_below_one_layer_of_the_teachers_width_a_narrower_shape_is_planned(given, tmp_path):
    teacher = save_teacher(tmp_path, 256, 2)
    call = ["compress", teacher, *given[1:], "--target", "3.5x", "--output-dir", tmp_path / "out", "--plan", *OPTIONS]
    plan = invoke_json(*call)["plan"]
    assert (plan["candidate"]["layers"], plan["candidate"]["hidden_size"]) == (2, 128)
    first, narrow = plan["steps"][0], plan["steps"][3]
    assert narrow["name"] == "narrow" and narrow["parameters"] * 3.5 <= first["parameters"]


def test_a_target_that_fewer_tokens_meet_needs_no_training(given, tmp_path):
    folder = tmp_path / "out"
    printed = invoke(
        "compress", *given, "--target", "1.001x", "--output-dir", folder, *OPTIONS, "--format", "fp32"
    ).output
    assert "distill" not in printed and not (folder / "teacher-outputs").exists() and not (folder / "export").exists()
    teacher, student = json.loads((folder / "evaluation.json").read_text())["rows"]
    assert student["metrics"]["accuracy"] == teacher["metrics"]["accuracy"]
    assert student["fidelity"]["teacher_kl"] < 1e-6 and student["parameters"] < teacher["parameters"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--target", "1x"], "above 1x, such as 10x; got '1x'"),
        (["--target", "ten"], "got 'ten'"),
        (
            ["--target", "1000x"],
            r"no student has 1000 times fewer.*the smallest with this vocabulary has [\d,]+, [\d.]+x",
        ),
        (["--target", "3x", "--layers", "middle"], "layers must be one of"),
        (["--target", "3x", "--format", "onnx-int4"], "format must be one of fp32, onnx, onnx-fp16, onnx-int8"),
        (["--target", "3x", "--vocabulary", "few"], "a vocabulary is full, texts or a number of tokens, got 'few'"),
        (["--target", "3x", "--require-agreement", "2"], "require_agreement must be above 0 and at most 1, got 2"),
        (["--target", "3x", "--recipe", "patient_kd"], "students learn from outputs that are recorded once"),
    ],
)
def test_mistakes_are_found_before_any_work(options, message, given, tmp_path):
    said = invoke("compress", *given, "--output-dir", tmp_path / "out", *options, *OPTIONS, exit_code=1).output
    assert re.search(f"Error: .*{message}", " ".join(said.split())) and not (tmp_path / "out").exists()


def test_labels_that_the_teacher_does_not_know_are_refused_before_it_labels(given, tmp_path):
    (tmp_path / "data.csv").write_text("\n".join(["text,label", *(f"w{row + 4} w9,good" for row in range(24))]))
    call = [
        "compress",
        given[0],
        "--dataset",
        tmp_path / "data.csv",
        "--target",
        "3x",
        "--output-dir",
        tmp_path / "out",
    ]
    assert "the label 'good'" in " ".join(invoke(*call, *OPTIONS, exit_code=1).output.split())
    assert not (tmp_path / "out").exists()


def test_a_folder_of_something_else_is_left_alone(given, tmp_path):
    shutil.copytree(given[0], tmp_path / "out")
    said = invoke("compress", *given, "--target", "3x", "--output-dir", tmp_path / "out", *OPTIONS, exit_code=1).output
    assert "is not empty and has no request.json" in " ".join(said.split())

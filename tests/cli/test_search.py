"""`hf-distill search`: limits, successive halving, and a search that is killed and resumed."""

from __future__ import annotations

import json
import re

import pytest

from hf_distill.compression import search as searching
from hf_distill.compression.workspace import Workspace
from hf_distill.publishing.run_record import RunRecord
from tests.cli.commands import invoke, invoke_json
from tests.cli.test_compress import killed_after
from tests.compression.made import QUICK, save_data, save_teacher

OPTIONS = ["--max_steps", "9", *QUICK, "--length", "8", "--runs", "2", "--formats", "fp32", "--widths", "64,128"]
OPTIONS += ["--depths", "1,2"]
SMALL = ["--max-parameters", "300k"]


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
def searched(given, tmp_path_factory):
    """The folder of a search, and what the command printed."""
    folder = tmp_path_factory.mktemp("searched") / "out"
    return folder, invoke("search", *given, *SMALL, "--output-dir", folder, *OPTIONS).output


def test_the_best_student_has_record_and_card_and_there_is_a_table_and_a_plot(searched):
    folder, printed = searched
    found = json.loads((folder / "search.json").read_text())
    assert found["data"]["split"] == "validation" and found["rows"][0]["role"] == "teacher"
    best = max(found["rows"][1:], key=lambda row: row["metrics"]["accuracy"])
    record = RunRecord.load(folder / "student")
    assert record.student["parameters"] <= 300_000 and record.evaluation["data"]["split"] == "test"
    assert f"Chosen on validation: {best['name']}" in printed
    assert (folder / "student" / "README.md").exists() and (folder / "search.png").stat().st_size > 10_000


def test_students_are_trained_for_more_steps_only_if_they_are_promoted(searched):
    folder, printed = searched
    steps = {path.name: sorted(int(each.name.split("-")[0]) for each in path.iterdir()) for path in candidates(folder)}
    assert all(found[0] == 1 for found in steps.values()) and [1, 3, 9] in steps.values()
    for name, found in steps.items():
        assert found == [1, 3, 9] or re.search(rf"Stopped after {found[-1]} steps: {name}", printed)


def candidates(folder):
    return list((folder / "candidates").iterdir())


def test_killed_and_resumed_it_finds_the_same(searched, given, tmp_path, monkeypatch):
    whole = json.loads((searched[0] / "finished.json").read_text())
    trained = [step for step in whole if step.endswith(" steps")]
    folder = tmp_path / "out"
    call = ["search", *given, *SMALL, "--output-dir", folder, *OPTIONS]
    for step in (trained[0], trained[len(trained) // 2]):
        with monkeypatch.context() as patch:
            patch.setattr(Workspace, "once", killed_after(step))
            invoke(*call, exit_code=130)
    invoke(*call)
    resumed = json.loads((folder / "finished.json").read_text())
    assert {step: resumed[step] for step in trained} == {step: whole[step] for step in trained}
    first, second = (RunRecord.load(each / "student").student["weights_sha256"] for each in (searched[0], folder))
    assert first == second


def test_what_a_limit_rules_out_is_never_trained(given, tmp_path, monkeypatch):
    def predicted(candidates, source, settings):
        return {each.name: 10.0 * each.layers for each in candidates}

    monkeypatch.setattr(searching, "predict_latencies", predicted)
    call = ["search", *given, "--max-latency-ms", "15", "--output-dir", tmp_path / "out", *OPTIONS]
    found = invoke_json(*call, "--plan")
    assert {each["layers"] for each in found["candidates"]} == {1}
    assert {each["layers"] for each in found["excluded"]} == {2}
    assert not (tmp_path / "out" / "candidates").exists()


def test_with_a_floor_the_fastest_student_that_reaches_it_ends_the_search(given, tmp_path, monkeypatch):
    monkeypatch.setattr(
        searching, "predict_latencies", lambda found, *others: {each.name: float(each.layers) for each in found}
    )
    folder = tmp_path / "out"
    call = ["search", *given, "--min-accuracy", "0.01", "--output-dir", folder, *OPTIONS, "--widths", "128"]
    printed = invoke(*call).output
    assert [path.name for path in candidates(folder)] == ["1x128-truncated-bottom-texts"]
    assert "Chosen on validation: 1x128-truncated-bottom-texts in fp32" in printed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "pass at least one of --max-latency-ms, --max-parameters and --min-accuracy"),
        (["--max-parameters", "1k"], r"no candidate has at most 1,000 parameters: the smallest, 1x64-\S+, has [\d,]+"),
        (["--max-parameters", "few"], "max_parameters must be a number, such as 800000 or 5M, got 'few'"),
        (["--min-accuracy", "80"], r"min_accuracy must be above 0 and at most 1 \(0.8 is 80 %\), got 80"),
        (["--max-latency-ms", "0"], "max_latency_ms must be above 0, got 0"),
        ([*SMALL, "--depths", "5"], "layers of students must be from 1 to the teacher's 4, got 5"),
        ([*SMALL, "--widths", "256"], "hidden sizes of students must be from 1 to the teacher's 128, got 256"),
        ([*SMALL, "--initializations", "pretrained"], "initializations cannot have 'pretrained'"),
        ([*SMALL, "--formats", "onnx-int4"], "format must be one of"),
    ],
)
def test_mistakes_are_found_before_any_work(options, message, given, tmp_path):
    call = ["search", *given, "--output-dir", tmp_path / "out", *OPTIONS, *options]
    said = " ".join(invoke(*call, exit_code=1).output.split())
    assert re.search(f"Error: .*{message}", said) and not (tmp_path / "out").exists()


def test_too_slow_names_the_fastest(given, tmp_path, monkeypatch):
    monkeypatch.setattr(searching, "predict_latencies", lambda found, *others: {each.name: 7.0 for each in found})
    call = ["search", *given, "--max-latency-ms", "5", "--output-dir", tmp_path / "out", *OPTIONS]
    said = " ".join(invoke(*call, exit_code=1).output.split())
    assert re.search(r"no candidate takes at most 5 ms: the fastest, \S+, takes 7 ms on this machine", said)


def test_students_are_never_chosen_on_the_test_split(tmp_path):
    teacher, data = save_teacher(tmp_path), save_data(tmp_path, ("train", "test"))
    call = ["search", teacher, "--dataset", data, *SMALL, "--output-dir", tmp_path / "out", *OPTIONS]
    assert "never on the test split; there is none" in " ".join(invoke(*call, exit_code=1).output.split())

"""bfloat16 is chosen where it was measured to be faster, once per machine, and by all processes alike."""

import json

import pytest
import torch

from hf_distill.compute import precision
from hf_distill.compute.precision import MIN_SPEEDUP, SPEEDUP_VARIABLE, bfloat16_speedup, fast_bfloat16
from hf_distill.hardware import hardware_name


@pytest.fixture
def measurements(monkeypatch, tmp_path):
    """An empty cache; the list grows by one at each measurement, which finds a speedup of 2."""
    made = []
    monkeypatch.setenv("HF_DISTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(precision, "_measured", {})
    monkeypatch.delenv(SPEEDUP_VARIABLE, raising=False)
    monkeypatch.setattr(precision, "_measure", lambda: made.append(1) or 2.0)
    return made


def test_a_machine_is_measured_once(measurements, monkeypatch, tmp_path):
    assert [bfloat16_speedup(), bfloat16_speedup()] == [2.0, 2.0] and len(measurements) == 1
    monkeypatch.setattr(precision, "_measured", {})  # another process
    assert bfloat16_speedup() == 2.0 and len(measurements) == 1
    stored = json.loads((tmp_path / "cache" / "bfloat16_speedups.json").read_text())
    assert stored == {f"{hardware_name('cpu')}, torch {torch.__version__}": 2.0}
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 1)
        bfloat16_speedup()
    finally:
        torch.set_num_threads(threads)
    assert len(measurements) == 2, "another number of threads is another machine"


@pytest.mark.parametrize(("speedup", "fast"), [(0.5, False), (MIN_SPEEDUP - 0.01, False), (MIN_SPEEDUP, True)])
def test_a_cpu_is_fast_from_a_speedup_on(monkeypatch, speedup, fast):
    monkeypatch.setattr(precision, "bfloat16_speedup", lambda: speedup)
    assert fast_bfloat16("cpu") is fast and fast_bfloat16(torch.device("cpu")) is fast


def test_a_damaged_cache_is_measured_anew(measurements, tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "bfloat16_speedups.json").write_text("{")
    assert bfloat16_speedup() == 2.0 and len(measurements) == 1


@pytest.mark.parametrize(("processes", "expected"), [("1", 2.0), ("2", 1.0)])
def test_processes_that_cannot_share_a_measurement_stay_in_single_precision(
    measurements, monkeypatch, tmp_path, processes, expected
):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HF_DISTILL_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.setenv("WORLD_SIZE", processes)
    assert bfloat16_speedup() == expected


@pytest.mark.parametrize(("of_this_machine", "expected"), [("4", 2.0), ("2", 1.0)])
def test_processes_of_several_machines_stay_in_single_precision(measurements, monkeypatch, of_this_machine, expected):
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", of_this_machine)
    assert bfloat16_speedup() == expected


def test_the_environment_replaces_the_measurement(measurements, monkeypatch):
    monkeypatch.setenv(SPEEDUP_VARIABLE, "1.5")
    assert bfloat16_speedup() == 1.5 and fast_bfloat16("cpu") and not measurements
    for wrong in ("fast", "0", "-1", "nan"):
        monkeypatch.setenv(SPEEDUP_VARIABLE, wrong)
        with pytest.raises(ValueError, match=f"must be a number above 0, such as 1, got '{wrong}'"):
            bfloat16_speedup()


def test_the_measurement_leaves_no_trace():
    before = torch.get_rng_state()
    assert 0.01 < precision._measure() < 100
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.is_autocast_enabled("cpu")


def test_the_record_says_which_precision_and_why(student, sentences, tokenizer, tmp_path, monkeypatch):
    from hf_distill import DistillationTrainer, DistillationTrainingArguments
    from hf_distill.publishing.run_record import RunRecord
    from hf_distill.trainers import distillation_arguments

    if torch.accelerator.is_available():
        pytest.skip("the choice on a CPU")
    monkeypatch.setattr(precision, "bfloat16_speedup", lambda: 2.5)
    monkeypatch.setattr(distillation_arguments, "bfloat16_speedup", lambda: 2.5)
    kept = {}
    for name, chosen in {"measured": None, "told": False}.items():
        args = DistillationTrainingArguments(
            str(tmp_path / name), max_steps=1, report_to="none", bf16=chosen, use_cpu=True, save_strategy="no",
            soft_label_weight=0.0, hard_label_weight=1.0,
        )  # fmt: skip
        trainer = DistillationTrainer(student, args, train_dataset=sentences, processing_class=tokenizer)
        trainer.train()
        trainer.save_model()
        kept[name] = RunRecord.load(tmp_path / name).training
    assert kept["measured"]["settings"]["precision"] == "bfloat16 autocast, weights in float32"
    assert kept["measured"]["bfloat16_speedup"] == 2.5
    assert kept["told"]["settings"]["precision"] == "float32" and "bfloat16_speedup" not in kept["told"]

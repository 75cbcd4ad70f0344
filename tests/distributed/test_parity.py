"""One process, DDP, ZeRO 0 to 3 and FSDP2: the same losses over 12 steps, the same metrics, the same weights."""

import pytest
import torch

from hf_distill.fingerprints import weights_sha256
from tests.distributed.scenarios import (
    ADAPTED,
    EVALUATED_FIRST,
    REFUSED,
    RUNS,
    SCENARIOS,
    STEPS,
    TEACHER_IN_PARTS,
    WHOLE_BATCH,
    outcome,
    save_models,
    trainer,
)
from tests.distributed.workers import on_two_processes
from tests.tiny_models import tiny_bert
from tests.trainers.test_adapters import with_adapter

pytest.importorskip("deepspeed")
pytest.importorskip("peft")

CLASS_OF = {"ddp": "DistributedDataParallel", "fsdp2": "FSDP"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parity")
    save_models(folder)
    return folder


@pytest.fixture(scope="module")
def came(folder):
    """What all engines came to, on two processes with accumulation."""
    result = on_two_processes("parity_worker", folder)
    assert (folder / "done").exists(), result.stderr[-3000:]
    return torch.load(folder / "came.pt")


@pytest.fixture(scope="module")
def alone(folder):
    """What one process came to, without accumulation."""
    return {scenario: outcome(trainer(scenario, folder, WHOLE_BATCH, 1)) for scenario in SCENARIOS}


def require_the_same(ours, theirs):
    assert len(ours["losses"]) == len(theirs["losses"]) == STEPS
    assert ours["losses"] == pytest.approx(theirs["losses"], rel=1e-5)
    # 101 examples: the one repeated to fill the last batch of two processes is counted once.
    assert ours["metrics"].keys() == theirs["metrics"].keys()
    for name, value in theirs["metrics"].items():
        assert ours["metrics"][name] == pytest.approx(value, rel=1e-5), name
    assert ours["weights"].keys() == theirs["weights"].keys()
    for name, weight in theirs["weights"].items():
        # The gradient of a key's bias is zero but for rounding, of which AdamW makes a whole step.
        assert name.endswith("key.bias") or (ours["weights"][name] - weight).abs().mean() < 1e-5, name
    assert ours["on_each_process"] == [ours["recorded"]] * ours["world_size"]
    assert ours["teacher"] == theirs["teacher"]


@pytest.mark.parametrize(("engine", "scenario"), RUNS)
def test_an_engine_trains_as_one_process_does(came, alone, engine, scenario):
    ours = came[engine, scenario]
    if (engine, scenario) in REFUSED:
        assert "ZeRO-0, 1 or 2" in ours and ("got ZeRO-3" in ours or "got FSDP" in ours)
        return
    assert ours["world_size"] == 2 and CLASS_OF.get(engine, "DeepSpeedEngine") in ours["engine"]
    assert ours["zero_stage"] == (int(engine[4]) if engine.startswith("zero") else None)
    assert ours["offloaded"] == (engine == "zero2_offload")
    assert ours["student_in_parts"] == (engine in ("zero3", "fsdp2")) and not ours["teacher_in_parts"]
    assert any("encoder.layer.0" in unit for unit in ours["units"]) == (engine == "fsdp2")
    require_the_same(ours, alone[scenario])


@pytest.mark.parametrize(("engine", "scenario"), sorted(TEACHER_IN_PARTS))
def test_a_teacher_in_parts_teaches_the_same(came, alone, engine, scenario):
    ours = came[engine, scenario, "teacher in parts"]
    assert ours["teacher_in_parts"]
    require_the_same(ours, alone[scenario])


@pytest.mark.parametrize("engine", ADAPTED)
def test_adapters_alone_learn_and_can_be_loaded_or_merged(came, engine):
    ours, start = came[engine, "adapters"], with_adapter(tiny_bert()).get_base_model().state_dict()
    learned = {name for name, weight in ours["weights"].items() if not torch.equal(weight, start[name])}
    assert len(learned) == 6 and all("lora_" in name or "modules_to_save" in name for name in learned)
    assert ours["saved"].keys() == ours["weights"].keys()
    assert all(torch.equal(ours["saved"][name], weight) for name, weight in ours["weights"].items())
    student = with_adapter(tiny_bert())
    student.get_base_model().load_state_dict(ours["weights"])
    merged = student.merge_and_unload().state_dict()
    assert ours["merged"].keys() == merged.keys()
    assert all(torch.equal(ours["merged"][name], weight) for name, weight in merged.items())
    assert ours["teacher"] == weights_sha256(tiny_bert(hidden_size=32, layers=2, seed=1))


@pytest.mark.parametrize("engine", EVALUATED_FIRST)
def test_evaluating_first_changes_nothing(came, alone, engine):
    """After an evaluation stock Trainer leaves DDP out without a word, and engines raise."""
    require_the_same(came[engine, "evaluated first"], alone["logits"])


@pytest.mark.parametrize("engine", ADAPTED)
def test_the_better_stage_is_kept_recorded_and_saved(came, engine):
    assert came[engine, "better stage"] == {"kept": "general_stage", "is recorded": True, "is saved": True}

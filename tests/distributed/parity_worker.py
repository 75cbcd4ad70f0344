"""Run by test_parity.py under torchrun on two processes, with the folder to report into."""

from itertools import count
from pathlib import Path

import torch
import torch.distributed
from safetensors.torch import load_file

from hf_distill.fingerprints import weights_sha256
from hf_distill.publishing.run_record import RunRecord
from tests.distributed.scenarios import (
    ADAPTED,
    EVALUATED_FIRST,
    REFUSED,
    RUNS,
    TEACHER_IN_PARTS,
    engine,
    outcome,
    trainer,
)
from tests.distributed.workers import main_of_worker
from tests.tiny_models import encoded_sentences


def main(folder: Path) -> None:
    came = {}
    for name, scenario in RUNS:
        with engine(name) as overrides:
            if (name, scenario) in REFUSED:
                came[name, scenario] = refusal(folder, scenario, overrides)
                continue
            came[name, scenario] = outcome(trainer(scenario, folder, 2, 2, **overrides))
        if (name, scenario) in TEACHER_IN_PARTS:
            with engine(name) as overrides:
                parted = trainer(scenario, folder, 2, 2, teacher_sharding="always", **overrides)
                came[name, scenario, "teacher in parts"] = outcome(parted)
    for name in EVALUATED_FIRST:
        with engine(name) as overrides:
            evaluated_first = trainer("logits", folder, 4, 1, **overrides)
            evaluated_first.evaluate(encoded_sentences(21))
            came[name, "evaluated first"] = outcome(evaluated_first)
    for name in ADAPTED:
        with engine(name) as overrides:
            came[name, "better stage"] = better_stage(folder, overrides)
    if torch.distributed.get_rank() == 0:
        torch.save(came, folder / "came.pt")


def better_stage(folder: Path, overrides: dict) -> dict:
    """What is kept of a student that the final stage makes worse, and whether that is what is recorded and saved."""
    evaluations = count(1)
    progressive = trainer("progressive", folder, 2, 2, **overrides)
    progressive.eval_dataset = encoded_sentences(11)
    progressive.compute_metrics = lambda _: {"accuracy": 1 / next(evaluations)}
    progressive.train()
    weights = weights_sha256(progressive.model)
    progressive.save_model()
    torch.distributed.barrier()
    saved, general = (
        load_file(each / "model.safetensors") for each in (folder / "output", folder / "output/general_stage")
    )
    record = RunRecord.load(folder / "output")
    return {
        "kept": record.training["kept_stage"],
        "is recorded": record.student["weights_sha256"] == weights,
        "is saved": all(torch.equal(saved[name], general[name]) for name in general),
    }


def refusal(folder: Path, scenario: str, overrides: dict) -> str:
    try:
        trainer(scenario, folder, 2, 2, **overrides).train()
    except ValueError as error:
        return str(error)
    return ""


if __name__ == "__main__":
    main_of_worker(main)

"""Run by test_parity.py under torchrun on two processes, with the folder to report into."""

from pathlib import Path

import torch
import torch.distributed

from tests.distributed.scenarios import EVALUATED_FIRST, REFUSED, RUNS, TEACHER_IN_PARTS, engine, outcome, trainer
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
    if torch.distributed.get_rank() == 0:
        torch.save(came, folder / "came.pt")


def refusal(folder: Path, scenario: str, overrides: dict) -> str:
    try:
        trainer(scenario, folder, 2, 2, **overrides).train()
    except ValueError as error:
        return str(error)
    return ""


if __name__ == "__main__":
    main_of_worker(main)

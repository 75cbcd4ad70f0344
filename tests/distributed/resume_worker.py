"""Run by test_resume.py under torchrun on two processes, with the folder to report into."""

import os
import signal
import sys
from pathlib import Path

import torch
import torch.distributed
from transformers import TrainerCallback

from tests.distributed.scenarios import engine, losses_of, trainer
from tests.distributed.workers import main_of_worker

SAVED = ("zero2", "zero3", "fsdp2")
KILLED_AT = 10


class Kill(TrainerCallback):
    """Kills the second process in the middle of a run."""

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == KILLED_AT and torch.distributed.get_rank() == 1:
            os.kill(os.getpid(), signal.SIGKILL)


def killed(folder: Path) -> None:
    doomed = trainer("logits", folder, 4, 1, save_strategy="steps", save_steps=4)
    doomed.add_callback(Kill)
    doomed.train()


def resumed(folder: Path) -> None:
    came = {
        "after the kill": run(folder, "ddp", "logits", resume=True),
        "from one process": run(folder / "alone", "ddp", "logits", resume=True),
    }
    for name, scenario in [*((name, "logits") for name in SAVED), ("zero2", "shrinking")]:
        own = folder / f"{name}-{scenario}"
        came[name, scenario, "whole"] = run(own, name, scenario, save_strategy="steps", save_steps=KILLED_AT)
        checkpoint = own / "output" / f"checkpoint-{KILLED_AT}"
        came[name, scenario, "resumed"] = run(own, name, scenario, resume=str(checkpoint))
    if torch.distributed.get_rank() == 0:
        torch.save(came, folder / "came.pt")


def run(folder: Path, engine_name: str, scenario: str, resume: str | bool | None = None, **more) -> list[float]:
    with engine(engine_name) as overrides:
        run = trainer(scenario, folder, 4, 1, **overrides, **more)
        run.train(resume_from_checkpoint=resume)
        run.accelerator.free_memory()
        return losses_of(run)


if __name__ == "__main__":
    main_of_worker(killed if sys.argv[2] == "killed" else resumed)

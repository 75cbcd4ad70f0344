"""Run by test_budget.py under torchrun on two processes, with the folder to report into."""

from pathlib import Path

import torch
import torch.distributed
from accelerate.utils import gather_object

from tests.distributed.scenarios import engine, trainer
from tests.distributed.workers import main_of_worker


def main(folder: Path) -> None:
    came = {}
    for name in ("ddp", "zero3"):
        for limit in ("max_tokens", "max_flops"):
            with engine(name) as overrides:
                budget = {"max_tokens": 600.0, "max_flops": 5e7}[limit]
                run = trainer("projections", folder, 2, 2, max_steps=-1, **{limit: budget}, **overrides)
                run.train()
                spent = run.cost() | {"steps": run.state.global_step, "total_flos": run.state.total_flos}
                came[name, limit] = gather_object([spent | {"learning_rate": run.lr_scheduler.get_last_lr()[0]}])
                run.accelerator.free_memory()
    if torch.distributed.get_rank() == 0:
        torch.save(came, folder / "came.pt")


if __name__ == "__main__":
    main_of_worker(main)

"""Run by test_gradients.py under torchrun on two processes, with the folder to report into."""

from pathlib import Path

import torch
import torch.distributed

from hf_distill import DistillationTrainingArguments
from tests.distributed.workers import main_of_worker
from tests.tiny_models import parameters_of
from tests.trainers.test_partition import OBJECTIVES, train


def main(folder: Path) -> None:
    def arguments(**overrides):
        quiet = dict(report_to="none", disable_tqdm=True, use_cpu=True, bf16=False, save_strategy="no", logging_steps=1)
        return DistillationTrainingArguments(str(folder / "output"), **(quiet | overrides))

    worked = {}
    for objective in OBJECTIVES:
        trainer, gradient = train(arguments, objective, batch_size=4, accumulation=1)
        worked[objective] = dict(
            wrapper=type(trainer.model_wrapped).__name__, gradient=gradient, weights=parameters_of(trainer.model)
        )
    if torch.distributed.get_rank() == 0:
        torch.save(worked, folder / "worked.pt")


if __name__ == "__main__":
    main_of_worker(main)

"""Run by test_rerankers.py under torchrun on two processes, with the folder to report into."""

from pathlib import Path

import torch
import torch.distributed

from hf_distill import DistillationTrainingArguments
from tests.distributed.workers import main_of_worker
from tests.tiny_models import parameters_of
from tests.trainers.test_rerankers import RANKING, candidates, train


def main(folder: Path) -> None:
    def arguments(**overrides):
        quiet = dict(report_to="none", disable_tqdm=True, use_cpu=True, bf16=False, save_strategy="no", logging_steps=1)
        return DistillationTrainingArguments(str(folder / "output"), **(quiet | overrides))

    worked = {}
    for loss in RANKING:
        # Three batches of 4 queries in each pass: the second process repeats one, which must not count.
        trainer, gradient = train(arguments, loss, batch_size=16, hard_label_weight=0.5, soft_label_weight=0.5)
        metrics = trainer.evaluate(candidates())
        worked[loss] = dict(
            wrapper=type(trainer.model_wrapped).__name__, gradient=gradient, weights=parameters_of(trainer.model),
            steps=trainer.state.global_step, metrics=metrics,
        )  # fmt: skip
    if torch.distributed.get_rank() == 0:
        torch.save(worked, folder / "worked.pt")


if __name__ == "__main__":
    main_of_worker(main)

"""Run by test_partition.py under torchrun on two processes, with the folder to report into."""

import json
import os
import sys
from pathlib import Path

import torch
import torch.distributed

from hf_distill import DistillationTrainingArguments
from tests.tiny_models import encoded_sentences, parameters_of
from tests.trainers.test_partition import OBJECTIVES, train, train_shrinking

MEASURED = ("eval_soft_label_loss", "eval_hard_label_loss", "eval_teacher_agreement", "eval_teacher_kl")


def main(folder: Path) -> None:
    torch.set_num_threads(1)

    def arguments(**overrides):
        quiet = dict(report_to="none", disable_tqdm=True, use_cpu=True, bf16=False, save_strategy="no", logging_steps=1)
        return DistillationTrainingArguments(str(folder / "output"), **(quiet | overrides))

    for objective in OBJECTIVES:
        trainer, gradient = train(arguments, objective, batch_size=4, accumulation=1)
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        metrics = trainer.evaluate(encoded_sentences(101))
        if trainer.is_world_process_zero():
            worked = dict(gradient=gradient, weights=parameters_of(trainer.model), losses=losses)
            worked["metrics"] = {name: metrics[name] for name in MEASURED if name in metrics}
            torch.save(worked, folder / f"{objective}.pt")
            report = dict(wrapper=type(trainer.model_wrapped).__name__, world_size=trainer.args.world_size)
            (folder / "report.json").write_text(json.dumps(report))
    trainer = train_shrinking(folder / "output", batch_size=4)
    weights = parameters_of(trainer.model)
    of_both = [torch.empty_like(weights) for _ in range(2)]
    torch.distributed.all_gather(of_both, weights)
    if trainer.is_world_process_zero():
        widths = [entry["hidden_size"] for entry in trainer.state.log_history if "loss" in entry]
        worked = dict(weights=weights, weights_of_the_other=of_both[1], widths=widths)
        torch.save(worked, folder / "shrinking.pt")
    torch.distributed.barrier()
    if trainer.is_world_process_zero():
        (folder / "done").touch()
    sys.stdout.flush()
    os._exit(0)  # gloo now and then aborts a process group that is torn down while its peer is still at it


if __name__ == "__main__":
    main(Path(sys.argv[1]))

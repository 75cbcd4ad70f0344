"""Run by test_resume.py: trains into a folder; waits to be killed after a step, or resumes."""

import argparse
import json
import time
from pathlib import Path

import torch
from transformers import TrainerCallback

from hf_distill import DistillationTrainer, DistillationTrainingArguments
from tests.tiny_models import encoded_sentences, parameters_of, tiny_bert, tiny_tokenizer


class Wait(TrainerCallback):
    """Says that a step was made, and makes no other."""

    def __init__(self, folder: Path, step: int):
        self.folder, self.step = folder, step

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            (self.folder / "waiting").touch()
            time.sleep(600)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--wait-after-step", type=int, default=0)
    parser.add_argument("--resume", action="store_true")
    options = parser.parse_args()
    args = DistillationTrainingArguments(
        str(options.folder),
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
        num_train_epochs=3,
        logging_steps=1,
        save_steps=4,
        learning_rate=1e-2,
        hard_label_weight=0.5,
    )
    trainer = DistillationTrainer(
        tiny_bert(dropout=0.1),
        args,
        train_dataset=encoded_sentences(29),
        processing_class=tiny_tokenizer(),
        teacher_model=tiny_bert(hidden_size=32, layers=2, seed=1, dropout=0.1),
        callbacks=[Wait(options.folder, options.wait_after_step)],
    )
    trainer.train(resume_from_checkpoint=options.resume or None)
    torch.save(parameters_of(trainer.model), options.folder / "weights.pt")
    steps = [entry for entry in trainer.state.log_history if "loss" in entry]
    (options.folder / "logs.json").write_text(json.dumps(steps))


if __name__ == "__main__":
    main()

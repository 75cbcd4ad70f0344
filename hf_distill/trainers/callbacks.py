"""What trainers do besides training."""

from __future__ import annotations

import time
from typing import Any

from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hf_distill.hardware import hardware_name
from hf_distill.publishing.run_record import RunRecord, changed_arguments, describe_model
from hf_distill.tasks import unwrapped


class RunRecordCallback(TrainerCallback):
    """Writes `run.json` into the output folder when training ends, and adds later evaluations to it.

    Args:
        trainer: The `DistillationTrainer`, or one derived from it, that the record is about.
    """

    def __init__(self, trainer: Trainer):
        self._trainer = trainer
        self._record: RunRecord | None = None
        self._started = 0.0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._started = time.monotonic()
        self._record = None

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if not args.should_save:
            return
        self._record = self._record_of(args, state)
        self._record.save(args.output_dir)

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        if self._record is not None and metrics:
            self._record.metrics = metrics
            self._record.save(args.output_dir)

    def _record_of(self, args: TrainingArguments, state: TrainerState) -> RunRecord:
        trainer = self._trainer
        learned_from = "soft_label" in trainer.training_objective
        teacher_model = getattr(trainer.teacher, "model", None) if learned_from else None
        teacher = (
            None if teacher_model is None else describe_model(teacher_model) | {"dtype": str(trainer.teacher.dtype)}
        )
        evaluations = [entry for entry in state.log_history if "eval_loss" in entry]
        return RunRecord(
            trainer=type(trainer).__name__,
            student=describe_model(unwrapped(trainer.model)),
            teacher=teacher,
            objective=[
                {"name": term.name, "weight": term.weight, **term.settings} for term in trainer.training_objective.terms
            ],
            arguments=changed_arguments(args),
            data={
                "train_examples": _length(trainer.train_dataset),
                "train_fingerprint": getattr(trainer.train_dataset, "_fingerprint", None),
            },
            training={
                "steps": state.global_step,
                "epochs": state.epoch,
                "seconds": round(time.monotonic() - self._started, 1),
                "seed": args.seed,
                "hardware": hardware_name(args.device),
                "processes": args.world_size,
            },
            metrics=evaluations[-1] if evaluations else {},
        )


def _length(dataset: Any) -> int | None:
    return len(dataset) if hasattr(dataset, "__len__") else None

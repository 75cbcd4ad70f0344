"""The same student trained on the labels alone, which tells whether distillation is worth its cost."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from tempfile import TemporaryDirectory
from typing import Any

from datasets import Dataset
from transformers import PreTrainedModel, TrainingArguments
from transformers.trainer_utils import set_seed

from hf_distill.evaluation.comparison import LABELS_ONLY, EvaluatedModel
from hf_distill.preflight.student_defaults import least_steps, steps_per_epoch
from hf_distill.scripts.distillation import collator_for, encode_rows
from hf_distill.scripts.splits import is_labeled, labeled_split
from hf_distill.tasks import Task, task_of, unwrapped
from hf_distill.trainers.distillation_arguments import DistillationTrainingArguments
from hf_distill.trainers.distillation_trainer import DistillationTrainer

logger = logging.getLogger(__name__)

NAME = "same student, labels alone"
SHARE, MIN_EPOCHS = 0.1, 3
# The arguments of the distillation that this training has too.
_SHARED = (
    *("per_device_train_batch_size", "gradient_accumulation_steps", "learning_rate", "warmup_steps", "weight_decay"),
    *("lr_scheduler_type", "max_grad_norm", "optim", "seed", "data_seed", "bf16", "fp16", "use_cpu", "disable_tqdm"),
    *("dataloader_num_workers", "dataloader_pin_memory", "length_bucketing", "remove_unused_columns"),
)  # fmt: skip


def train_on_labels(
    trainer: DistillationTrainer,
    untrained: Callable[[], PreTrainedModel],
    splits: Mapping[str, Dataset],
    max_length: int,
    say: Callable[[str], None] = lambda remark: None,
) -> EvaluatedModel | None:
    """Train the student of a finished distillation again, from the same initial weights, on its labels alone.

    It takes as many steps as the distillation, but no more than `least_steps`, 3 epochs of the labeled rows or a tenth of the
    distillation's steps, whichever is most: with few labels a student needs no more. With the defaults and without a transfer
    set these are equally many.

    Args:
        trainer: The trainer of the distillation, after training.
        untrained: A function that makes the student with its initial weights.
        splits: The raw rows by split, of which train has the labeled rows.
        max_length: Tokens that longer inputs are cut to.
        say: A function that is called with what is trained, before it is.

    Returns:
        The trained model, on the CPU. None: the training rows or those to evaluate on have no labels, the student embeds
        texts, was pruned, learned from a teacher's checkpoints, or was trained under DeepSpeed or FSDP, or its loss is not finite.
    """
    args, task = trainer.args, task_of(unwrapped(trainer.model))
    is_plain = type(trainer) is DistillationTrainer and not (args.deepspeed or args.fsdp)
    if (
        not is_plain
        or task is Task.SENTENCE_EMBEDDING
        or labeled_split(splits, task) is None
        or not is_labeled(splits["train"], task)
    ):
        return None
    set_seed(args.seed)
    model = untrained()
    processing = trainer.processing_class
    rows = encode_rows(splits["train"], model, processing, max_length)
    steps = _steps(args, trainer.state.global_step, len(rows), least_steps(model))
    name = f"{NAME} ({len(rows):,} rows, {steps:,} steps)"
    say(f"To compare with: the {name}")
    with TemporaryDirectory() as folder:  # nothing of it is kept
        control = DistillationTrainer(
            model, _arguments(args, steps, folder), train_dataset=rows,
            data_collator=collator_for(model, processing), processing_class=processing,
        )  # fmt: skip
        try:
            control.train()
        except FloatingPointError as error:  # the distilled student is saved, and is still to be compared
            logger.warning(f"Left out the same student on the labels alone, whose training failed: {error}")
            return None
    return EvaluatedModel(name, LABELS_ONLY, model.cpu().eval(), processing)


def _steps(args: TrainingArguments, distilled: int, rows: int, least: int) -> int:
    """The steps of the training on labels, given those of the distillation, the number of labeled rows, and the least that helps."""
    return min(distilled, max(least, MIN_EPOCHS * steps_per_epoch(args, rows), round(SHARE * distilled)))


def _arguments(args: TrainingArguments, steps: int, folder: str) -> DistillationTrainingArguments:
    """The arguments of the training on labels, given those of the distillation and its own number of steps."""
    own: dict[str, Any] = {name: getattr(args, name) for name in _SHARED}
    return DistillationTrainingArguments(
        folder, max_steps=steps, save_strategy="no", report_to="none",
        soft_label_weight=0.0, hard_label_weight=1.0, **own,
    )  # fmt: skip

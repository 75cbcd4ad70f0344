"""The stage before distillation in which a student learns the teacher's hidden states, layer by layer.

The head of a truncated student is the teacher's, so that it needs no more than the teacher's last hidden states.

Source:
    Jiao et al. 2020 (TinyBERT), arXiv 1909.10351, section 3.1: intermediate layers first, then the prediction layer.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel
from transformers.trainer_utils import set_seed

from hf_distill.compression.candidate import Candidate
from hf_distill.compression.material import CompressionMaterial
from hf_distill.preflight.student_defaults import steps_per_epoch, student_defaults
from hf_distill.pretrained.loading import load_as_saved
from hf_distill.pretrained.origin import note_initialization
from hf_distill.publishing.run_record import RunRecord
from hf_distill.scripts.distillation import collator_for
from hf_distill.scripts.labels_alone import SHARED
from hf_distill.scripts.run import ScriptTrainingArguments
from hf_distill.scripts.verbosity import set_verbosity
from hf_distill.teachers.column_names import precomputed_columns
from hf_distill.trainers.checkpoints import last_complete_checkpoint
from hf_distill.trainers.distillation_arguments import DistillationTrainingArguments
from hf_distill.trainers.distillation_trainer import DistillationTrainer

LAYERWISE, DISTILLATION = "layerwise", "distillation"  # the stages of the record; the first is a folder, too
_RATE = 2.0  # times the learning rate of the distillation: whole vectors bear larger steps
_CHECKPOINTS = ("save_strategy", "save_steps", "save_total_limit", "logging_steps", "teacher_dtype")
_RECORDED = ("objective", "arguments", "data", "training", "metrics")


def layerwise_steps(args: ScriptTrainingArguments, rows: int, epochs: float) -> int:
    """The optimizer steps of the stage.

    Args:
        args: The training arguments of the distillation.
        rows: The number of training rows.
        epochs: The length of the stage.

    Returns:
        The steps.
    """
    return math.ceil(epochs * steps_per_epoch(args, rows))


def train_layerwise(candidate: Candidate, material: CompressionMaterial, epochs: float, folder: Path) -> None:
    """Train a candidate to have the teacher's hidden states, and save it with its tokenizer and run record.

    Args:
        candidate: The candidate.
        material: The rows and the teacher.
        epochs: The number of epochs.
        folder: The folder to save it in; a training that was interrupted goes on from its last checkpoint.
    """
    args, of_vocabulary = material.request.args, material.of_vocabulary(candidate.vocabulary)
    set_verbosity(args)
    teacher, tokenizer = of_vocabulary.source, of_vocabulary.processing_class
    rows = of_vocabulary.trained_on["train"]
    set_seed(args.seed)
    student = candidate.create(teacher)
    trainer = DistillationTrainer(
        student,
        _arguments(args, student, layerwise_steps(args, len(rows), epochs), folder),
        train_dataset=rows.remove_columns(precomputed_columns(rows.column_names)),
        data_collator=collator_for(student, tokenizer),
        processing_class=tokenizer,
        teacher_model=teacher,
    )
    trainer.train(resume_from_checkpoint=last_complete_checkpoint(folder))
    trainer.save_model()


def _arguments(
    args: ScriptTrainingArguments, student: PreTrainedModel, steps: int, folder: Path
) -> DistillationTrainingArguments:
    """The arguments of the stage, given those of the distillation."""
    own: dict[str, Any] = {name: getattr(args, name) for name in (*SHARED, *_CHECKPOINTS)}
    left_open = student_defaults(student, None)
    own |= {name: left_open[name] for name in ("learning_rate", "warmup_steps") if name in args.open_settings}
    own["learning_rate"] *= _RATE
    return DistillationTrainingArguments(
        str(folder), max_steps=steps, report_to="none",
        soft_label_weight=0.0, hard_label_weight=0.0, hidden_state_weight=1.0, **own,
    )  # fmt: skip


def student_after(candidate: Candidate, folder: Path) -> PreTrainedModel:
    """The student as the stage has left it in a folder."""
    student = load_as_saved(str(folder))
    note_initialization(student, candidate.initialization)
    return student


def record_stages(before: Path, folder: Path) -> None:
    """Add the stage to the record of the student that was distilled after it.

    Args:
        before: The folder of the stage.
        folder: The student's folder.
    """
    record = RunRecord.load(folder)
    trainings = {LAYERWISE: RunRecord.load(before), DISTILLATION: record}
    record.stages = [
        {"name": name} | {part: getattr(each, part) for part in _RECORDED} for name, each in trainings.items()
    ]
    record.save(folder)

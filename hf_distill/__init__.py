"""Distill and compress Hugging Face encoders with a drop-in extension of `transformers.Trainer`.

Public names load on first use, so `import hf_distill` costs milliseconds and does not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

_PUBLIC_NAMES = {
    "AdapterTeacher": "hf_distill.teachers.adapter",
    "DistillationTrainer": "hf_distill.trainers.distillation_trainer",
    "DistillationTrainingArguments": "hf_distill.trainers.distillation_arguments",
    "ModelOutputs": "hf_distill.objectives.model_outputs",
    "FeatureRequest": "hf_distill.objectives.model_outputs",
    "FrozenTeacher": "hf_distill.teachers.frozen",
    "Objective": "hf_distill.objectives.objective",
    "ProgressiveTrainer": "hf_distill.trainers.progressive_trainer",
    "ProgressiveTrainingArguments": "hf_distill.trainers.progressive_arguments",
    "PruningDistillTrainer": "hf_distill.trainers.pruning_distill_trainer",
    "PruningDistillTrainingArguments": "hf_distill.trainers.pruning_distill_arguments",
    "SentenceEncoder": "hf_distill.sentence_encoder",
    "Stage": "hf_distill.trainers.progressive_trainer",
    "Teacher": "hf_distill.teachers.base",
    "TeacherOutputs": "hf_distill.teachers.base",
    "Term": "hf_distill.objectives.objective",
    "augment_transfer_set": "hf_distill.data.augmentation",
    "label_transfer_set": "hf_distill.precomputed.label",
    "label_with_trajectory": "hf_distill.precomputed.label",
    "load_teacher_outputs": "hf_distill.precomputed.shards",
    "teacher_outputs_from": "hf_distill.precomputed.external",
    "encode_for_teacher": "hf_distill.teachers.own_inputs",
    "create_student": "hf_distill.students.create",
    "export_student": "hf_distill.exporting.student",
}

__all__ = ["__version__", *sorted(_PUBLIC_NAMES)]

if TYPE_CHECKING:
    from hf_distill.data.augmentation import augment_transfer_set
    from hf_distill.exporting.student import export_student
    from hf_distill.objectives.model_outputs import FeatureRequest, ModelOutputs
    from hf_distill.objectives.objective import Objective, Term
    from hf_distill.precomputed.external import teacher_outputs_from
    from hf_distill.precomputed.label import label_transfer_set, label_with_trajectory
    from hf_distill.precomputed.shards import load_teacher_outputs
    from hf_distill.sentence_encoder import SentenceEncoder
    from hf_distill.students.create import create_student
    from hf_distill.teachers.adapter import AdapterTeacher
    from hf_distill.teachers.base import Teacher, TeacherOutputs
    from hf_distill.teachers.frozen import FrozenTeacher
    from hf_distill.teachers.own_inputs import encode_for_teacher
    from hf_distill.trainers.distillation_arguments import DistillationTrainingArguments
    from hf_distill.trainers.distillation_trainer import DistillationTrainer
    from hf_distill.trainers.progressive_arguments import ProgressiveTrainingArguments
    from hf_distill.trainers.progressive_trainer import ProgressiveTrainer, Stage
    from hf_distill.trainers.pruning_distill_arguments import PruningDistillTrainingArguments
    from hf_distill.trainers.pruning_distill_trainer import PruningDistillTrainer


def __getattr__(name: str) -> object:
    if name not in _PUBLIC_NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC_NAMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)

"""The learning rate and warm-up of a student that the user left open."""

from __future__ import annotations

import logging

from torch import nn
from transformers import TrainingArguments

from hf_distill.tasks import unwrapped

# transformers' own defaults, which are for fine-tuning a whole pre-trained model.
STOCK = {"learning_rate": 5e-5, "warmup_steps": 0.0}
RATE_TIMES_HIDDEN_SIZE, WARMUP = 0.12, 0.1

logger = logging.getLogger(__name__)


def student_defaults(student: nn.Module) -> dict[str, float]:
    """What None means in `learning_rate` and `warmup_steps` of a training with a teacher.

    Students that `create_student` made, whose weights are new or cut out of a larger model, need larger steps than a whole
    pre-trained model: 0.12 / hidden size, 9.4e-4 for 128 and 3.1e-4 for 384, rising over the first tenth of the steps.

    Args:
        student: The student, or a wrapper of it.

    Returns:
        The values by name; transformers' own for a student of another origin.

    Source:
        Measured, see "Defaults" in benchmarks/README.md.
    """
    model = unwrapped(student)
    origin, hidden = getattr(model, "hf_distill_initialization", None), getattr(model.config, "hidden_size", None)
    if origin in (None, "pretrained") or hidden is None:
        return STOCK
    return {"learning_rate": float(f"{RATE_TIMES_HIDDEN_SIZE / hidden:.2g}"), "warmup_steps": WARMUP}


def fill_with_stock(args: TrainingArguments) -> set[str]:
    """Set what the user left open to transformers' own defaults, until the student is known.

    Args:
        args: The training arguments, changed in place.

    Returns:
        The names of what was left open.
    """
    open_settings = {name for name in STOCK if getattr(args, name) is None}
    for name in open_settings:
        setattr(args, name, STOCK[name])
    return open_settings


def resolve_student_defaults(args: TrainingArguments, student: nn.Module) -> None:
    """Set the learning rate and warm-up that the user left open, for a student with a teacher.

    Args:
        args: The training arguments, changed in place where they are `DistillationTrainingArguments`.
        student: The student.
    """
    open_settings: set[str] = getattr(args, "open_settings", set())
    for name, value in student_defaults(student).items():
        if name in open_settings:
            setattr(args, name, value)
            logger.info(f"{name} is {value:g}, the default of this student.")

"""The learning rate, warm-up and length of a student's training that the user left open."""

from __future__ import annotations

import logging
import math
from typing import Any, cast

from torch import nn
from transformers import PreTrainedModel, TrainingArguments

from hf_distill.pretrained.origin import initialization_of
from hf_distill.tasks import Task, task_of, unwrapped

# transformers' own defaults, which are for fine-tuning a whole pre-trained model.
STOCK = {"learning_rate": 5e-5, "warmup_steps": 0.0, "num_train_epochs": 3.0}
RATE_TIMES_HIDDEN_SIZE, WARMUP, MIN_STEPS = 0.06, 0.1, 600
MANY_CLASSES, MIN_STEPS_OF_MANY_CLASSES, RATE_OF_MANY_CLASSES = 20, 1800, 2.0  # times the rate of few classes
EMBEDDING_RATE, EMBEDDING_RATE_TIMES_HIDDEN_SIZE = 1e-3, 0.384  # of sentence encoders, the lower one

logger = logging.getLogger(__name__)


def student_defaults(student: nn.Module, steps_per_epoch: int | None) -> dict[str, float]:
    """What None means in the training arguments of a student with a teacher, by their names.

    Students that `create_student` or a script made, whose weights are new or cut out of a larger model, need larger steps than a whole
    pre-trained model, and more of them where there are few rows: a learning rate of 0.06 / hidden size (4.7e-4 for 128 and
    1.6e-4 for 384), which rises over the first tenth of the steps, and 3 epochs, or as many as make 600 steps. Classifiers with more
    than 20 classes need twice the rate and 1,800 steps, and sentence encoders, which imitate whole vectors, larger steps too: 1e-3,
    above a hidden size of 384 0.384 / hidden size.

    Args:
        student: The student, or a wrapper of it.
        steps_per_epoch: The optimizer steps of an epoch. None: unknown.

    Returns:
        The values by name; transformers' own for a student of another origin.

    Source:
        Measured, see "Defaults" and "Embedding students" in benchmarks/README.md.
    """
    model = unwrapped(student)
    origin = initialization_of(model)
    hidden = getattr(getattr(model, "config", None), "hidden_size", None)
    if origin in (None, "pretrained") or hidden is None:
        return STOCK
    rate = RATE_TIMES_HIDDEN_SIZE / hidden * (RATE_OF_MANY_CLASSES if _has_many_classes(model) else 1.0)
    if task_of(model) is Task.SENTENCE_EMBEDDING:
        rate = min(EMBEDDING_RATE, EMBEDDING_RATE_TIMES_HIDDEN_SIZE / hidden)
    return {
        "learning_rate": float(f"{rate:.2g}"),
        "warmup_steps": WARMUP,
        "num_train_epochs": _epochs(steps_per_epoch, model),
    }


def _epochs(steps_per_epoch: int | None, model: nn.Module) -> float:
    epochs = STOCK["num_train_epochs"]
    return max(epochs, math.ceil(least_steps(model) / steps_per_epoch)) if steps_per_epoch else epochs


def least_steps(model: nn.Module) -> int:
    """The optimizer steps below which students have not learned what they can, with or without a teacher.

    Args:
        model: The student, or its teacher, which has the same classes.

    Returns:
        600, of classifiers with more than 20 classes 1,800.
    """
    return MIN_STEPS_OF_MANY_CLASSES if _has_many_classes(model) else MIN_STEPS


def _has_many_classes(model: nn.Module) -> bool:
    """Whether a model is a classifier of texts or images with more than 20 classes."""
    is_classifier = task_of(model) in (Task.SEQUENCE_CLASSIFICATION, Task.IMAGE_CLASSIFICATION)
    return is_classifier and (cast(PreTrainedModel, model).config.num_labels or 0) > MANY_CLASSES


def planned_steps(args: TrainingArguments, rows: int, model: nn.Module) -> int:
    """The optimizer steps of the training of a student that `create_student` makes.

    Args:
        args: The training arguments, before the training.
        rows: The number of training rows.
        model: The student, or its teacher, which has the same classes.

    Returns:
        The steps.
    """
    if args.max_steps > 0:
        return args.max_steps
    steps = steps_per_epoch(args, rows)
    is_open = "num_train_epochs" in getattr(args, "open_settings", set())
    return math.ceil((_epochs(steps, model) if is_open else args.num_train_epochs) * steps)


def steps_per_epoch(args: TrainingArguments, rows: int) -> int:
    """The optimizer steps of a pass over so many rows."""
    return math.ceil(rows / (args.train_batch_size * args.gradient_accumulation_steps * args.world_size))


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


def resolve_student_defaults(args: TrainingArguments, student: nn.Module, train_dataset: Any) -> None:
    """Set what the user left open, for a student with a teacher.

    Args:
        args: The training arguments, changed in place where they are `DistillationTrainingArguments`.
        student: The student.
        train_dataset: The training set. None: there is none.
    """
    open_settings: set[str] = getattr(args, "open_settings", set())
    rows = len(train_dataset) if hasattr(train_dataset, "__len__") else 0
    steps = steps_per_epoch(args, rows)
    for name, value in student_defaults(student, steps or None).items():
        if name in open_settings:
            setattr(args, name, value)
            logger.info(f"{name} is {value:g}, the default of this student.")

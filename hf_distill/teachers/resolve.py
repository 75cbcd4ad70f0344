"""Makes a live teacher of what a user passes as `teacher_model`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, cast

import torch
from transformers import PreTrainedModel

from hf_distill.distributed.sharding import TeacherSharding
from hf_distill.tasks import task_of
from hf_distill.teachers.base import Teacher
from hf_distill.teachers.ensemble import TeacherEnsemble
from hf_distill.teachers.frozen import FrozenTeacher, TeacherDtype
from hf_distill.teachers.loading import load_teacher
from hf_distill.teachers.own_inputs import SeparateEncodings, teacher_prefix


class LiveTeacherArguments(Protocol):
    """The training arguments that say how a teacher is loaded; see `DistillationTrainingArguments`."""

    teacher_weights: list[float] | None
    teacher_dtype: TeacherDtype
    teacher_sharding: TeacherSharding
    teacher_revision: str | None
    teacher_model_init_kwargs: dict | str | None
    temperature: float | None

    @property
    def device(self) -> torch.device:
        """The device of the training."""
        ...


def live_teacher(
    args: LiveTeacherArguments,
    teacher_model: Any,
    teacher_processing_class: Any,
    student: PreTrainedModel,
    processing_class: Any,
    problem_type: Callable[[], str],
) -> Teacher:
    """One frozen teacher, or an ensemble of several.

    Args:
        args: The training arguments with the teacher's precision, sharding, revision, loading arguments and weights.
        teacher_model: A model, a name or a `Teacher`, or a list of them.
        teacher_processing_class: The teacher's own tokenizer or image processor, or a list with one or None per teacher.
        student: The student.
        processing_class: The student's tokenizer or image processor.
        problem_type: Returns the student's problem type; called by an ensemble for every batch.

    Returns:
        The teacher, or an ensemble where `teacher_model` is a list.

    Raises:
        ValueError: Teacher and student do not match, or `teacher_weights` or the task do not fit the number of teachers.
    """
    models = list(teacher_model) if isinstance(teacher_model, list | tuple) else [teacher_model]
    if not models:
        raise ValueError("teacher_model must be a model, a name or a list of at least one of them, got an empty list")
    if args.teacher_weights is not None and not isinstance(teacher_model, list | tuple):
        raise ValueError(f"teacher_weights is for a list of teachers, got {args.teacher_weights} and one teacher")
    teachers = [
        load_teacher(
            model,
            student,
            processing_class,
            dtype=TeacherDtype(args.teacher_dtype).value,
            sharding=TeacherSharding(args.teacher_sharding).value,
            device=args.device,
            revision=args.teacher_revision,
            init_kwargs=args.teacher_model_init_kwargs,
            input_prefix="" if own is None else teacher_prefix(index, len(models)),
        )
        for index, (model, own) in enumerate(zip(models, _per_teacher(teacher_processing_class, models), strict=True))
    ]
    if len(teachers) == 1 and not isinstance(teacher_model, list | tuple):
        return teachers[0]
    task = task_of(student)
    if task is not None and not task.has_problem_type:
        raise ValueError(f"several teachers are averaged for classification and regression, not for {task.value}")
    return TeacherEnsemble(
        cast(list[FrozenTeacher], teachers), args.teacher_weights, problem_type, lambda: args.temperature or 1.0
    )


def separate_encodings(collator: Callable, teacher_processing_class: Any, teacher_model: Any) -> Callable:
    """The collator, wrapped to encode the inputs of each teacher that has a processing class of its own."""
    models = list(teacher_model) if isinstance(teacher_model, list | tuple) else [teacher_model]
    own = {
        teacher_prefix(index, len(models)): processing_class
        for index, processing_class in enumerate(_per_teacher(teacher_processing_class, models))
        if processing_class is not None
    }
    return SeparateEncodings(collator, own) if own else collator


def require_comparable(student: PreTrainedModel, has_own_encoding: bool, term_names: set[str]) -> None:
    """Refuse an objective that compares positions of two models with different tokenizers.

    Args:
        student: The student.
        has_own_encoding: Whether a teacher has a processing class of its own.
        term_names: The names of the objective's terms.

    Raises:
        ValueError: The task or a term compares position by position; names it.
    """
    if not has_own_encoding:
        return
    task, positional = task_of(student), sorted(term_names - {"soft_label", "hard_label", "similarity"})
    if positional or (task is not None and task.is_per_token):
        what = f"the terms {positional}" if positional or task is None else f"the task {task.value}"
        raise ValueError(
            f"teacher_processing_class gives the teacher tokens of its own, but {what} compare position by position: "
            "token 5 of one model is not token 5 of the other. Use soft labels of classification, regression or embeddings, or a "
            "teacher with the student's tokenizer."
        )


def _per_teacher(processing_class: Any, models: list) -> list:
    given = list(processing_class) if isinstance(processing_class, list | tuple) else [processing_class] * len(models)
    if len(given) != len(models):
        raise ValueError(f"teacher_processing_class has {len(given)} entries for {len(models)} teachers")
    return given

"""The teacher of a training: a live one, columns of the data, or the columns with a live one to fall back on."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Protocol

from transformers import PreTrainedModel

from hf_distill.precomputed.columns import PrecomputedCollator, PrecomputedTeacher
from hf_distill.precomputed.fallback_teacher import FallbackTeacher
from hf_distill.precomputed.provenance import provenances
from hf_distill.tasks import task_of
from hf_distill.teachers.base import Teacher
from hf_distill.teachers.column_names import (
    TEACHER_CLASSES,
    TEACHER_LOGITS,
    TEACHER_POSITIONS,
    TEACHER_PROVENANCE,
    has_teacher_logits,
    precomputed_columns,
)
from hf_distill.teachers.resolve import LiveTeacherArguments, live_teacher, separate_encodings


@dataclass(frozen=True)
class ResolvedTeacher:
    """A teacher, and what its data need.

    Attributes:
        teacher: The teacher. None: there is neither a live one nor a column of logits to learn from.
        data_collator: The given collator, which now keeps the teacher's columns and encodings.
        columns: Names of the data columns that hold precomputed outputs.
    """

    teacher: Teacher | None
    data_collator: Callable[[list], dict[str, Any]]
    columns: frozenset[str]


class TeacherArguments(LiveTeacherArguments, Protocol):
    """The training arguments that decide on a teacher; see `DistillationTrainingArguments`."""

    soft_label_weight: float | None


def resolve_teacher(
    args: TeacherArguments,
    teacher_model: Any,
    teacher_processing_class: Any,
    student: PreTrainedModel,
    processing_class: Any,
    problem_type: Callable[[], str],
    data_collator: Callable[[list], dict[str, Any]],
    train_dataset: Any,
    eval_datasets: Collection[Any],
) -> ResolvedTeacher:
    """The teacher that the arguments and the data name; nothing passed in is modified but a model, which is frozen.

    Args:
        args: The training arguments, with the fields of `DistillationTrainingArguments`.
        teacher_model: What the user passed: a model, a name, a teacher, a list of these, or None.
        teacher_processing_class: The teacher's own tokenizer or image processor, or a list of them.
        student: The model to be taught.
        processing_class: The student's tokenizer or image processor.
        problem_type: Gives the student's problem type, which labels may decide later.
        data_collator: Makes model inputs of examples.
        train_dataset: The training set; its columns are the teacher's outputs where there are any.
        eval_datasets: All evaluation sets.

    Returns:
        The teacher, the data collator and the precomputed columns.

    Raises:
        ValueError: Teacher and student do not fit.
    """
    datasets = [dataset for dataset in (train_dataset, *eval_datasets) if dataset is not None]
    found = {name for dataset in datasets for name in precomputed_columns(column_names_of(dataset))}
    columns = frozenset({TEACHER_LOGITS, TEACHER_CLASSES, TEACHER_POSITIONS}) | {
        name for name in found if not name.startswith(TEACHER_PROVENANCE)
    }
    if teacher_model is not None or has_teacher_logits(found):
        data_collator = PrecomputedCollator(data_collator, task_of(student))
    of_training = precomputed_columns(column_names_of(train_dataset))
    known = list(provenances(train_dataset).values())
    precomputed = PrecomputedTeacher(of_training, known[0].teacher if known else None)
    if teacher_model is None:
        is_taught = has_teacher_logits(of_training) and args.soft_label_weight != 0
        return ResolvedTeacher(precomputed if is_taught else None, data_collator, columns)
    data_collator = separate_encodings(data_collator, teacher_processing_class, teacher_model)
    live = live_teacher(args, teacher_model, teacher_processing_class, student, processing_class, problem_type)
    teacher = FallbackTeacher(precomputed, live) if has_teacher_logits(found) else live
    return ResolvedTeacher(teacher, data_collator, columns)


def column_names_of(dataset: Any) -> Collection[str]:
    """Names of a data set's columns; of a stream whose columns are not known, those of its first row."""
    names = getattr(dataset, "column_names", None)
    if names is None and hasattr(dataset, "features"):
        names = next(iter(dataset), None)
    return names or ()

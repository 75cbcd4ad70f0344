"""Load a teacher by name and check that it matches its student."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from hf_distill.distributed.weights import unsharded_loading
from hf_distill.pretrained.loading import SavedModel
from hf_distill.tasks import auto_class_of, task_of
from hf_distill.teachers.alignment import (
    label_permutation,
    require_same_vocabulary,
    take_over_label_names,
    take_over_problem_type,
)
from hf_distill.teachers.base import GivesOutputs, Teacher, as_teacher
from hf_distill.teachers.frozen import FrozenTeacher


def load_teacher(
    teacher_model: PreTrainedModel | nn.Module | GivesOutputs | str | os.PathLike,
    student: PreTrainedModel,
    student_tokenizer: Any = None,
    dtype: str = "auto",
    device: torch.device | str | None = None,
    revision: str | None = None,
    init_kwargs: Mapping[str, Any] | str | None = None,
    input_prefix: str = "",
    sharding: str = "never",
) -> Teacher:
    """A frozen teacher for this student, with its labels in the student's order.

    A student whose labels have default names takes over the teacher's label names, and one whose configuration has no
    `problem_type` takes over the teacher's.

    Args:
        teacher_model: A model, a Hub id or a local path, of a whole model or a PEFT adapter, which is merged into its base;
            or an object with `outputs(inputs)`, see `Teacher`.
        student: The student.
        student_tokenizer: The student's tokenizer, whose vocabulary is compared with that of a tokenizer saved with the teacher;
            anything but a tokenizer is ignored.
        dtype: The teacher's precision, see `FrozenTeacher`.
        device: The device the teacher computes on; None leaves it where it is.
        revision: Branch, tag or commit of a Hub id.
        init_kwargs: Additional arguments of `from_pretrained`.
        input_prefix: Prefix of the names of the teacher's own inputs; the vocabularies are then not compared. "": the teacher
            reads the student's inputs.
        sharding: Whether the teacher is sharded over the processes, see `FrozenTeacher`.

    Returns:
        A `FrozenTeacher`, or the teacher given, see `as_teacher`.

    Raises:
        ValueError: The teacher has other labels, another problem type or another vocabulary than the student, a tokenizer that
            cannot be read, an untrained head or weights that are no floating-point numbers, or is the student itself.
    """
    if teacher_model is student:
        raise ValueError("teacher_model is the student itself; pass another model, or a copy of it")
    options = _as_dict(init_kwargs)
    tokenizer = None
    if not isinstance(student_tokenizer, PreTrainedTokenizerBase):
        student_tokenizer = None  # an image processor has no vocabulary to compare
    if isinstance(teacher_model, nn.Module):
        _require_no_loading_options(teacher_model, revision, options)
        model = teacher_model
    elif isinstance(teacher_model, GivesOutputs) and not isinstance(teacher_model, type):
        return as_teacher(teacher_model)
    else:
        _require_name(teacher_model)
        options = {"revision": revision} | options
        with unsharded_loading():
            model, saved = _from_pretrained(str(teacher_model), student, options)
        if student_tokenizer is not None and not input_prefix:
            tokenizer = _tokenizer_like(student_tokenizer, saved)
    permutation = _align(student, model)
    config = getattr(model, "config", None)
    if not input_prefix and isinstance(config, PretrainedConfig):
        require_same_vocabulary(student.config, config, student_tokenizer, tokenizer)
    return FrozenTeacher(model, dtype, device, permutation, input_prefix, sharding)


def _require_no_loading_options(model: nn.Module, revision: str | None, init_kwargs: dict[str, Any]) -> None:
    if revision is not None or init_kwargs:
        raise ValueError(
            "teacher_revision and teacher_model_init_kwargs describe how to load a teacher by name, but teacher_model is "
            f"already a model ({type(model).__name__}); drop them or pass a name"
        )


def _as_dict(init_kwargs: Any) -> dict[str, Any]:
    if init_kwargs is not None and not isinstance(init_kwargs, Mapping):
        raise ValueError(f"teacher_model_init_kwargs must be a dict, got {init_kwargs!r}")
    return dict(init_kwargs or {})


def _require_name(teacher_model: Any) -> None:
    if not isinstance(teacher_model, str | os.PathLike):
        got = teacher_model.__name__ if isinstance(teacher_model, type) else f"a {type(teacher_model).__name__}"
        raise ValueError(f"teacher_model must be a model, a Hub id, a local path or a Teacher, got {got}")


def _align(student: PreTrainedModel, teacher: nn.Module) -> list[int] | None:
    config = getattr(teacher, "config", None)
    if not isinstance(config, PretrainedConfig):
        return None
    permutation = _label_permutation(student, config)
    take_over_label_names(student.config, config)
    if (task := task_of(student)) is not None and task.has_problem_type:
        take_over_problem_type(student.config, getattr(config, "problem_type", None), "the teacher")
    return permutation


def _label_permutation(student: PreTrainedModel, teacher: PretrainedConfig) -> list[int] | None:
    task = task_of(student)
    return None if task and not task.has_labels else label_permutation(student.config, teacher)


def _tokenizer_like(own: PreTrainedTokenizerBase, saved: SavedModel) -> PreTrainedTokenizerBase | None:
    # A setting of a run rather than of a model: RoBERTa reads lists of words only with it.
    settings = {"add_prefix_space": True} if getattr(own, "add_prefix_space", False) else {}
    return saved.tokenizer(**settings)


def _from_pretrained(
    name: str, student: PreTrainedModel, options: dict[str, Any]
) -> tuple[PreTrainedModel, SavedModel]:
    auto_class = auto_class_of(student)
    # Compare labels and sizes before the weights are read: a mistake is found in a second, not after a download.
    saved = SavedModel.find(name, **options)
    _label_permutation(student, saved.config)
    model, missing = saved.load(auto_class, **options)
    if missing:
        raise ValueError(
            f"the teacher {name!r} has no trained weights for {missing}: a random head teaches nothing. Fine-tune the "
            "teacher on the task first."
        )
    return model, saved

"""Load a teacher by name and check it against its student."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from hf_distill.saved_models import SOURCE_KWARGS, load_tokenizer, require_floating_weights
from hf_distill.tasks import Task, auto_class_of, task_of
from hf_distill.teachers.alignment import has_label_names, label_permutation, require_same_vocabulary
from hf_distill.teachers.frozen import FrozenTeacher
from hf_distill.teachers.outputs import Teacher
from hf_distill.whole_weights import made_whole

_TASKS_WITHOUT_LABELS = (Task.QUESTION_ANSWERING, Task.MASKED_LM, Task.CAUSAL_LM)


def load_teacher(
    teacher_model: PreTrainedModel | nn.Module | Teacher | str | os.PathLike,
    student: PreTrainedModel,
    student_tokenizer: Any = None,
    dtype: str = "auto",
    device: torch.device | str | None = None,
    revision: str | None = None,
    init_kwargs: dict[str, Any] | None = None,
    input_prefix: str = "",
    sharding: str = "never",
) -> Teacher:
    """A frozen teacher for this student, with its labels in the student's order.

    A student whose labels have only their default names takes over the teacher's names.

    Args:
        teacher_model: A model, a Hub id, a local path, or a teacher, which is returned as it is.
        student: The model it will teach.
        student_tokenizer: Compared with the teacher's, when it is a tokenizer and one was saved with the teacher.
        dtype: See `FrozenTeacher`.
        device: Where the teacher computes; None leaves it where it is.
        revision: Branch, tag or commit of a Hub id.
        init_kwargs: Further arguments of `from_pretrained`.
        input_prefix: Of the teacher's own encoding; the vocabularies are then not compared. "": it reads the student's.
        sharding: See `FrozenTeacher`.

    Returns:
        A `FrozenTeacher`, or the teacher given.

    Raises:
        ValueError: Other labels, another vocabulary, a tokenizer that cannot be read, an untrained head, weights that are no
            floating-point numbers, or the student itself as teacher.
    """
    if teacher_model is student:
        raise ValueError("teacher_model is the student itself; pass another model, or a copy of it")
    init_kwargs = dict(init_kwargs or {})
    tokenizer = None
    if not isinstance(student_tokenizer, PreTrainedTokenizerBase):
        student_tokenizer = None  # an image processor has no vocabulary to compare
    if isinstance(teacher_model, nn.Module):
        if revision is not None or init_kwargs:
            raise ValueError(
                "teacher_revision and teacher_model_init_kwargs describe how to load a teacher by name, but "
                f"teacher_model is already a model ({type(teacher_model).__name__}); drop them or pass a name"
            )
        model = teacher_model
    elif isinstance(teacher_model, Teacher):
        return teacher_model
    else:
        options = {"revision": revision, "trust_remote_code": False} | init_kwargs
        with made_whole():
            model = _from_pretrained(str(teacher_model), student, options)
        if student_tokenizer is not None and not input_prefix:
            tokenizer = _tokenizer_like(student_tokenizer, str(teacher_model), options)
    permutation = _align(student, model)
    if not input_prefix and isinstance(getattr(model, "config", None), PretrainedConfig):
        require_same_vocabulary(student.config, model.config, student_tokenizer, tokenizer)
    return FrozenTeacher(model, dtype, device, permutation, input_prefix, sharding)


def _align(student: PreTrainedModel, teacher: nn.Module) -> list[int] | None:
    config = getattr(teacher, "config", None)
    if not isinstance(config, PretrainedConfig):
        return None
    permutation = _label_permutation(student, config)
    if has_label_names(config) and not has_label_names(student.config):
        student.config.id2label, student.config.label2id = dict(config.id2label), dict(config.label2id)
    return permutation


def _label_permutation(student: PreTrainedModel, teacher: PretrainedConfig) -> list[int] | None:
    return None if task_of(student) in _TASKS_WITHOUT_LABELS else label_permutation(student.config, teacher)


def _tokenizer_like(own: PreTrainedTokenizerBase, name: str, options: dict[str, Any]) -> PreTrainedTokenizerBase | None:
    # A setting of a run rather than of a model: RoBERTa reads lists of words only with it.
    settings = {"add_prefix_space": True} if getattr(own, "add_prefix_space", False) else {}
    return load_tokenizer(name, **_source(options), **settings)


def _source(options: dict[str, Any]) -> dict[str, Any]:
    return {key: options[key] for key in SOURCE_KWARGS & options.keys()}


def _from_pretrained(name: str, student: PreTrainedModel, options: dict[str, Any]) -> PreTrainedModel:
    auto_class = auto_class_of(student)
    # Compare labels and sizes before the weights are read: a mistake is found in a second, not after a download.
    config = AutoConfig.from_pretrained(name, **_source(options))
    _label_permutation(student, config)
    model, report = auto_class.from_pretrained(name, output_loading_info=True, **options)
    if report["missing_keys"]:
        raise ValueError(
            f"the teacher {name!r} has no trained weights for {sorted(report['missing_keys'])}: a random head teaches "
            "nothing. Fine-tune the teacher on the task first."
        )
    require_floating_weights(model, name, **_source(options))
    return model

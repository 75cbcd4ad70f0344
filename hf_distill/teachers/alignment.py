"""Checks that teacher and student have the same labels and tokens, and the permutation between their label orders."""

from __future__ import annotations

import re
from copy import copy
from typing import Any, cast

from transformers import PretrainedConfig, PreTrainedTokenizerBase
from transformers.image_processing_base import ImageProcessingMixin

from hf_distill.data.class_names import label_names, positions
from hf_distill.fingerprints import json_sha256

_PROBE_TEXT = "A Déjà-vu of NAÏVE tests: 1,024 re-tokenized words @home & 東京!"


def label_permutation(student: PretrainedConfig, teacher: PretrainedConfig) -> list[int] | None:
    """Match the teacher's labels with the student's by name.

    Case may differ, unless two names of one model differ in nothing else. Repeated names must be in the same order in both
    models. A model whose labels have only their default names (LABEL_0, ...) is taken to have the other model's order.

    Args:
        student: The student's configuration.
        teacher: The teacher's configuration.

    Returns:
        The teacher's label index for each of the student's; None where the orders are equal.

    Raises:
        ValueError: The numbers or names of the labels differ, or repeated names are in another order.
    """
    if student.num_labels != teacher.num_labels:
        raise ValueError(
            f"the teacher has {teacher.num_labels} labels {label_names(teacher)} and the student {student.num_labels} "
            f"{label_names(student)}; soft labels need the same labels on both sides. Create the student with "
            f"num_labels={teacher.num_labels}, or fine-tune the teacher on the student's task first."
        )
    if not has_label_names(student) or not has_label_names(teacher):
        return None
    permutation = positions(label_names(student), label_names(teacher))
    if permutation is None:
        raise ValueError(
            f"the teacher's labels are {label_names(teacher)}, the student's {label_names(student)}; they must be the same set "
            "(order and case may differ). Set the student's id2label and label2id to the teacher's names, or pass a "
            "teacher trained on the same labels."
        )
    return None if permutation == list(range(len(permutation))) else permutation


def has_label_names(config: PretrainedConfig) -> bool:
    """Whether the configuration names its labels with anything but the defaults LABEL_0, LABEL_1, ..."""
    return not all(re.fullmatch(r"LABEL_\d+", name) for name in label_names(config))


def take_over_label_names(student: PretrainedConfig, teacher: PretrainedConfig) -> None:
    """Copy the teacher's label names to a student that has as many labels with only their default names."""
    if has_label_names(teacher) and not has_label_names(student) and student.num_labels == teacher.num_labels:
        student.id2label, student.label2id = copy(teacher.id2label), copy(teacher.label2id)


def take_over_problem_type(student: PretrainedConfig, problem_type: str | None, whose: str) -> None:
    """Copy the teacher's problem type to a student whose configuration has none.

    Args:
        student: The student's configuration.
        problem_type: The teacher's `problem_type`. None: its configuration has none, and nothing is copied.
        whose: The owner of the problem type in the error message, such as "the teacher".

    Raises:
        ValueError: The two problem types differ.
    """
    if problem_type is None:
        return
    own = getattr(student, "problem_type", None)
    if own not in (None, problem_type):
        raise ValueError(
            f"the problem type of {whose} is {problem_type!r}, the student's {own!r}: their logits mean different "
            f"things. Set the student's config.problem_type to {problem_type!r} (with labels of that kind), or pass a "
            "teacher trained on the student's task."
        )
    student.problem_type = cast(Any, problem_type)


def require_same_vocabulary(
    student: PretrainedConfig,
    teacher: PretrainedConfig,
    student_tokenizer: PreTrainedTokenizerBase | None = None,
    teacher_tokenizer: PreTrainedTokenizerBase | None = None,
) -> None:
    """Refuse a teacher for which the same token ids stand for other tokens than for the student.

    If both tokenizers are given, their vocabularies and the tokens of one probe sentence are compared; else the vocabulary
    sizes.

    Args:
        student: The student's configuration.
        teacher: The teacher's configuration.
        student_tokenizer: The student's tokenizer. None: not known.
        teacher_tokenizer: The teacher's tokenizer. None: not known.

    Raises:
        ValueError: The vocabularies or tokenizations differ.
    """
    student_size, teacher_size = getattr(student, "vocab_size", None), getattr(teacher, "vocab_size", None)
    if student_size is None or teacher_size is None:
        return
    advice = (
        "Both models read the same token ids, so they need the same tokenizer: create the student over the teacher's "
        "vocabulary (`hf-distill train` and create_student do), or pick a teacher of the student's family. For a student "
        "with some of the teacher's tokens pass FrozenTeacher(teacher, token_ids=vocabulary_map(own, teachers)), of the two "
        "tokenizers (hf_distill.pruning)."
    )
    if student_tokenizer is None or teacher_tokenizer is None:
        if student_size != teacher_size:
            raise ValueError(
                f"the teacher's vocabulary has {teacher_size} tokens, the student's {student_size}. {advice} Where they share a "
                "tokenizer and only the embedding tables are padded to different sizes, pass the teacher by name, so that its "
                "tokenizer is found, and the student's tokenizer as processing_class."
            )
        return
    student_vocabulary, teacher_vocabulary = student_tokenizer.get_vocab(), teacher_tokenizer.get_vocab()
    if student_vocabulary != teacher_vocabulary:
        differing = student_vocabulary.items() ^ teacher_vocabulary.items()
        raise ValueError(
            f"the teacher's tokenizer ({len(teacher_vocabulary)} tokens) and the student's ({len(student_vocabulary)}) "
            f"differ in {len(differing)} entries, for example {min(differing, key=lambda entry: entry[1])}. {advice}"
        )
    student_ids, teacher_ids = (
        tokenizer(_PROBE_TEXT)["input_ids"] for tokenizer in (student_tokenizer, teacher_tokenizer)
    )
    if student_ids != teacher_ids:
        raise ValueError(
            f"teacher and student share a vocabulary but split text differently (lower-casing or accents?): "
            f"{teacher_tokenizer.convert_ids_to_tokens(teacher_ids)} against "
            f"{student_tokenizer.convert_ids_to_tokens(student_ids)}. {advice}"
        )


def processing_sha256(processing_class: Any) -> str | None:
    """Hash the settings that decide which inputs a tokenizer or image processor makes.

    A tokenizer's vocabulary and the tokens of one probe sentence are hashed, so that its copies have equal hashes in whatever
    class or folder they are; the length to which it truncates texts is not.

    Args:
        processing_class: The tokenizer or image processor.

    Returns:
        SHA-256, hexadecimal; None for an object of another kind.
    """
    if isinstance(processing_class, PreTrainedTokenizerBase):
        token_ids = processing_class(_PROBE_TEXT, truncation=False)["input_ids"]
        return json_sha256([processing_class.get_vocab(), token_ids])
    if isinstance(processing_class, ImageProcessingMixin):
        settings = processing_class.to_dict()
        return json_sha256(
            {name: settings[name] for name in settings if not name.endswith(("_type", "_path", "device"))}
        )
    return None

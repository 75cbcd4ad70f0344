"""Do teacher and student speak of the same thing: the same labels in the same order, the same tokens?"""

from __future__ import annotations

import re
from typing import Any

from transformers import PretrainedConfig, PreTrainedTokenizerBase
from transformers.image_processing_base import ImageProcessingMixin

from hf_distill.data.class_names import label_names, positions
from hf_distill.fingerprints import json_sha256

_PROBE_TEXT = "A Déjà-vu of NAÏVE tests: 1,024 re-tokenized words @home & 東京!"


def label_permutation(student: PretrainedConfig, teacher: PretrainedConfig) -> list[int] | None:
    """Which teacher label each student label is, matched by name.

    Case may differ, unless two names of a side differ by nothing else. Equal names must stand in the same order on both
    sides. A side whose labels carry only their default names (LABEL_0, ...) is taken to be in the other side's order.

    Args:
        student: The student's configuration.
        teacher: The teacher's configuration.

    Returns:
        Teacher index per student index, or None when the orders agree.

    Raises:
        ValueError: The numbers of labels differ, or the sets of names do, or equal names stand in another order.
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
    """Give a student whose labels have only their default names those of its teacher, where it has equally many."""
    if has_label_names(teacher) and not has_label_names(student) and student.num_labels == teacher.num_labels:
        student.id2label, student.label2id = dict(teacher.id2label), dict(teacher.label2id)


def take_over_problem_type(student: PretrainedConfig, problem_type: str | None, whose: str) -> None:
    """Let a student whose configuration does not say what its logits mean read them as its teacher's are read.

    Args:
        student: Its `problem_type` is set where it is None.
        problem_type: The teacher's; None: it does not say.
        whose: The teacher, for the message.

    Raises:
        ValueError: Both say it, and differ.
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
    student.problem_type = problem_type


def require_same_vocabulary(
    student: PretrainedConfig,
    teacher: PretrainedConfig,
    student_tokenizer: PreTrainedTokenizerBase | None = None,
    teacher_tokenizer: PreTrainedTokenizerBase | None = None,
) -> None:
    """Refuse a teacher that would read other words than the student in the same token ids.

    With both tokenizers at hand, their vocabularies and one probe sentence decide; else the vocabulary sizes do.

    Raises:
        ValueError: The vocabularies or tokenizations differ.
    """
    student_size, teacher_size = getattr(student, "vocab_size", None), getattr(teacher, "vocab_size", None)
    if student_size is None or teacher_size is None:
        return
    advice = (
        "Both models read the same token ids, so they need the same tokenizer: create the student over the teacher's "
        "vocabulary (`hf-distill train` and create_student do), or pick a teacher of the student's family."
    )
    if student_tokenizer is None or teacher_tokenizer is None:
        if student_size != teacher_size:
            raise ValueError(
                f"the teacher's vocabulary has {teacher_size} tokens, the student's {student_size}. {advice} Where they have "
                "one tokenizer and only rows that stand for no token are more, pass the teacher by name, from where its "
                "tokenizer is, and the student's as processing_class."
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
    """SHA-256 of what decides how a tokenizer or image processor makes inputs, hexadecimal; None for anything else.

    Of a tokenizer its vocabulary and the tokens of one probe sentence, so that its copies are equal in whatever class
    or folder they are; where it cuts texts off is not part of it.
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

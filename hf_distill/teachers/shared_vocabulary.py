"""Logits of teacher and student with one tokenizer and heads of different sizes, one of them padded beyond the tokens."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from transformers import PreTrainedTokenizerBase

from hf_distill.objectives.model_outputs import Features
from hf_distill.tasks import Task
from hf_distill.teachers.base import TeacherOutputs


class SharedVocabulary:
    """Truncates the logits of two language-model heads, one of which has more padding rows, to the vocabulary they share.

    Args:
        task: The task of the heads; only logits of masked and causal language models are truncated.
        tokenizer: The tokenizer of both models; None or anything that is no tokenizer: unknown.
    """

    def __init__(self, task: Task | None, tokenizer: Any):
        self._is_of_words = task in (Task.MASKED_LM, Task.CAUSAL_LM)
        self._tokenizer = tokenizer if isinstance(tokenizer, PreTrainedTokenizerBase) else None

    def require(self, student: int, teacher: int) -> None:
        """Refuse two vocabulary sizes whose difference may be more than padding rows.

        Args:
            student: The size of the student's vocabulary.
            teacher: The size of the teacher's vocabulary.

        Raises:
            ValueError: The smaller size does not cover all tokens of the tokenizer, or the tokenizer is unknown.
        """
        if not self._is_of_words or student == teacher:
            return
        tokens = None if self._tokenizer is None else max(self._tokenizer.get_vocab().values()) + 1
        if tokens is None or tokens > min(student, teacher):
            known = "is not known (pass processing_class)" if tokens is None else f"has {tokens} tokens"
            raise ValueError(
                f"the teacher's logits are over {teacher} tokens, the student's over {student}, and the tokenizer {known}: "
                "only rows that stand for no token may be left out. Give both models the same vocabulary, for example "
                f"with student.resize_token_embeddings({teacher})."
            )

    def of_both(self, student: Features, teacher: TeacherOutputs | None) -> tuple[Features, TeacherOutputs | None]:
        """The outputs of both models with logits, (..., vocabulary), over the vocabulary that they share.

        Args:
            student: The student's outputs.
            teacher: The teacher's outputs. None: nothing is truncated.

        Returns:
            The outputs of student and teacher.

        Raises:
            ValueError: The logits may not be truncated, see `require`.
        """
        if not self._is_of_words or teacher is None or teacher.logits is None:
            return student, teacher
        own, theirs = student.require_logits(), teacher.logits
        sizes = own.shape[-1], theirs.shape[-1]
        if sizes[0] == sizes[1]:
            return student, teacher
        self.require(*sizes)
        shared = slice(min(sizes))
        return replace(student, logits=own[..., shared]), replace(teacher, logits=theirs[..., shared])


def tokenizer_of(trainer: Any) -> PreTrainedTokenizerBase | None:
    """The tokenizer of a trainer, else that of its data collator; None where there is none."""
    found, data_collator = trainer.processing_class, trainer.data_collator
    found = getattr(found, "tokenizer", found)
    while found is None and data_collator is not None:
        found, data_collator = getattr(data_collator, "tokenizer", None), getattr(data_collator, "data_collator", None)
    return found if isinstance(found, PreTrainedTokenizerBase) else None

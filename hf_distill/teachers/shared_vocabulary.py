"""Teacher and student with one tokenizer and heads of different sizes, of which one has rows that stand for no token."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from transformers import PreTrainedTokenizerBase

from hf_distill.objectives.model_outputs import Features
from hf_distill.tasks import Task
from hf_distill.teachers.base import TeacherOutputs


class SharedVocabulary:
    """Cuts logits over two vocabularies, of which one has more rows that stand for no token, to those of both.

    Args:
        task: What the heads are for; of those that do not give words nothing is cut.
        tokenizer: Of both models; None or anything else where it is not known.
    """

    def __init__(self, task: Task | None, tokenizer: Any):
        self._is_of_words = task in (Task.MASKED_LM, Task.CAUSAL_LM)
        self._tokenizer = tokenizer if isinstance(tokenizer, PreTrainedTokenizerBase) else None

    def require(self, student: int, teacher: int) -> None:
        """Refuse two numbers of words whose difference may be more than rows that stand for no token.

        Raises:
            ValueError: Names both.
        """
        if not self._is_of_words or student == teacher:
            return
        tokens = None if self._tokenizer is None else max(self._tokenizer.get_vocab().values()) + 1
        if tokens is None or tokens > min(student, teacher):
            known = "is not known (pass processing_class)" if tokens is None else f"has {tokens} tokens"
            raise ValueError(
                f"the teacher's logits are over {teacher} words, the student's over {student}, and the tokenizer {known}: "
                "only rows that stand for no token may be left out. Give both models the same vocabulary, for example "
                f"with student.resize_token_embeddings({teacher})."
            )

    def of_both(self, student: Features, teacher: TeacherOutputs | None) -> tuple[Features, TeacherOutputs | None]:
        """Both answers, (..., words), over the words that both models have.

        Raises:
            ValueError: They may not be cut.
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
    """The tokenizer of a trainer's student, that of its collator where it has none itself; None where there is none."""
    found, data_collator = trainer.processing_class, trainer.data_collator
    found = getattr(found, "tokenizer", found)
    while found is None and data_collator is not None:
        found, data_collator = getattr(data_collator, "tokenizer", None), getattr(data_collator, "data_collator", None)
    return found if isinstance(found, PreTrainedTokenizerBase) else None

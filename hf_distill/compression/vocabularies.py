"""A teacher and its tokenizer with fewer tokens: each trim of the vocabulary is made once."""

from __future__ import annotations

from collections.abc import Iterable

from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_distill.compression.candidate import FULL, OF_TEXTS
from hf_distill.data.sequences import text_columns
from hf_distill.pruning.vocabulary import trim_vocabulary


class Vocabularies:
    """The vocabularies that the students of a teacher may have.

    Args:
        teacher: The teacher.
        tokenizer: The teacher's tokenizer.
        rows: The raw rows that students learn from.
    """

    def __init__(self, teacher: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: Dataset):
        self._rows = rows
        self._made: dict[str, tuple[PreTrainedModel, PreTrainedTokenizerBase]] = {FULL: (teacher, tokenizer)}

    def __getitem__(self, vocabulary: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        """The teacher and the tokenizer with a vocabulary.

        Args:
            vocabulary: The vocabulary, see `Candidate`.

        Returns:
            The model and the tokenizer.

        Raises:
            ValueError: The tokenizer is of a kind that cannot be trimmed, or needs more tokens than the number given.
        """
        if vocabulary not in self._made:
            most = None if vocabulary == OF_TEXTS else int(vocabulary)
            self._made[vocabulary] = trim_vocabulary(*self._made[FULL], self._texts(), max_tokens=most)
        return self._made[vocabulary]

    def tokens(self, vocabulary: str) -> int:
        """The number of tokens of a vocabulary."""
        return len(self[vocabulary][1])

    def _texts(self) -> Iterable[str]:
        for name in text_columns(self._rows.features):
            yield from (text for text in self._rows[name] if text)


def checked_vocabulary(text: str) -> str:
    """The name of a vocabulary that a user wrote.

    Args:
        text: What the user wrote.

    Returns:
        The name.

    Raises:
        ValueError: It is no name of a vocabulary.
    """
    if text in (FULL, OF_TEXTS) or (text.isdigit() and int(text) > 0):
        return text
    raise ValueError(f"a vocabulary is {FULL}, {OF_TEXTS} or a number of tokens, got {text!r}")

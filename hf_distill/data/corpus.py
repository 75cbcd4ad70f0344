"""Unlabeled text: packed for masked language modeling, and kept apart from what models are evaluated on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from itertools import chain

from datasets import Dataset, IterableDataset
from transformers import PreTrainedTokenizerBase

Texts = Dataset | IterableDataset


def normalized(text: str) -> str:
    """A text as it is compared: lower case, single spaces."""
    return " ".join(text.lower().split())


def text_hash(text: str) -> bytes:
    """SHA-256 of what a text says, normalized."""
    return hashlib.sha256(normalized(text).encode()).digest()


def without_texts_of(texts: Dataset, evaluation: Iterable[str], column: str = "text") -> tuple[Dataset, int]:
    """A transfer set without the texts that models are evaluated on.

    Args:
        texts: The transfer set.
        evaluation: Every text of the evaluation sets.
        column: Of the texts.

    Returns:
        The texts that stay, in their order, and how many were dropped.
    """
    hashes = {text_hash(text) for text in evaluation}
    kept = [index for index, text in enumerate(texts[column]) if text_hash(text) not in hashes]
    return (texts, 0) if len(kept) == len(texts) else (texts.select(kept), len(texts) - len(kept))


def packed(
    texts: Texts, tokenizer: PreTrainedTokenizerBase, length: int, column: str = "text", **options: object
) -> Texts:
    """Sequences of equal length cut from all texts in a row, special tokens between them: nothing is padded.

    Args:
        texts: May be a stream. Empty texts are passed over.
        tokenizer: Of the model to be trained.
        length: Tokens per sequence. Of every 1,000 texts a shorter rest is left out.
        column: Of the texts; the others are dropped.
        options: Passed to `map`.

    Returns:
        One column, input_ids.
    """

    def cut(rows: dict[str, list]) -> dict[str, list]:
        filled = [text for text in rows[column] if text and not text.isspace()]
        tokens = list(chain.from_iterable(tokenizer(filled, verbose=False)["input_ids"])) if filled else []
        starts = range(0, len(tokens) - length + 1, length)
        return {"input_ids": [tokens[start : start + length] for start in starts]}

    columns = texts.column_names or list(next(iter(texts)))
    return texts.map(cut, batched=True, remove_columns=columns, **options)

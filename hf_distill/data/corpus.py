"""Unlabeled text: packing for masked language modeling, and removal of texts that are in evaluation sets."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from itertools import chain
from typing import Any, TypeAlias

from datasets import Dataset, IterableDataset
from transformers import PreTrainedTokenizerBase

Texts: TypeAlias = Dataset | IterableDataset


def normalized(text: str) -> str:
    """A text normalized for comparison: in lower case, with single spaces."""
    return " ".join(text.lower().split())


def text_hash(text: str) -> bytes:
    """SHA-256 of the normalized text."""
    return hashlib.sha256(normalized(text).encode()).digest()


def without_texts_of(texts: Dataset, evaluation: Iterable[str], column: str = "text") -> tuple[Dataset, int]:
    """A transfer set without the texts of evaluation sets.

    Args:
        texts: The transfer set.
        evaluation: The texts of all evaluation sets.
        column: The column of texts.

    Returns:
        The remaining rows, in their order, and the number of removed rows.
    """
    hashes = {text_hash(text) for text in evaluation}
    kept = [index for index, text in enumerate(texts[column]) if text_hash(text) not in hashes]
    return (texts, 0) if len(kept) == len(texts) else (texts.select(kept), len(texts) - len(kept))


def packed(
    texts: Texts, tokenizer: PreTrainedTokenizerBase, length: int, column: str = "text", **options: Any
) -> Texts:
    """Concatenate all texts, with special tokens between them, and cut them into sequences of equal length.

    Args:
        texts: A data set or a stream of texts; empty texts are skipped.
        tokenizer: The tokenizer of the model to be trained.
        length: Tokens per sequence. What is left over at the end of every 1,000 texts is dropped.
        column: The column of texts; all other columns are dropped.
        **options: Arguments of `Dataset.map`.

    Returns:
        A data set or a stream with the column input_ids.
    """

    def cut(rows: dict[str, list]) -> dict[str, list]:
        filled = [text for text in rows[column] if text and not text.isspace()]
        tokens = list(chain.from_iterable(tokenizer(filled, verbose=False)["input_ids"])) if filled else []
        starts = range(0, len(tokens) - length + 1, length)
        return {"input_ids": [tokens[start : start + length] for start in starts]}

    columns = texts.column_names or list(next(iter(texts)))
    return texts.map(cut, batched=True, remove_columns=columns, **options)

"""Unlabeled text: packing for masked language modeling, and removal of texts that are in evaluation sets."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, IterableDataset
from transformers import PreTrainedTokenizerBase

from hf_distill.data.arrow_columns import StoredRows

Texts: TypeAlias = Dataset | IterableDataset

_ROWS_AT_ONCE = 10_000
# What `str.split` takes for white space in ASCII, but for single spaces between words.
_IRREGULAR_SPACES = r"[\t-\r\x1c-\x1f]|  |^ | $"


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
    evaluated = pa.array(set(map(normalized, evaluation)), pa.large_string())

    def is_evaluated(block: pa.ChunkedArray) -> pa.ChunkedArray:
        return pc.is_in(_all_normalized(block), value_set=evaluated.cast(block.type))

    kept = np.flatnonzero(~_values(texts, column, is_evaluated))
    return (texts, 0) if len(kept) == len(texts) else (texts.select(kept), len(texts) - len(kept))


def _values(texts: Dataset, column: str, of: Callable[[pa.ChunkedArray], pa.ChunkedArray]) -> np.ndarray:
    """What a function makes of the texts, bool (rows,)."""
    if texts.format["type"] != "custom":
        return StoredRows.of(texts).values(column, of, np.bool_)
    blocks = (pa.chunked_array([rows[column]]) for rows in texts.iter(batch_size=_ROWS_AT_ONCE))
    return np.concatenate([np.zeros(0, np.bool_), *(of(block).to_numpy() for block in blocks)])


def _all_normalized(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """`normalized` of every text; Python is asked only for those with other letters than ASCII's or irregular spaces."""
    lower = pc.utf8_lower(texts)  # ascii_lower of pyarrow 26 is wrong for slices of texts that were cast
    is_other = pc.or_(pc.invert(pc.string_is_ascii(texts)), pc.match_substring_regex(lower, _IRREGULAR_SPACES))
    is_other = is_other.combine_chunks()
    others = [normalized(text) for text in texts.filter(is_other).to_pylist()]
    return pc.replace_with_mask(lower, is_other, pa.array(others, lower.type))


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

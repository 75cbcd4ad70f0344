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
from hf_distill.data.class_names import ClassIds
from hf_distill.data.sequences import LABEL_COLUMNS, column_of_class_names, string_columns
from hf_distill.text.suggestions import suggestion

Texts: TypeAlias = Dataset | IterableDataset

_ROWS_AT_ONCE = 10_000
# What `str.split` takes for white space in ASCII, but for single spaces between words.
_IRREGULAR_SPACES = r"[\t-\r\x1c-\x1f]|  |^ | $"


def column_of_texts(texts: Texts, given: str | None = None, ids: ClassIds | None = None) -> str:
    """Choose the column that single texts are read from: "text", else the first column of strings.

    Args:
        texts: A data set or a stream, of which the first row says which columns are strings where nothing else does.
        given: The column that the user names. None: none.
        ids: The classes of a teacher; a column of their names is not one of texts. None: there are none.

    Returns:
        The name of the column.

    Raises:
        ValueError: There is no such column of strings; the message names the columns.
    """
    first = {} if texts.features else next(iter(texts))
    names = list(texts.features or first)
    strings = string_columns(texts.features) if texts.features else [n for n in names if isinstance(first[n], str)]
    if given is not None:
        if given not in strings:
            raise ValueError(
                f"text_column_name is {given!r}, the columns are {names}{suggestion(given, names)}; of strings are {strings}"
            )
        return given
    labels = {*LABEL_COLUMNS, column_of_class_names(texts, ids) if ids and isinstance(texts, Dataset) else None}
    found = [name for name in strings if name not in labels]
    if not found:
        raise ValueError(f"texts are read from the column text, or else the first of strings, got the columns {names}")
    return "text" if "text" in found else found[0]


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
    if isinstance(texts, Dataset):  # streams have no progress bar
        options = {"desc": "Tokenizing"} | options
    return texts.map(cut, batched=True, remove_columns=columns, **options)

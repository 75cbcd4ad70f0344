"""Model inputs for sequence classification and regression, from rows of one or two texts and a label."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from datasets import Dataset, Features, concatenate_datasets
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from hf_distill.data.class_names import MISSING, ClassIds, label_names
from hf_distill.data.files import require_texts
from hf_distill.objectives.reduction import IGNORE_INDEX
from hf_distill.sentence_encoder import prompts_of

STRINGS = ("string", "large_string")
LABEL_COLUMNS = ("label", "labels")  # by these names a column is never one of texts
_ROWS_TO_LOOK_AT = 1000


def string_columns(features: Features) -> list[str]:
    """The columns of strings, in their order."""
    return [name for name, each in features.items() if getattr(each, "dtype", None) in STRINGS]


def text_columns(features: Features) -> list[str]:
    """The columns of texts: "text", or else the first one or two columns of strings."""
    strings = [name for name in string_columns(features) if name not in LABEL_COLUMNS]
    return ["text"] if "text" in strings else strings[:2]


def column_of_class_names(rows: Dataset, ids: ClassIds) -> str | None:
    """The only column of strings whose values, in the first 1,000 rows, are names of classes; None if there is not one.

    Args:
        rows: Raw rows.
        ids: The class of each name.

    Returns:
        The name of the column; values that are missing do not count.
    """
    first = rows.select(range(min(len(rows), _ROWS_TO_LOOK_AT)))
    found = []
    for name in string_columns(rows.features):
        values = set(first[name]) - {None, ""}
        found += [name] if values and all(ids.get(value) is not None for value in values) else []
    return found[0] if len(found) == 1 else None


def label_ids(config: PretrainedConfig) -> ClassIds:
    """The class of each name or number of a label; empty for regression."""
    return ClassIds() if config.num_labels == 1 else ClassIds.of(label_names(config))


def label_values(feature: Any) -> Callable[[Any], Any]:
    """A function from values of a column of labels to class names, if it has names; None for a missing label."""
    int2str = getattr(feature, "int2str", None)
    return (lambda value: None if value in MISSING else int2str(value)) if int2str else lambda value: value


def encode_label(value: Any, ids: ClassIds) -> int | float:
    """The label as the model takes it.

    Args:
        value: The label of a row: a name, a number, or None or NaN for a missing one.
        ids: The class of each name or number; empty for regression.

    Returns:
        The class index, or -100 for a missing one; for regression the number.

    Raises:
        ValueError: There is no such class, or for regression no finite number.
    """
    is_missing = value is None or value != value  # NaN: how a missing number is read from some files
    if not ids:
        return _number(None if is_missing else value)
    if is_missing or (value == IGNORE_INDEX and ids.get(value) is None):
        return IGNORE_INDEX
    ids.require([value])
    index = ids.get(value)
    assert index is not None
    return index


def _number(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"a row has the label {value!r}; allowed are numbers, because the model has no classes")
    return number


@dataclass
class SequenceEncoder:
    """Encodes texts as model inputs, with labels where the data set has them.

    Attributes:
        tokenizer: The model's tokenizer.
        ids: The class of each name or number of a label, see `label_ids`; empty for regression.
        max_length: Tokens to which longer inputs are truncated; at most the tokenizer's maximum.
        pad: Pad every input to that length, not to the longest of its batch.
        segments: Whether to return token type ids. None: if the model uses them.
        cached: Use the cached result of an earlier call with the same arguments.
    """

    tokenizer: PreTrainedTokenizerBase
    ids: ClassIds
    max_length: int = 128
    pad: bool = False
    segments: bool | None = None
    cached: bool = True

    def __call__(self, rows: Dataset, texts: list[str]) -> Dataset:
        """Encode rows as model inputs.

        Args:
            rows: Rows with these columns and, if there are labels, the column label.
            texts: The names of one or two columns of texts.

        Returns:
            The model inputs, one row per row.

        Raises:
            ValueError: A row has no text, or a label that is not one of the classes.
        """
        require_texts(rows, texts)
        value_of = label_values(rows.features.get("label"))
        options: dict[str, Any] = {
            "max_length": min(self.max_length, self.tokenizer.model_max_length),
            "padding": "max_length" if self.pad else False,
            "return_token_type_ids": self.segments,
        }

        def encode_rows(batch: dict[str, list]) -> dict[str, list]:
            inputs = dict(self.tokenizer(*(batch[name] for name in texts), truncation=True, **options))
            if "label" in batch:
                inputs["labels"] = [encode_label(value_of(value), self.ids) for value in batch["label"]]
            return inputs

        how = {"load_from_cache_file": self.cached, "desc": "Tokenizing"}
        return rows.map(encode_rows, batched=True, remove_columns=rows.column_names, **how)


def single_texts(rows: Dataset, prompts: Sequence[str] = ("", "")) -> Dataset:
    """Every text of one or two columns as a row of its own.

    Args:
        rows: Rows with one or two columns of texts, see `text_columns`.
        prompts: What the texts of each column are made to begin with.

    Returns:
        Rows with the column text, first those of the first column.

    Raises:
        ValueError: There is no column of texts.
    """
    columns = text_columns(rows.features)
    if not columns:
        raise ValueError(f"the data need one or two columns of texts, got {rows.column_names}")
    of_each = [rows.select_columns([name]).rename_columns({name: "text"}) for name in columns]
    begun = [_begun(*each) for each in zip(of_each, prompts, strict=False)]
    kind = begun[0].features  # files are read with different types of strings
    return concatenate_datasets([each if each.features == kind else each.cast(kind) for each in begun])


def _begun(rows: Dataset, prompt: str) -> Dataset:
    """Rows whose texts begin with a prompt."""
    if not prompt:
        return rows

    def begin(batch: dict[str, list]) -> dict[str, list]:
        return {"text": [text if text is None else prompt + text for text in batch["text"]]}

    return rows.map(begin, batched=True, desc="Adding the prompt")


def encode_single_texts(
    rows: Dataset, config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase, max_length: int
) -> Dataset:
    """Encode every text of one or two columns by itself, as a sentence encoder reads it.

    Args:
        rows: Rows with one or two columns of texts, see `text_columns`. Of two, the first are queries, the second documents.
        config: The configuration of the sentence encoder, which names the prompts that texts begin with.
        tokenizer: The model's tokenizer.
        max_length: Tokens to which longer texts are truncated; at most the tokenizer's maximum.

    Returns:
        The model inputs: one row per text, first those of the first column.

    Raises:
        ValueError: There is no column of texts, or a row has no text.
    """
    texts = single_texts(rows, prompts_of(config, len(text_columns(rows.features))))
    return SequenceEncoder(tokenizer, ClassIds(), max_length)(texts, ["text"])

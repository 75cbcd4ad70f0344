"""Rows of one or two texts, with a class or a number each."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from datasets import Dataset, Features
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from hf_distill.data.class_names import MISSING, ClassIds, label_names
from hf_distill.data.files import require_texts
from hf_distill.objectives.reduction import IGNORE_INDEX

STRINGS = ("string", "large_string")


def text_columns(features: Features) -> list[str]:
    """The column text, or else the first one or two of strings."""
    strings = [name for name in features if name != "label" and getattr(features[name], "dtype", None) in STRINGS]
    return ["text"] if "text" in strings else strings[:2]


def label_ids(config: PretrainedConfig) -> ClassIds:
    """The class that each name or number of a label stands for; none for regression."""
    return ClassIds() if config.num_labels == 1 else ClassIds.of(label_names(config))


def label_values(feature: Any) -> Callable[[Any], Any]:
    """From the values of a column of labels to what they say: names where the column has names; None where one is missing."""
    int2str = getattr(feature, "int2str", None)
    return (lambda value: None if value in MISSING else int2str(value)) if int2str else lambda value: value


def encode_label(value: Any, ids: ClassIds) -> int | float:
    """What a label is trained as: its class, for regression its value; a missing class as -100, which does not count.

    Raises:
        ValueError: There is no such class, or no value.
    """
    is_missing = value is None or value != value  # NaN, which is how some files say that a number is missing
    if not ids:
        return _number(None if is_missing else value)
    if is_missing or (value == IGNORE_INDEX and ids.get(value) is None):
        return IGNORE_INDEX
    ids.require([value])
    return ids.get(value)


def _number(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"a row has the label {value!r}; allowed are numbers, because the head has one output")
    return number


@dataclass
class SequenceEncoder:
    """Makes model inputs from texts, with labels where the data have them.

    Attributes:
        tokenizer: The model's.
        ids: See `label_ids`.
        max_length: Longer inputs are cut to this many tokens, or to what the tokenizer allows.
        pad: Every input to that length, not to the longest of its batch.
        segments: Whether to say which of two texts a token is of. None: where the model reads it.
        cached: Take an earlier result of the same call.
    """

    tokenizer: PreTrainedTokenizerBase
    ids: ClassIds
    max_length: int = 128
    pad: bool = False
    segments: bool | None = None
    cached: bool = True

    def __call__(self, rows: Dataset, texts: list[str]) -> Dataset:
        """From the columns of texts; the label is in the column label.

        Raises:
            ValueError: A row has no text, or a label that is none of the classes.
        """
        require_texts(rows, texts)
        value_of = label_values(rows.features.get("label"))
        options = {
            "max_length": min(self.max_length, self.tokenizer.model_max_length),
            "padding": "max_length" if self.pad else False,
            "return_token_type_ids": self.segments,
        }

        def encode_rows(batch: dict[str, list]) -> dict[str, list]:
            inputs = dict(self.tokenizer(*(batch[name] for name in texts), truncation=True, **options))
            if "label" in batch:
                inputs["labels"] = [encode_label(value_of(value), self.ids) for value in batch["label"]]
            return inputs

        return rows.map(encode_rows, batched=True, remove_columns=rows.column_names, load_from_cache_file=self.cached)

"""Rows of one or two texts, with a class or a number each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from datasets import Dataset, Features
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from hf_distill.objectives.reduction import IGNORE_INDEX

STRINGS = ("string", "large_string")


def text_columns(features: Features) -> list[str]:
    """The column text, or else the first one or two of strings."""
    strings = [name for name in features if name != "label" and getattr(features[name], "dtype", None) in STRINGS]
    return ["text"] if "text" in strings else strings[:2]


def label_ids(config: PretrainedConfig) -> dict[str, int]:
    """The class that each name or number of a label stands for, names in lower case; none for regression."""
    if config.num_labels == 1:
        return {}
    names = {str(name).casefold(): index for index, name in config.id2label.items()}
    return {str(index): index for index in names.values()} | names


def encode_label(value: Any, ids: Mapping[str, int]) -> int | float:
    """What a label is trained as: its class, for regression its value; a missing class as -100, which does not count.

    Raises:
        ValueError: There is no such class, or no value.
    """
    key = str(value).casefold()
    if value is None and ids:
        return IGNORE_INDEX
    if value is None or (ids and key not in ids):
        allowed = list(ids) or "numbers, because the first are floats (in CSV files also integers with gaps)"
        raise ValueError(f"a row has the label {value!r}; allowed are {allowed}")
    return ids[key] if ids else float(value)


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
    ids: Mapping[str, int]
    max_length: int = 128
    pad: bool = False
    segments: bool | None = None
    cached: bool = True

    def __call__(self, rows: Dataset, texts: list[str]) -> Dataset:
        """From the columns of texts; the label is in the column label."""
        name_of = getattr(rows.features.get("label"), "int2str", lambda value: value)
        options = {
            "max_length": min(self.max_length, self.tokenizer.model_max_length),
            "padding": "max_length" if self.pad else False,
            "return_token_type_ids": self.segments,
        }

        def encode_rows(batch: dict[str, list]) -> dict[str, list]:
            columns = [[text or "" for text in batch[name]] for name in texts]
            inputs = dict(self.tokenizer(*columns, truncation=True, **options))
            if "label" in batch:
                inputs["labels"] = [encode_label(name_of(value), self.ids) for value in batch["label"]]
            return inputs

        return rows.map(encode_rows, batched=True, remove_columns=rows.column_names, load_from_cache_file=self.cached)

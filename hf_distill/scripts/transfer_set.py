"""Raw texts as the model inputs of a transfer set, which a teacher labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from datasets import Dataset, IterableDataset
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from hf_distill.data.files import load_texts, with_texts
from hf_distill.data.sequences import encode_label, label_ids, label_values
from hf_distill.scripts.user_errors import WrongUsage


def load_transfer_set(
    source: str,
    columns: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    streaming: bool = False,
    config: PretrainedConfig | None = None,
) -> Dataset | IterableDataset:
    """Load texts and add their model inputs.

    Args:
        source: A data set's id on the Hub, a file, or a folder of files.
        columns: The column of texts, or two for pairs of texts.
        tokenizer: The teacher's tokenizer.
        max_length: Tokens that longer texts are cut to.
        streaming: Read the texts as a stream.
        config: The configuration of a teacher that classifies; the column label becomes its class indices, in the column
            labels. None: the column label is left out.

    Returns:
        The rows with their raw columns and model inputs.

    Raises:
        WrongUsage: A column does not exist.
        ValueError: A row has no text, or a label is none of the teacher's classes.
    """
    rows = load_texts(source, streaming=streaming)
    names = rows.column_names or list(next(iter(rows)))
    if missing := sorted(set(columns) - set(names)):
        raise WrongUsage(f"the dataset has no columns {missing}, it has {names}")
    dropped = ["label"] if "label" in names else []
    value_of = label_values((rows.features or {}).get("label"))
    ids = None if config is None or not dropped else label_ids(config)

    def encode(batch: dict[str, list]) -> dict[str, list]:
        inputs = tokenizer(*(batch[name] for name in columns), truncation=True, max_length=max_length)
        labels = {} if ids is None else {"labels": [encode_label(value_of(value), ids) for value in batch["label"]]}
        return dict(inputs) | labels

    encoded: Any = with_texts(rows, columns)
    return encoded.map(encode, batched=True, remove_columns=dropped)

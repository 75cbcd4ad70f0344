"""Raw texts or words as the model inputs of a transfer set, which a teacher labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from datasets import Dataset, IterableDataset, concatenate_datasets
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_distill.data.class_names import ClassIds
from hf_distill.data.files import with_texts
from hf_distill.data.sequences import encode_label, label_ids, label_values
from hf_distill.data.words import WordEncoder, word_label_column, word_label_ids
from hf_distill.scripts.datasets import load_unlabeled_rows
from hf_distill.scripts.user_errors import WrongUsage
from hf_distill.tasks import Task, task_of


def load_transfer_set(
    source: str,
    columns: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    streaming: bool = False,
    teacher: PreTrainedModel | None = None,
    prompt: str = "",
) -> Dataset | IterableDataset:
    """Load texts, or rows of words, and add their model inputs.

    Args:
        source: A built-in set, a data set's id on the Hub, a file, or a folder of files.
        columns: The column of texts, two for pairs of texts, or the column of lists of words.
        tokenizer: The teacher's tokenizer.
        max_length: Tokens that longer texts are cut to.
        streaming: Read the texts as a stream.
        teacher: The teacher, whose class indices the labels become, in the column labels: for a classifier of texts those of
            the column label, for one of words those of the column of the words' labels. None: texts lose the column label.
        prompt: What the teacher's texts begin with; the raw columns are without.

    Returns:
        The rows with their raw columns and model inputs.

    Raises:
        WrongUsage: A column does not exist, or words are to be read as a stream.
        ValueError: A row has no text, or a label is none of the teacher's classes.
    """
    rows = load_unlabeled_rows(source, streaming)
    names = rows.column_names or list(next(iter(rows)))
    if missing := sorted(set(columns) - set(names)):
        raise WrongUsage(f"the dataset has no columns {missing}, it has {names}")
    if any(hasattr((rows.features or {}).get(name), "feature") for name in columns):
        return _with_word_inputs(rows, columns, tokenizer, max_length, teacher)
    dropped = ["label"] if "label" in names else []
    value_of = label_values((rows.features or {}).get("label"))
    classifier = teacher if teacher is not None and task_of(teacher) is Task.SEQUENCE_CLASSIFICATION else None
    ids = label_ids(classifier.config) if classifier is not None and dropped else None

    def encode(batch: dict[str, list]) -> dict[str, list]:
        texts = [[prompt + text for text in batch[columns[0]]], *(batch[name] for name in columns[1:])]
        inputs = tokenizer(*texts, truncation=True, max_length=max_length)
        labels = {} if ids is None else {"labels": [encode_label(value_of(value), ids) for value in batch["label"]]}
        return dict(inputs) | labels

    encoded: Any = with_texts(rows, columns)
    bar = {"desc": "Tokenizing"} if isinstance(rows, Dataset) else {}  # streams have none
    return encoded.map(encode, batched=True, remove_columns=dropped, **bar)


def _with_word_inputs(
    rows: Dataset | IterableDataset,
    columns: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    teacher: PreTrainedModel | None,
) -> Dataset:
    """The rows with the model inputs of their words, and with labels if the teacher tags words and the rows have theirs."""
    if len(columns) > 1 or not isinstance(rows, Dataset):
        raise WrongUsage(f"words are read from one column, and not as a stream, got the columns {list(columns)}")
    tagger = teacher if teacher is not None and task_of(teacher) is Task.TOKEN_CLASSIFICATION else None
    advice = "call the right one ner_tags, or leave out the others"
    label = word_label_column(rows.features, columns[0], advice=advice) if tagger else None
    ids = word_label_ids(tagger.config) if tagger else ClassIds()
    inputs = WordEncoder(tokenizer, ids, max_length)(rows, columns[0], label)
    return concatenate_datasets([rows, inputs], axis=1)

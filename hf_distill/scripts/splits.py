"""Splits of a data set for training and evaluation."""

from __future__ import annotations

from collections.abc import Mapping

from datasets import Dataset

from hf_distill.data.arrow_columns import StoredRows
from hf_distill.data.sequences import text_columns
from hf_distill.data.words import word_columns
from hf_distill.evaluation.single_texts import FEWEST_TEXTS
from hf_distill.tasks import Task

HELD_OUT_SHARE, MAX_HELD_OUT_ROWS = 0.1, 1000
MIN_ROWS_TO_HOLD_OUT = 20  # with fewer rows all are needed for training


def training_splits(splits: Mapping[str, Dataset], seed: int) -> tuple[dict[str, Dataset], str | None]:
    """Make sure that there is a split called train, and hold out a validation split if no split is there to evaluate on.

    Args:
        splits: The data set's splits by name; a single one is for training, whatever its name.
        seed: The seed of the random choice of held-out rows.

    Returns:
        The splits by name, and a sentence that says what was held out; None where nothing was.

    Raises:
        ValueError: There are several splits and none is called train.
    """
    splits = dict(splits) if len(splits) > 1 else {"train": next(iter(splits.values()))}
    if "train" not in splits:
        raise ValueError(f"a data set of several splits needs one called train, got {sorted(splits)}")
    rows = splits["train"]
    if {"test", "validation"} & splits.keys() or len(rows) < MIN_ROWS_TO_HOLD_OUT:
        return splits, None
    parts = rows.train_test_split(min(round(HELD_OUT_SHARE * len(rows)), MAX_HELD_OUT_ROWS), seed=seed)
    note = f"{len(parts['test'])} of the {len(rows)} rows were held out for validation (seed {seed})"
    return splits | {"train": parts["train"], "validation": parts["test"]}, note


def labeled_split(splits: Mapping[str, Dataset], task: Task | None) -> str | None:
    """The split to evaluate on: test, else validation, the first of them with labels; None: neither has labels."""
    return next((name for name in ("test", "validation") if name in splits and is_labeled(splits[name], task)), None)


def is_labeled(rows: Dataset, task: Task | None) -> bool:
    """Whether at least some of the rows have the labels of the task; answers to questions, or for embeddings enough texts."""
    if task is Task.SENTENCE_EMBEDDING:
        columns = text_columns(rows.features)
        return len(columns) == 2 or (len(columns) == 1 and len(rows) >= FEWEST_TEXTS)
    if task is Task.TOKEN_CLASSIFICATION:
        return bool(word_columns(rows.features))  # which refuses rows without
    column = "answers" if task is Task.QUESTION_ANSWERING else "label"
    if column not in rows.column_names:
        return False
    return any(table[column].null_count < len(table) for _, table in StoredRows.of(rows).blocks([column]))

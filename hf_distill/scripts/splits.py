"""Splits of a data set for training and evaluation."""

from __future__ import annotations

from collections.abc import Mapping

from datasets import Dataset

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

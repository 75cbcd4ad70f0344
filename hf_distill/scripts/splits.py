"""What a student is trained on and what it is measured on."""

from __future__ import annotations

from collections.abc import Mapping

from datasets import Dataset

HELD_OUT_SHARE, HELD_OUT_AT_MOST = 0.1, 1000
MIN_ROWS_TO_HOLD_OUT = 20  # rows; of fewer all are needed for training


def training_splits(splits: Mapping[str, Dataset], seed: int) -> tuple[dict[str, Dataset], str | None]:
    """The splits, one of them called train; where none is there to measure on, a part of it is held out as validation.

    Args:
        splits: As loaded; a single one is for training, whatever it is called.
        seed: Decides which rows are held out.

    Returns:
        The splits, and what was held out, in words; None for nothing.

    Raises:
        ValueError: There are several splits, but none to train on.
    """
    splits = dict(splits) if len(splits) > 1 else {"train": next(iter(splits.values()))}
    if "train" not in splits:
        raise ValueError(f"a data set of several splits needs one called train, got {sorted(splits)}")
    rows = splits["train"]
    if {"test", "validation"} & splits.keys() or len(rows) < MIN_ROWS_TO_HOLD_OUT:
        return splits, None
    parts = rows.train_test_split(min(round(HELD_OUT_SHARE * len(rows)), HELD_OUT_AT_MOST), seed=seed)
    note = f"{len(parts['test'])} of the {len(rows)} rows were held out for validation (seed {seed})"
    return splits | {"train": parts["train"], "validation": parts["test"]}, note

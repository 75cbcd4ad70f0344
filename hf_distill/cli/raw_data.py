"""Data sets as the commands name them: built in, on the Hub, a file, or a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict, load_dataset, load_from_disk

from hf_distill.cli.scripts import FILE_TYPES
from hf_distill.files import require_sound_table
from hf_distill.resources.digits import load_digits_dataset
from hf_distill.resources.sentiment import DOMAINS, load_sentiment
from hf_distill.resources.squad import is_squad_file, load_squad_file


def load_splits(name: str, config: str | None = None) -> dict[str, Dataset]:
    """Every split of a data set.

    Args:
        name: A built-in set (a domain of the sentiment sets, or digits), a .csv, .json, .jsonl or .txt file (one split,
            named after the file), a folder that datasets saved, or any name that `datasets.load_dataset` takes.
        config: Its configuration.

    Raises:
        ValueError: The file is of another type, or a saved folder's rows point outside of their files.
        OSError: It is not there.
    """
    path = Path(name)
    if name in DOMAINS:
        return dict(load_sentiment(name))
    if name == "digits":
        return dict(load_digits_dataset())
    if path.is_file():
        if path.suffix not in FILE_TYPES:
            raise ValueError(f"a data file must be one of {sorted(FILE_TYPES)}, got {name!r}")
        if is_squad_file(path):
            return {path.stem: load_squad_file(path)}
        return {path.stem: load_dataset(FILE_TYPES[path.suffix], data_files=name, split="train")}
    if (path / "dataset_dict.json").exists() or (path / "state.json").exists():
        loaded = load_from_disk(name)
        splits = dict(loaded) if isinstance(loaded, DatasetDict) else {path.name: loaded}
        for split, rows in splits.items():
            require_sound_table(rows.data, f"{name} ({split})")
        return splits
    return dict(load_dataset(name, config))


def choose_split(splits: dict[str, Dataset], wanted: str | None) -> tuple[str, Dataset]:
    """The split asked for; else test, else validation, else the only one.

    Raises:
        ValueError: There is no such split, or it is not clear which is meant.
    """
    default = next((name for name in ("test", "validation") if name in splits), None)
    name = wanted or default or (next(iter(splits)) if len(splits) == 1 else None)
    if name not in splits:
        raise ValueError(f"split must be one of {sorted(splits)}, got {wanted!r}")
    return name, splits[name]


def with_columns(rows: Dataset, texts: list[str] | None, label: str | None) -> Dataset:
    """With the columns chosen, as the encoders know them.

    Raises:
        ValueError: A column is not there.
    """
    missing = {*(texts or ()), *([label] if label else ())} - set(rows.column_names)
    if missing:
        raise ValueError(f"the data have no columns {sorted(missing)}, they have {rows.column_names}")
    if texts:
        others: list[Any] = [name for name in (label or "label",) if name in rows.column_names]
        rows = rows.select_columns([*texts, *others])
    return rows.rename_column(label, "label") if label and label != "label" else rows

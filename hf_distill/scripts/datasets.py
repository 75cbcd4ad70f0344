"""Data sets as the commands name them: built in, on the Hub, a file, or a folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict, Value, load_from_disk

from hf_distill.data.files import FILE_TYPES, load_files, load_named, require_texts
from hf_distill.files import require_sound_table
from hf_distill.precomputed.provenance import provenances
from hf_distill.precomputed.shards import MANIFEST, load_teacher_outputs
from hf_distill.resources.digits import load_digits_dataset
from hf_distill.resources.sentiment import DOMAINS, load_sentiment
from hf_distill.resources.squad import is_squad_file, load_squad_file
from hf_distill.text.suggestions import suggestion

PAIR = ("first_text", "second_text")


def load_splits(name: str, config: str | None = None) -> dict[str, Dataset]:
    """Every split of a data set.

    Args:
        name: A built-in set (a domain of the sentiment sets, or digits), a .csv, .json, .jsonl, .txt or .parquet file (one
            split, named after the file), a folder that datasets saved, one with recorded teacher outputs (one split, train),
            or any name that `datasets.load_dataset` takes.
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
        return load_files({path.stem: name})
    if (path / "dataset_dict.json").exists() or (path / "state.json").exists():
        loaded = load_from_disk(name)
        splits = dict(loaded) if isinstance(loaded, DatasetDict) else {path.name: loaded}
        for split, rows in splits.items():
            require_sound_table(rows.data, f"{name} ({split})")
        return splits
    if (path / MANIFEST).is_file():
        return {"train": _with_label_names(load_teacher_outputs(path))}
    return dict(load_named(name, config))


def _with_label_names(recorded: Dataset) -> Dataset:
    """Rows with teacher outputs, whose classes are numbers under `labels`, with their names under `label` as raw rows have them."""
    names = next((each.labels for each in provenances(recorded).values()), None)
    if names is None or "labels" not in recorded.column_names or "label" in recorded.column_names:
        return recorded
    found = [names[index] if 0 <= index < len(names) else None for index in recorded["labels"]]
    return recorded.add_column("label", found, feature=Value("string"))


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


def splits_with_columns(splits: dict[str, Dataset], texts: list[str] | None, label: str | None) -> dict[str, Dataset]:
    """Every split with the columns chosen; some may lack the labels.

    Raises:
        ValueError: A column of texts is not there, or no split has the labels.
    """
    found = {name: rows.column_names for name, rows in splits.items()}
    if label is not None and not any(label in columns for columns in found.values()):
        raise ValueError(f"the data have no column {label!r} for labels, they have {found}")
    return {name: with_columns(rows, texts, label if label in found[name] else None) for name, rows in splits.items()}


def with_columns(rows: Dataset, texts: list[str] | None, label: str | None) -> Dataset:
    """With the columns chosen, as the encoders know them.

    Raises:
        ValueError: A column is not there, or a row has no text.
    """
    missing = {*(texts or ()), *([label] if label else ())} - set(rows.column_names)
    if missing:
        raise ValueError(f"the data have no columns {sorted(missing)}, they have {rows.column_names}")
    if texts:
        require_texts(rows, texts)  # here, where rows still have the numbers that they have in the file
        others: list[Any] = [name for name in (label or "label",) if name in rows.column_names]
        rows = rows.select_columns([*texts, *others])
        if len(texts) == 2:  # by these names the first of the two is not taken for the only one
            rows = rows.rename_columns(dict(zip(texts, PAIR, strict=True)))
    return rows.rename_column(label, "label") if label and label != "label" else rows


def with_column_names(splits: Mapping[str, Dataset], texts: list[str] | None, label: str | None) -> dict[str, Dataset]:
    """Every split with the columns chosen, as the encoders know them; some splits may lack the label.

    Raises:
        ValueError: A column of texts is not there, no split has the label, or there are more than two texts.
    """
    if texts and len(texts) > 2:
        raise ValueError(f"a row has one text or a pair of them, got the columns {texts}")
    columns = {name for rows in splits.values() for name in rows.column_names}
    if label and label not in columns:
        raise ValueError(f"the data have no column {label!r}, they have {sorted(columns)}{suggestion(label, columns)}")
    return {
        name: with_columns(rows, texts, label if label in rows.column_names else None) for name, rows in splits.items()
    }

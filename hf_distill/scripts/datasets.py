"""Data sets by the names that scripts and commands take: built-in sets, files, saved folders, and ids on the Hub."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

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
    """Load every split of a data set.

    Args:
        name: A built-in set (a domain of the sentiment sets, or digits), a .csv, .json, .jsonl, .txt or .parquet file (one
            split, named after the file), a folder written by `save_to_disk`, a folder with precomputed teacher outputs (one
            split, train), or any name that `datasets.load_dataset` takes.
        config: The name of the data set's configuration. None: the default one.

    Returns:
        The rows by split.

    Raises:
        ValueError: The file is of another type, or a saved folder's rows point outside of their files.
        OSError: The data set does not exist.
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


def _with_label_names(labeled: Dataset) -> Dataset:
    """Add to rows with teacher outputs, which have class indices under `labels`, the class names under `label`."""
    names = next((each.labels for each in provenances(labeled).values()), None)
    if names is None or "labels" not in labeled.column_names or "label" in labeled.column_names:
        return labeled
    found = [names[index] if 0 <= index < len(names) else None for index in labeled["labels"]]
    return labeled.add_column("label", found, feature=Value("string"))


def choose_split(splits: dict[str, Dataset], wanted: str | None) -> tuple[str, Dataset]:
    """Choose the split to evaluate on.

    Args:
        splits: The data set's splits by name.
        wanted: The name of a split. None: test, else validation, else the only one.

    Returns:
        The split's name and its rows.

    Raises:
        ValueError: There is no such split, or none of the defaults among several splits.
    """
    default = next((name for name in ("test", "validation") if name in splits), None)
    name = wanted or default or (next(iter(splits)) if len(splits) == 1 else None)
    if name is None or name not in splits:
        raise ValueError(f"split must be one of {sorted(splits)}, got {wanted!r}")
    return name, splits[name]


def splits_with_columns(
    splits: Mapping[str, Dataset], texts: list[str] | None, label: str | None
) -> dict[str, Dataset]:
    """Select the columns of texts and labels in every split; some splits may lack the labels.

    Args:
        splits: The data set's splits by name.
        texts: The name of the column of texts, or the names of two for pairs of texts. None: all columns are kept.
        label: The name of the column of labels. None: the column is called label.

    Returns:
        The splits by name, with their columns renamed as `with_columns` does.

    Raises:
        ValueError: There are more than two columns of texts, one of them is missing, or no split has the labels.
    """
    if texts and len(texts) > 2:
        raise ValueError(f"a row has one text or a pair of them, got the columns {texts}")
    columns = {name for rows in splits.values() for name in rows.column_names}
    if label and label not in columns:
        raise ValueError(f"the data have no column {label!r}, they have {sorted(columns)}{suggestion(label, columns)}")
    return {
        name: with_columns(rows, texts, label if label in rows.column_names else None) for name, rows in splits.items()
    }


def with_columns(rows: Dataset, texts: list[str] | None, label: str | None) -> Dataset:
    """Select the columns of texts and labels, and give them the names that the encoders expect.

    Args:
        rows: Raw rows.
        texts: The name of the column of texts, or the names of two for pairs of texts. None: all columns are kept.
        label: The name of the column of labels. None: the column is called label.

    Returns:
        The rows; a pair of texts is in the columns `PAIR`, labels are in the column label.

    Raises:
        ValueError: A column is missing, or a row has no text.
    """
    missing = {*(texts or ()), *([label] if label else ())} - set(rows.column_names)
    if missing:
        raise ValueError(f"the data have no columns {sorted(missing)}, they have {rows.column_names}")
    if texts:
        require_texts(rows, texts)  # here, where rows still have the numbers that they have in the file
        others = [name for name in (label or "label",) if name in rows.column_names]
        rows = rows.select_columns([*texts, *others])
        if len(texts) == 2:  # by these names the first of the two is not taken for the only one
            rows = rows.rename_columns(dict(zip(texts, PAIR, strict=True)))
    return rows.rename_column(label, "label") if label and label != "label" else rows

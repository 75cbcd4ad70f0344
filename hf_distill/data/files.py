"""Loading of data sets from files, folders and the Hub, and checks for missing texts.

"None", "NA", "null" and "nan" are words; only an empty field, or null in JSON, is a missing value.
"""

from __future__ import annotations

import difflib
import glob
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas
from datasets import Dataset, Features, IterableDataset, Value, load_dataset_builder
from datasets.packaged_modules.csv.csv import CsvConfig

from hf_distill.data.arrow_columns import StoredRows
from hf_distill.files import regular_files_below

FILE_TYPES = {".csv": "csv", ".json": "json", ".jsonl": "json", ".txt": "text", ".parquet": "parquet"}
_OTHER_SUFFIXES = {".tsv", ".arrow", ".gz", ".zip", ".xlsx"}  # suffixes of files that are not supported
_WORDS = {"keep_default_na": False, "na_values": [""]}  # arguments of pandas.read_csv about missing values
_WHOLE_FILE = 2**31 - 1  # rows per chunk: the whole file, so that one type is inferred for all values of a column
_SHOWN = 10  # rows named in an error message


def load_files(files: Mapping[str, str], **options: Any) -> dict[str, Any]:
    """Load one data set from each file.

    Files are loaded separately because those loaded together must have the same columns, and only some may have labels.

    Args:
        files: A path for each key, without wildcards, with a suffix of `FILE_TYPES`.
        **options: Arguments of `datasets.load_dataset`, such as cache_dir and streaming.

    Returns:
        The data sets by the same keys.
    """
    return {split: _load_rows([path], **options) for split, path in files.items()}


def load_texts(source: str, **options: Any) -> Any:
    """Load the rows of a file, of all files of a folder, or of the training split of a data set.

    Args:
        source: The path of a file or of a folder with files of one type, or the name of a data set as for `load_named`.
        **options: Arguments of `datasets.load_dataset`, such as cache_dir and streaming.

    Returns:
        The rows, a data set or a stream.

    Raises:
        ValueError: The folder has files of several types, or none of a supported type, or a link leads out of it.
        FileNotFoundError: The source is the path of a file that does not exist.
    """
    path = Path(source)
    if not path.exists():
        return load_named(source, split="train", **options)
    below = regular_files_below(path, FILE_TYPES) if path.is_dir() else [path]
    files = [str(file) for file in below if file.suffix in FILE_TYPES]
    types = {FILE_TYPES[Path(file).suffix] for file in files}
    if len(types) != 1:
        raise ValueError(
            f"{source} must hold files of one of the types {list(FILE_TYPES)}, got {sorted(types) or 'none'}"
        )
    return _load_rows(files, **options)


def load_named(name: str, config: str | None = None, **options: Any) -> Any:
    """Load a data set from the Hub or from a local folder.

    Args:
        name: The id of the data set on the Hub, or the path of the folder.
        config: The name of the data set's configuration. None: the default one.
        **options: Arguments of `datasets.load_dataset`, such as split.

    Returns:
        The data set, or all its splits.

    Raises:
        FileNotFoundError: The name is the path of a file or folder that does not exist.
    """
    require_place(name)
    return _load(name, config, **options)


def require_place(name: str) -> None:
    """Refuse the path of a file or folder that does not exist, before a data set of that name is looked up on the Hub.

    Args:
        name: A path, or the id of a data set.

    Raises:
        FileNotFoundError: It is a path that does not exist; the message suggests similar ones.
    """
    path = Path(name)
    is_path = name.startswith(("./", "../", "/", "~")) or name.endswith("/") or name.count("/") > 1
    if (is_path or path.suffix.lower() in FILE_TYPES.keys() | _OTHER_SUFFIXES) and not path.exists():
        raise FileNotFoundError(f"there is no file or folder {name!r}{similar_paths(name)}")


def similar_paths(name: str) -> str:
    """The end of an error message that names files similar to a path that does not exist; "" if there are none."""
    path = Path(name)
    if not path.parent.is_dir():
        return f": there is no folder {str(path.parent)!r}"
    beside = [each.name for each in path.parent.iterdir()]
    found = [str(path.with_name(each)) for each in difflib.get_close_matches(path.name, beside)]
    return f"; similar are {found}" if found else ""


def require_texts(rows: Dataset, columns: Sequence[str]) -> None:
    """Refuse rows in which a text is missing; an empty text is not missing.

    Args:
        rows: The rows to check.
        columns: The columns of texts.

    Raises:
        ValueError: Texts are missing; the message names the rows.
    """
    stored = StoredRows.of(rows)
    for name in columns:
        is_missing = stored.values(name, lambda texts: texts.is_null(), np.bool_)
        _refuse_missing(name, np.flatnonzero(is_missing).tolist())


def with_texts(rows: Dataset | IterableDataset, columns: Sequence[str]) -> Dataset | IterableDataset:
    """Refuse rows in which a text is missing; rows of a stream are checked when they are read.

    Args:
        rows: The rows to check.
        columns: The columns of texts.

    Returns:
        The rows.

    Raises:
        ValueError: Texts are missing; the message names the rows.
    """
    if isinstance(rows, Dataset):
        require_texts(rows, columns)
        return rows

    def check(batch: dict[str, list], indices: list[int]) -> dict[str, list]:
        for name in columns:
            _refuse_missing(name, [row for row, text in zip(indices, batch[name], strict=True) if text is None])
        return {}

    return rows.map(check, batched=True, with_indices=True)


def _refuse_missing(column: str, rows: list[int]) -> None:
    """Refuse rows with a missing value, given by their numbers counted from 0, if there are any."""
    if rows:
        shown = ", ".join(str(row + 1) for row in rows[:_SHOWN])
        more = f" and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else ""
        raise ValueError(
            f"these rows have nothing in the column {column!r}, counted from 1: {shown}{more}. Fill them in or leave them out."
        )


def _load_rows(paths: Sequence[str], **options: Any) -> Dataset | IterableDataset:
    """Load the rows of files of one type.

    Args:
        paths: The paths of the files.
        **options: Arguments of `datasets.load_dataset`.

    Returns:
        The rows, a data set or a stream.

    Raises:
        ValueError: There are no rows, for which datasets itself has a less helpful message.
    """
    # The datasets library takes paths for patterns, in which brackets have a meaning.
    patterns = [glob.escape(path) for path in paths]
    try:
        return _load(FILE_TYPES[Path(paths[0]).suffix], data_files=patterns, split="train", **options)
    except ValueError as error:
        if "corresponds to no data" in str(error):
            raise ValueError(f"{', '.join(paths)} holds 0 rows; at least 1 is needed") from error
        raise


def _load(*name: str | None, split: str | None = None, streaming: bool = False, **options: Any) -> Any:
    """Load as `datasets.load_dataset` does, but with the missing values of CSV files as defined by this module."""
    builder = load_dataset_builder(*name, **options)
    is_table = isinstance(builder.config, CsvConfig)
    if is_table:
        chunk = {} if streaming else {"chunksize": _WHOLE_FILE}
        builder = load_dataset_builder(*name, **options, **_WORDS, **chunk)
    if streaming:
        return builder.as_streaming_dataset(split=split)
    builder.download_and_prepare()
    rows = builder.as_dataset(split=split)
    if not is_table:
        return rows
    files = builder.config.data_files
    if split is not None:
        return _with_whole_numbers(rows, files[split])
    return {each: _with_whole_numbers(rows[each], files[each]) for each in rows}


def _with_whole_numbers(rows: Dataset, files: Sequence[str]) -> Dataset:
    """The rows with whole numbers as integers again in columns that pandas read as floats because a field is empty."""
    gapped = [name for name, feature in rows.features.items() if getattr(feature, "dtype", None) == "float64"]
    gapped = [name for name in gapped if rows.data.column(name).null_count]
    if not gapped or not all(Path(file).is_file() for file in files):  # data sets of the Hub are not changed
        return rows
    parts = [pandas.read_csv(file, usecols=gapped, dtype=str, **_WORDS) for file in files]
    written = pandas.concat(parts)
    whole = [name for name in gapped if written[name].dropna().str.fullmatch(r"\s*[+-]?\d+\s*").all()]
    return rows.cast(Features(rows.features | dict.fromkeys(whole, Value("int64")))) if whole else rows

"""The one reader of data files, and what is missing in their rows.

"None", "NA", "null" and "nan" are words; only an empty field, or null in JSON, is a missing value.
"""

from __future__ import annotations

import difflib
import glob
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas
from datasets import Dataset, Features, IterableDataset, Value, load_dataset_builder
from datasets.packaged_modules.csv.csv import CsvConfig

from hf_distill.files import regular_files_below

FILE_TYPES = {".csv": "csv", ".json": "json", ".jsonl": "json", ".txt": "text", ".parquet": "parquet"}
_OTHER_SUFFIXES = {".tsv", ".arrow", ".gz", ".zip", ".xlsx"}  # of files too, though not of such that are read
_WORDS = {"keep_default_na": False, "na_values": [""]}  # what pandas is told of missing values
_WHOLE_FILE = 2**31 - 1  # rows that are read together, so that one type is found for all values of a column
_SHOWN = 10  # rows named in an error


def load_files(files: Mapping[str, str], **options: Any) -> dict[str, Any]:
    """One dataset per file, by the same keys.

    One call per file: files loaded together must have the same columns, and a training set may lack labels.

    Args:
        files: Paths, taken as they are written, with a suffix of `FILE_TYPES`.
        options: Of `datasets.load_dataset`, such as cache_dir, and streaming.
    """
    return {split: _load_rows([path], **options) for split, path in files.items()}


def load_texts(source: str, **options: Any) -> Any:
    """The rows of a file, of a folder of files of one type, or of a dataset's training split.

    Raises:
        ValueError: The folder holds files of several types, or none that can be read, or a link leads out of it.
        FileNotFoundError: A file is named that is not there.
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
    """A dataset of the Hub, or a local folder with one.

    Args:
        name: Its id, or the folder's path.
        config: Its configuration.
        options: Of `datasets.load_dataset`, such as split.

    Raises:
        FileNotFoundError: The name is that of a file or folder, which is not there.
    """
    require_place(name)
    return _load(name, config, **options)


def require_place(name: str) -> None:
    """Refuse the path of a file or folder that is not there, before a dataset of that name is looked for on the Hub.

    Raises:
        FileNotFoundError: Names the path, and those like it.
    """
    path = Path(name)
    is_path = name.startswith(("./", "../", "/", "~")) or name.endswith("/") or name.count("/") > 1
    if (is_path or path.suffix.lower() in FILE_TYPES.keys() | _OTHER_SUFFIXES) and not path.exists():
        raise FileNotFoundError(f"there is no file or folder {name!r}{similar_paths(name)}")


def similar_paths(name: str) -> str:
    """Which files beside a path that is not there have a name like it, as the end of a sentence; empty if none."""
    path = Path(name)
    if not path.parent.is_dir():
        return f": there is no folder {str(path.parent)!r}"
    beside = [each.name for each in path.parent.iterdir()]
    found = [str(path.with_name(each)) for each in difflib.get_close_matches(path.name, beside)]
    return f"; similar are {found}" if found else ""


def require_texts(rows: Dataset, columns: Sequence[str]) -> None:
    """Refuse rows in which a text is missing; an empty text is one.

    Raises:
        ValueError: Names the rows.
    """
    size = 10_000
    for name in columns:
        tables = rows.select_columns(name).with_format("arrow").iter(batch_size=size)
        missing = [
            batch * size + row
            for batch, table in enumerate(tables)
            if table[name].null_count
            for row, is_missing in enumerate(table[name].is_null().to_pylist())
            if is_missing
        ]
        _refuse_missing(name, missing)


def with_texts(rows: Dataset | IterableDataset, columns: Sequence[str]) -> Dataset | IterableDataset:
    """The rows, of which none may lack a text; those of a stream are looked at when they are read.

    Raises:
        ValueError: Names the rows.
    """
    if isinstance(rows, Dataset):
        require_texts(rows, columns)
        return rows

    def look(batch: dict[str, list], indices: list[int]) -> dict[str, list]:
        for name in columns:
            _refuse_missing(name, [row for row, text in zip(indices, batch[name], strict=True) if text is None])
        return {}

    return rows.map(look, batched=True, with_indices=True)


def _refuse_missing(column: str, rows: list[int]) -> None:
    """Refuse the rows, counted from 0, if there are any."""
    if rows:
        shown = ", ".join(str(row + 1) for row in rows[:_SHOWN])
        more = f" and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else ""
        raise ValueError(
            f"these rows have nothing in the column {column!r}, counted from 1: {shown}{more}. Fill them in or leave them out."
        )


def _load_rows(paths: Sequence[str], **options: Any) -> Dataset | IterableDataset:
    """The rows of files of one type.

    Raises:
        ValueError: There are none, of which datasets itself only says that an instruction corresponds to no data.
    """
    # The paths are patterns to datasets, in which brackets have a meaning.
    patterns = [glob.escape(path) for path in paths]
    try:
        return _load(FILE_TYPES[Path(paths[0]).suffix], data_files=patterns, split="train", **options)
    except ValueError as error:
        if "corresponds to no data" in str(error):
            raise ValueError(f"{', '.join(paths)} holds 0 rows; at least 1 is needed") from error
        raise


def _load(*name: str | None, split: str | None = None, streaming: bool = False, **options: Any) -> Any:
    """As `datasets.load_dataset`, with the rule of this module for tables."""
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
    """With columns of whole numbers as such, which pandas reads as floats where a field is empty."""
    gapped = [name for name, feature in rows.features.items() if getattr(feature, "dtype", None) == "float64"]
    gapped = [name for name in gapped if rows.data.column(name).null_count]
    if not gapped or not all(Path(file).is_file() for file in files):  # those of the Hub stay as they are
        return rows
    parts = [pandas.read_csv(file, usecols=gapped, dtype=str, **_WORDS) for file in files]
    written = pandas.concat(parts)
    whole = [name for name in gapped if written[name].dropna().str.fullmatch(r"\s*[+-]?\d+\s*").all()]
    return rows.cast(Features(rows.features | dict.fromkeys(whole, Value("int64")))) if whole else rows

"""Arrow files as a stranger may have made them: opened as rows on disk, or refused with one clear error."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import datasets
from datasets.table import MemoryMappedTable, concat_tables

from hf_distill.files.folders import require_sound_table
from hf_distill.files.reading import FileFormatError


def open_table(path: Path) -> MemoryMappedTable:
    """The table of an Arrow stream, mapped into memory.

    Args:
        path: The file.

    Returns:
        The table; its structure is checked, since a checksum does not say who wrote the file.

    Raises:
        FileFormatError: The file is not an Arrow stream, or its structure is broken.
    """
    try:
        table = MemoryMappedTable.from_file(str(path))
    except Exception as error:  # pyarrow and datasets have many
        raise FileFormatError(f"{path} cannot be opened as rows: {error}") from error
    require_sound_table(table, str(path))
    return table


def as_rows(tables: Sequence[MemoryMappedTable], path: Path, fingerprint: str | None = None) -> datasets.Dataset:
    """The rows of tables with one schema, as one data set.

    Args:
        tables: The tables, at least one.
        path: The file of the first of them, for error messages.
        fingerprint: The fingerprint of the data set. None: it is made of the files' names.

    Returns:
        The rows; they stay on disk.

    Raises:
        FileFormatError: The tables are no rows of the datasets library.
    """
    try:
        return datasets.Dataset(concat_tables(list(tables)), fingerprint=fingerprint)
    except Exception as error:  # pyarrow and datasets have many
        raise FileFormatError(f"{path} cannot be opened as rows: {error}") from error


def open_rows(path: Path) -> datasets.Dataset:
    """The rows of an Arrow stream, mapped into memory; see `open_table` for errors."""
    return as_rows([open_table(path)], path)

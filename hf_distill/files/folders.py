"""Which files of an untrusted folder may be opened: its own regular files, and valid Arrow tables."""

from __future__ import annotations

import os
from collections.abc import Container
from pathlib import Path
from typing import Any

from hf_distill.files.reading import FileFormatError


def named_file(folder: Path, name: str, source: str) -> Path:
    """The path of a file that another file of the same folder refers to by name.

    Args:
        folder: The folder of both files.
        name: The name as it is written in the other file.
        source: The name of the file that refers to it.

    Returns:
        The path, which need not exist.

    Raises:
        FileFormatError: The name is a path, or names something that is not a file of the folder, see `is_own_file`.
    """
    if name in ("", ".", "..") or Path(name).name != name or {*"\\:\0"} & {*name}:
        raise FileFormatError(f"{folder / source} must name files of its own folder, without a path, got {name!r}")
    if os.path.lexists(folder / name) and not is_own_file(folder / name):
        raise FileFormatError(f"{folder / source} names {name!r}, which is no regular file of that folder")
    return folder / name


def is_own_file(path: Path) -> bool:
    """Whether a path is a regular file, and not a link unless from a snapshot of the Hub's cache to its blobs."""
    if not path.is_symlink():
        return path.is_file()
    target = path.resolve()
    snapshots = (parent for parent in path.parent.resolve().parents if parent.name == "snapshots")
    return target.is_file() and any(target.parent == parent.parent / "blobs" for parent in snapshots)


def regular_files_below(folder: str | os.PathLike[str], suffixes: Container[str]) -> list[Path]:
    """The files with certain suffixes in a folder and its subfolders.

    Args:
        folder: The folder to search.
        suffixes: The wanted suffixes, such as ".csv".

    Returns:
        The paths, sorted.

    Raises:
        FileFormatError: A file or subfolder is a link that leads out of the folder, or a file is not a regular file.
    """
    top, found = Path(folder).resolve(), []
    for place, folders, names in os.walk(folder):
        links = [Path(place, name) for name in folders if Path(place, name).is_symlink()]
        files = [Path(place, name) for name in names if Path(name).suffix in suffixes]
        for path in (*links, *files):
            if path.is_symlink() and not path.resolve().is_relative_to(top) and not is_own_file(path):
                raise FileFormatError(f"{path} is a link that leads out of {folder}: copy what is meant, or remove it")
        if odd := [str(path) for path in files if path.exists() and not path.is_file()]:
            raise FileFormatError(f"{', '.join(odd)} must be regular files")
        found += [path for path in files if path.is_file()]
    return sorted(found)


def require_sound_table(table: Any, name: str) -> None:
    """Refuse an Arrow table whose offsets point outside of its buffers, before anything reads it.

    Args:
        table: A `pyarrow.Table`, or a table of the datasets library.
        name: The file's name, for error messages.

    Raises:
        FileFormatError: The table is invalid; the message says why.
    """
    try:
        table.validate(full=True)
    except (ValueError, IndexError, TypeError, NotImplementedError) as error:
        raise FileFormatError(f"{name} holds rows that point outside of it or are damaged otherwise: {error}") from None

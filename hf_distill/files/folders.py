"""What of a folder that a stranger made may be opened: regular files of its own, and tables that are whole."""

from __future__ import annotations

import os
from collections.abc import Container
from pathlib import Path
from typing import Any

from hf_distill.files.reading import FileFormatError


def named_file(folder: Path, name: str, source: str) -> Path:
    """The path of a file that another file names: in its own folder, and no other.

    Args:
        folder: Of both.
        name: As it is written.
        source: The file that names it.

    Raises:
        FileFormatError: The name is a path, or what it names is there and no file of the folder, see `is_own_file`.
    """
    if name in ("", ".", "..") or Path(name).name != name or {*"\\:\0"} & {*name}:
        raise FileFormatError(f"{folder / source} must name files of its own folder, without a path, got {name!r}")
    if os.path.lexists(folder / name) and not is_own_file(folder / name):
        raise FileFormatError(f"{folder / source} names {name!r}, which is no regular file of that folder")
    return folder / name


def is_own_file(path: Path) -> bool:
    """Whether a path is a regular file, and no link but one of a Hub cache's snapshot to that cache's own blobs."""
    if not path.is_symlink():
        return path.is_file()
    target = path.resolve()
    snapshots = (parent for parent in path.parent.resolve().parents if parent.name == "snapshots")
    return target.is_file() and any(target.parent == parent.parent / "blobs" for parent in snapshots)


def regular_files_below(folder: str | os.PathLike, suffixes: Container[str]) -> list[Path]:
    """The files with these suffixes in a folder and the folders in it, in the order of their paths.

    Raises:
        FileFormatError: One of them, or a folder, is a link that leads out, or one is no regular file.
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
    """Refuse an Arrow table whose parts point outside of its memory, before anything reads it.

    Args:
        table: A `pyarrow.Table` or one of `datasets`.
        name: Of the file, for the error.

    Raises:
        FileFormatError: Says what is wrong.
    """
    try:
        table.validate(full=True)
    except (ValueError, IndexError, TypeError, NotImplementedError) as error:
        raise FileFormatError(f"{name} holds rows that point outside of it or are damaged otherwise: {error}") from None

"""Checks of files before publishing: regular files of their folder, and no files that run code when they are loaded."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from hf_distill.files import is_own_file, read_json

_PICKLED = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib"}
_PICKLE, _PROTOCOLS = b"\x80", b"\x02\x03\x04\x05"
# Settings by which transformers and diffusers load a class or function from a file in the same folder.
_OWN_CODE = ("auto_map", "custom_pipelines")


def lies_inside(path: Path, folder: Path) -> bool:
    """Whether a path is a regular file in a folder, or a link to one there or to a blob of the Hub cache it is in."""
    return path.is_file() and (path.resolve().is_relative_to(folder.resolve()) or is_own_file(path))


def require_own_files(folder: Path, names: Iterable[str]) -> None:
    """Check that files are regular files of a folder; files that do not exist are ignored.

    Args:
        folder: The folder to publish.
        names: The names of the files, without folders.

    Raises:
        ValueError: A name is a path, or a file is a link out of the folder or not a regular file; the message names it.
    """
    named = sorted(name for name in names if Path(name).name != name)
    if named:
        raise ValueError(f"files must be named without folders, got {', '.join(map(repr, named))} in {folder}")
    paths = [folder / name for name in sorted(names)]
    strange = [path.name for path in paths if (path.exists() or path.is_symlink()) and not lies_inside(path, folder)]
    if strange:
        raise ValueError(
            f"only regular files of the folder itself are published; {', '.join(strange)} of {folder} leads out of it or is "
            "no regular file: put a copy in its place"
        )


def is_pickle(path: Path) -> bool:
    """Whether a regular file is a pickle, by itself or as torch.save writes it, by its name or its content."""
    if path.suffix in _PICKLED:
        return True
    with path.open("rb") as file:
        start = file.read(4)
    if start[:1] == _PICKLE and start[1:2] in _PROTOCOLS and len(start) > 1:
        return True
    if not start.startswith(b"PK"):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith(".pkl") for name in archive.namelist())
    except zipfile.BadZipFile:
        return True  # its content is unknown


def require_no_code(paths: Iterable[Path]) -> None:
    """Check that files are no pickles, and that JSON files have no settings that load custom code.

    Args:
        paths: The files to check.

    Raises:
        ValueError: A file is a pickle or has such a setting; the message names it.
    """
    for path in paths:
        if is_pickle(path):
            raise ValueError(f"{path} is a pickle, which can run code where it is read: only safetensors are published")
        if path.suffix == ".json":
            found = next(
                (name for name in _OWN_CODE if name in set(_settings(read_json(path, kind=Any, finite=False)))), None
            )
            if found:
                raise ValueError(
                    f"{path} has {found}, which loads code of its own: only models that transformers itself implements are published"
                )


def _settings(content: Any) -> Iterator[str]:
    """The names of settings at any depth, except those with numbers as values (as the tokens of a vocabulary have)."""
    pending = [content]
    while pending:
        each = pending.pop()
        if isinstance(each, dict):
            yield from (name for name, value in each.items() if isinstance(value, (str, list, dict)) and value)
        pending += each.values() if isinstance(each, dict) else each if isinstance(each, list) else ()

"""Which files are regular ones of a folder, and which run code when they are read."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from hf_distill.files import is_own_file, read_json

_PICKLED = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib"}
_PICKLE, _PROTOCOLS = b"\x80", b"\x02\x03\x04\x05"
# Settings by which transformers and diffusers find a class or function in a file beside them.
_OWN_CODE = ("auto_map", "custom_pipelines")


def lies_inside(path: Path, folder: Path) -> bool:
    """Whether a path is a regular file in a folder, a link to one there, or one to a blob of the cache the folder is in."""
    return path.is_file() and (path.resolve().is_relative_to(folder.resolve()) or is_own_file(path))


def require_own_files(folder: Path, names: Iterable[str]) -> None:
    """Refuse names that lead out of a folder, and what is no regular file; what does not exist is left to others.

    Raises:
        ValueError: Names each.
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
        return True  # nobody can say what is in it


def require_no_code(paths: Iterable[Path]) -> None:
    """Refuse pickles, and settings that have code of their own loaded.

    Raises:
        ValueError: Names the file and what is in it.
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
                    f"{path} has {found}, which loads code of its own: only what transformers has is published"
                )


def _settings(content: Any) -> Iterator[str]:
    """Names of settings that are not numbers (as words of a vocabulary are), at any depth."""
    waiting = [content]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            yield from (name for name, value in each.items() if isinstance(value, (str, list, dict)) and value)
        waiting += each.values() if isinstance(each, dict) else each if isinstance(each, list) else ()

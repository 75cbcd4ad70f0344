"""Atomic writing of files: completely or not at all, and never through a link."""

from __future__ import annotations

import json
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from hf_distill.files.reading import FileFormatError

_PARTIAL = ".partial"


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A temporary file to write into, which replaces `path` if the block ends without an error.

    Args:
        path: The path of the file to be written.

    Yields:
        The temporary file, in the same folder, open for writing.

    Raises:
        FileFormatError: `path` is a link, or not a regular file.
        OSError: The file cannot be written; an existing file at `path` is unchanged.
    """
    path = Path(path)
    if path.is_symlink() or (path.exists() and not path.is_file()):
        kind = "a link" if path.is_symlink() else "no regular file"
        raise FileFormatError(f"{path} is {kind} and is not written through: remove it first")
    partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}{_PARTIAL}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(partial, flags, 0o666)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def atomic_write(path: str | os.PathLike[str], content: str | bytes) -> None:
    """Write a file completely or not at all, see `replacing`; text is encoded as UTF-8."""
    with replacing(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def json_bytes(content: Any) -> bytes:
    """JSON text for a file, in UTF-8; keys are sorted, so that equal content gives equal bytes."""
    return (json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def remove_partial_files(folder: Path) -> None:
    """Delete temporary files of processes killed within `replacing`; no other process may be writing here."""
    for path in folder.glob(f".*{_PARTIAL}"):
        path.unlink(missing_ok=True)


def share_weights(folder: str | os.PathLike[str]) -> None:
    """Give the safetensors files of a folder the mode of its JSON files, so that a server under another account can read them.

    safetensors 0.8 and later creates files that only their owner can read, whatever the umask.
    """
    usual = [stat.S_IMODE(path.stat().st_mode) for path in sorted(Path(folder).glob("*.json"))]
    for path in Path(folder).glob("*.safetensors") if usual else ():
        if not path.is_symlink():
            path.chmod(usual[0])


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)  # the new name
    finally:
        os.close(descriptor)

"""Folders with one writer at a time."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import filelock

from hf_distill.files.reading import read_json
from hf_distill.files.writing import atomic_write, json_bytes

_LOCK, _HOLDER = ".lock", ".lock-holder.json"
LOCK_FILES = (_LOCK, _HOLDER)

logger = logging.getLogger(__name__)


class FolderInUseError(TimeoutError):
    """Another process writes into a folder: says which process, and what it does there."""


@contextmanager
def folder_lock(folder: str | os.PathLike, purpose: str, timeout: float) -> Iterator[None]:
    """Within it no other process that asks for the same writes into a folder. It ends with the process, however that ends.

    A folder that may not be written to is not locked. Whoever has to wait is told for whom.

    Args:
        folder: Is there.
        purpose: What is done there, for the others: "recording a teacher's answers".
        timeout: Seconds to wait for another process; 0: not at all.

    Raises:
        FolderInUseError: It is still in use; names purpose, process and host of who uses it.
    """
    folder = Path(folder)
    lock = filelock.FileLock(folder / _LOCK)
    try:
        _acquire(lock, folder, timeout)
    except OSError as error:
        if isinstance(error, FolderInUseError) or os.access(folder, os.W_OK):
            raise
        yield
        return
    try:
        holder = {"purpose": purpose, "process": os.getpid(), "host": socket.gethostname(), "since": time.time()}
        atomic_write(folder / _HOLDER, json_bytes(holder))
        yield
    finally:
        # Who waits for a file that is removed notices, and makes a new one.
        with suppress(OSError):
            (folder / _HOLDER).unlink()
        with suppress(OSError):
            # What stands for a lock where the file system has none is not empty.
            if (folder / _LOCK).stat().st_size == 0:
                (folder / _LOCK).unlink()
        lock.release()


def _acquire(lock: filelock.BaseFileLock, folder: Path, timeout: float) -> None:
    with suppress(filelock.Timeout):
        lock.acquire(timeout=0)
        return
    if timeout:
        logger.warning(f"{_in_use(folder)}; waiting up to {timeout:g} seconds")
    try:
        lock.acquire(timeout=timeout)
    except filelock.Timeout:
        raise FolderInUseError(f"{_in_use(folder)}: wait for it to end, or choose another folder") from None


def _in_use(folder: Path) -> str:
    for _ in range(20):
        with suppress(OSError, ValueError):  # it may be about to write it
            holder = read_json(folder / _HOLDER, {"purpose": str, "process": int, "host": str, "since": float})
            break
        time.sleep(0.05)
    else:
        return f"{folder} is in use by another process"
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(holder["since"]))
    return f"{folder} is in use by process {holder['process']} on {holder['host']}, {holder['purpose']} since {since}"

"""Locks on folders, so that only one process at a time writes into them."""

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
    """Another process is writing into a folder; the message names the process and its purpose."""


@contextmanager
def folder_lock(folder: str | os.PathLike[str], purpose: str, timeout: float) -> Iterator[None]:
    """Hold an exclusive lock on a folder within this context; it is released when the process ends, however it ends.

    A folder without write permission is not locked. A process that has to wait logs which one it waits for.

    Args:
        folder: An existing folder.
        purpose: What this process does in the folder, shown to others that wait, such as "precomputing teacher
            outputs".
        timeout: Seconds to wait for another process. 0: do not wait.

    Raises:
        FolderInUseError: The folder is still in use; the message names purpose, process and host of its user.
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
        # A process that waits for a lock file notices that it was removed, and creates a new one.
        with suppress(OSError):
            (folder / _HOLDER).unlink()
        with suppress(OSError):
            # Where the file system has no locks, the existence of a lock file that is not empty is the lock.
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
        with suppress(OSError, ValueError):  # the process that holds the lock may be about to write it
            holder = read_json(folder / _HOLDER, {"purpose": str, "process": int, "host": str, "since": float})
            break
        time.sleep(0.05)
    else:
        return f"{folder} is in use by another process"
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(holder["since"]))
    return f"{folder} is in use by process {holder['process']} on {holder['host']}, {holder['purpose']} since {since}"

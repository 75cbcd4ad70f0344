"""A folder of texts made part by part: finished parts are kept, so that an interrupted call resumes."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
from datasets import Dataset

from hf_distill.files import (
    FileFormatError,
    atomic_write,
    folder_lock,
    is_own_file,
    json_bytes,
    read_json,
    remove_partial_files,
    replacing,
)
from hf_distill.files.arrow_rows import open_rows
from hf_distill.fingerprints import table_sha256

SETTINGS = "augmentation.json"
SECONDS_TO_WAIT = 300.0
_SHA256 = b"rows_sha256"  # in the metadata of a part's schema

logger = logging.getLogger(__name__)


class PartsFolder:
    """A folder of parts, each an Arrow file with a checksum of its rows; use it within `opened`.

    Args:
        folder: The folder.
    """

    def __init__(self, folder: Path):
        self._folder = folder

    @classmethod
    @contextmanager
    def opened(cls, folder: str | os.PathLike[str], settings: dict[str, Any]) -> Iterator[PartsFolder]:
        """Lock a folder against other writers within this context.

        Args:
            folder: The folder, created if it does not exist.
            settings: Everything that the texts depend on, as JSON values.

        Yields:
            The folder of parts.

        Raises:
            ValueError: The folder holds texts made with other settings; the message names one of them.
            FolderInUseError: Another process writes into the folder, and did not finish in time.
        """
        path = Path(folder)
        path.mkdir(parents=True, exist_ok=True)
        with folder_lock(path, "augmenting a transfer set", SECONDS_TO_WAIT):
            remove_partial_files(path)
            if (path / SETTINGS).exists():
                _require_same(path, read_json(path / SETTINGS), settings)
            else:
                atomic_write(path / SETTINGS, json_bytes(settings))
            yield cls(path)

    def part(self, index: int, make: Callable[[], pa.Table]) -> Dataset:
        """A part of the texts, read if the folder has it, else made and written atomically.

        Args:
            index: The number of the part.
            make: Function that makes the rows of the part.

        Returns:
            The rows, on disk.
        """
        path = self._folder / f"part-{index:05d}.arrow"
        if os.path.lexists(path):
            try:
                return _read(path)
            except FileFormatError as error:
                logger.warning(f"{error}; it is made again")
        table = make()
        table = table.replace_schema_metadata({**(table.schema.metadata or {}), _SHA256: table_sha256(table)})
        with replacing(path) as file, pa.ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table)
        return _read(path)


def _read(path: Path) -> Dataset:
    if not is_own_file(path):
        raise FileFormatError(f"{path} is no regular file of the folder")
    rows = open_rows(path)
    with pa.memory_map(str(path)) as source:
        written = (pa.ipc.open_stream(source).schema.metadata or {}).get(_SHA256, b"").decode(errors="replace")
    if (found := table_sha256(rows.data.table)) != written:
        raise FileFormatError(f"{path} has rows with sha256 {found}, it was written with {written!r}")
    return rows


def _require_same(folder: Path, there: dict[str, Any], requested: dict[str, Any]) -> None:
    for name in [*requested, *there]:
        if there.get(name) != requested.get(name):
            raise ValueError(
                f"{folder} holds texts made with {name} {there.get(name)!r}, requested is {name} {requested.get(name)!r}: "
                "choose another output_dir, or delete that folder"
            )

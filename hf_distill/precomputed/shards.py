"""Precomputed teacher outputs on disk: Arrow files of a fixed number of rows, written atomically and listed in a manifest."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
from datasets.table import embed_table_storage

from hf_distill.data.files import FILE_TYPES, require_place
from hf_distill.files import (
    FileFormatError,
    as_dataclass,
    atomic_write,
    checked,
    is_own_file,
    json_bytes,
    read_json,
    remove_partial_files,
    replacing,
)
from hf_distill.files.arrow_rows import as_rows, open_table
from hf_distill.fingerprints import file_sha256, json_sha256
from hf_distill.precomputed.external import read_rows, teacher_outputs_from
from hf_distill.precomputed.provenance import Provenance, provenances

MANIFEST = "manifest.json"
UNFINISHED = "unfinished.json"
PATTERN = "shard-*.arrow"
_ROWS_PER_BATCH = 1000


@dataclass(frozen=True)
class Shard:
    """A file of rows with teacher outputs.

    Attributes:
        file: The file's name.
        rows: The number of rows.
        sha256: SHA-256 of the file's bytes, hexadecimal.
        inputs_sha256: SHA-256 of the rows before labeling, see `table_sha256`.
    """

    file: str
    rows: int
    sha256: str
    inputs_sha256: str

    @classmethod
    def name_of(cls, index: int) -> str:
        """The file name of a shard, counted from 0."""
        return f"shard-{index:05d}.arrow"

    @classmethod
    def from_content(cls, content: Any, index: int, source: Path) -> Shard:
        """Validate the description of a shard that was read from a file.

        Args:
            content: The parsed JSON.
            index: The index of the shard, which decides its file name.
            source: The file that the description was read from, for error messages.

        Returns:
            The shard.

        Raises:
            FileFormatError: A field is missing or of another type, or the file name is wrong.
        """
        shard = as_dataclass(cls, content, f"shard {index} of {source}")
        if shard.file != cls.name_of(index):
            raise FileFormatError(f"shard {index} of {source} must be {cls.name_of(index)!r}, got {shard.file!r}")
        return shard

    def fault(self, folder: Path) -> str | None:
        """What is wrong with the file; None: nothing."""
        path = folder / self.file
        if not os.path.lexists(path):
            return f"{self.file} is missing"
        if not is_own_file(path):
            return f"{self.file} is no regular file of the folder"
        found = file_sha256(path)
        return None if found == self.sha256 else f"{self.file} has sha256 {found}, it was written with {self.sha256}"


@dataclass(frozen=True)
class Manifest:
    """The content of a folder of precomputed teacher outputs.

    Attributes:
        provenance: The provenance of the outputs.
        shards: The shards in the order of the rows.
    """

    provenance: Provenance
    shards: tuple[Shard, ...]

    @property
    def rows(self) -> int:
        """The number of rows in all shards."""
        return sum(shard.rows for shard in self.shards)

    @property
    def dataset_sha256(self) -> str:
        """SHA-256 of all rows before labeling, hexadecimal."""
        return json_sha256([shard.inputs_sha256 for shard in self.shards])

    def save(self, folder: Path) -> None:
        """Write the manifest atomically, with a hash of its content."""
        content = {
            "provenance": asdict(self.provenance),
            "rows": self.rows,
            "dataset_sha256": self.dataset_sha256,
            "shards": [asdict(shard) for shard in self.shards],
        }
        atomic_write(folder / MANIFEST, json_bytes(content | {"sha256": json_sha256(content)}))

    @classmethod
    def load(cls, folder: Path) -> Manifest:
        """Read the manifest that `save` wrote.

        Args:
            folder: The folder of teacher outputs.

        Returns:
            The manifest.

        Raises:
            FileNotFoundError: The folder has no manifest.
            ValueError: The manifest was modified since, or is of another schema version.
        """
        path = folder / MANIFEST
        if not path.exists():
            state = (
                "labeling was never finished; run the same `hf-distill label` or label_transfer_set again"
                if is_unfinished(folder)
                else "it was not written by label_transfer_set"
            )
            raise FileNotFoundError(
                f"{folder} is no folder of precomputed teacher outputs: it holds no {MANIFEST} ({state})"
            )
        content = read_json(path, {"sha256": str})
        written = content.pop("sha256")
        if written != (found := json_sha256(content)):
            raise ValueError(f"{MANIFEST} has sha256 {found}, it was written with {written}: it was modified since")
        shards = checked(content.get("shards"), list, f"'shards' of {path}")
        manifest = cls(
            Provenance.from_content(content.get("provenance")),
            tuple(Shard.from_content(shard, index, path) for index, shard in enumerate(shards)),
        )
        for name in ("rows", "dataset_sha256"):
            if content.get(name) != getattr(manifest, name):
                raise ValueError(f"{MANIFEST} says {name} {content.get(name)}, its shards {getattr(manifest, name)}")
        return manifest

    def require_sound(self, folder: Path) -> None:
        """Refuse a folder whose files are not the ones that were written.

        Args:
            folder: The folder of teacher outputs.

        Raises:
            ValueError: A file is missing, damaged or not in the manifest; the message says what is wrong with it.
        """
        faults = [fault for shard in self.shards if (fault := shard.fault(folder))]
        faults += sorted(
            path.name for path in set(folder.glob(PATTERN)) - {folder / shard.file for shard in self.shards}
        )
        if faults:
            raise ValueError(
                f"{len(faults)} of {len(self.shards)} shards are not as they were written: {'; '.join(faults[:3])}. Run "
                "the same `hf-distill label` or label_transfer_set again to compute only these again"
            )


def load_teacher_outputs(folder: str | os.PathLike, **options: Any) -> datasets.Dataset:
    """Open rows with teacher outputs: those that `label_transfer_set` wrote, or a file of outputs from elsewhere.

    Args:
        folder: The `output_dir` of `label_transfer_set`, of which the checksum of every file is verified. Or a .csv, .json,
            .jsonl or .parquet file, or a folder that `Dataset.save_to_disk` wrote, with outputs by label name.
        **options: For outputs from elsewhere, the arguments of `teacher_outputs_from`.

    Returns:
        The rows; those of `label_transfer_set` stay on disk.

    Raises:
        FileNotFoundError: The folder holds no teacher outputs, or labeling was not finished.
        ValueError: A file is not as it was written; the message names it. Or outputs from elsewhere are refused, see
            `teacher_outputs_from`.
    """
    folder = Path(folder)
    if folder.suffix in FILE_TYPES:
        require_place(str(folder))
    if folder.is_file() or (folder / "state.json").is_file():
        return teacher_outputs_from(read_rows(folder), **options)
    if options:
        raise ValueError(f"{sorted(options)} are for a file of outputs by label name, got the folder {str(folder)!r}")
    manifest = Manifest.load(folder)
    manifest.require_sound(folder)
    return datasets.concatenate_datasets(list(_parts(folder, manifest)))


def _parts(folder: Path, manifest: Manifest) -> Iterator[datasets.Dataset]:
    """The rows of consecutive shards of one schema, which says whose outputs they are; mostly all are of one."""
    tables = ((shard, open_table(folder / shard.file)) for shard in manifest.shards)
    for schema, same in groupby(tables, lambda each: each[1].schema.serialize().to_pybytes()):
        shards, parts = zip(*same, strict=True)
        fingerprint = json_sha256([schema.hex(), *(shard.sha256 for shard in shards)])[:16]
        rows = as_rows(parts, folder / shards[0].file, fingerprint)
        wrong = [shard for shard, part in zip(shards, parts, strict=True) if len(part) != shard.rows]
        if list(provenances(rows).values()) != [manifest.provenance]:
            wrong = list(shards)
        if wrong:
            raise ValueError(f"{wrong[0].file} and {MANIFEST} do not say the same about rows or teacher")
        yield rows


def is_unfinished(folder: Path) -> bool:
    """Whether labeling into the folder was started and not finished."""
    return (folder / UNFINISHED).exists()


def write_shard(path: Path, table: pa.Table) -> str:
    """Write rows atomically as an Arrow stream, which `datasets` maps into memory.

    Args:
        path: The file to write.
        table: The rows; files that they name, such as images, are embedded.

    Returns:
        SHA-256 of the file's bytes, hexadecimal.
    """
    table = table.take(pa.array(range(len(table)))).combine_chunks()  # a slice would bring its neighbors' bytes along
    table = embed_table_storage(table)
    with replacing(path) as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=_ROWS_PER_BATCH)
    return file_sha256(path)


def remove_leftovers(folder: Path) -> None:
    """Delete the partial files, the notes and the mark of an unfinished folder that interrupted calls left."""
    remove_partial_files(folder)
    for path in [*folder.glob("shard-*.json"), folder / UNFINISHED]:
        path.unlink(missing_ok=True)

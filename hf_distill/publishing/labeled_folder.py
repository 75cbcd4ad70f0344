"""The files of a labeled transfer set that are published, and the checks they must pass before."""

from __future__ import annotations

import os
from fnmatch import fnmatch
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from hf_distill.precomputed.labeling_cost import COST
from hf_distill.precomputed.shards import MANIFEST, PATTERN, Manifest, is_unfinished
from hf_distill.publishing.file_kinds import require_no_code, require_own_files
from hf_distill.publishing.student_folder import PublishedFile, describe_file, plots_of_card, require_no_secrets


def is_labeled(folder: str | os.PathLike) -> bool:
    """Whether a folder holds precomputed teacher outputs, or an unfinished labeling of them."""
    return is_unfinished(Path(folder)) or any(Path(folder).glob(PATTERN))


def labeled_files(folder: str | os.PathLike, secret: str | None = None) -> list[PublishedFile]:
    """Check a labeled transfer set, and list the files to publish.

    Args:
        folder: The folder, as written by `label_transfer_set`; its card may have been edited.
        secret: A token that no file may contain, besides strings that look like tokens, passwords or keys. None: there
            is none.

    Returns:
        The files with their checksums: card, plots, manifest, shards and labeling cost.

    Raises:
        FileNotFoundError: The labeling is not finished, or the card is missing.
        ValueError: A file was modified since it was written, is not a regular file or is a link out of the folder; the
            card's metadata are invalid; a file contains a token; rows hold paths in place of embedded files.
    """
    folder = Path(folder)
    manifest = Manifest.load(folder)
    shards = [shard.file for shard in manifest.shards]
    require_own_files(folder, ["README.md", MANIFEST, COST, *shards])
    if strange := [name for name in shards if not is_shard(name)]:
        raise ValueError(f"{MANIFEST} must name files such as {PATTERN}, got {strange[0]!r}")
    manifest.require_sound(folder)
    plots = plots_of_card(folder)
    require_own_files(folder, plots)
    for name in shards:
        _require_embedded(folder / name)
    names = ["README.md", *plots, MANIFEST, *shards]
    if (folder / COST).exists():
        names.append(COST)
    paths = [folder / name for name in names]
    require_no_code(paths)
    require_no_secrets(paths, secret)
    return [describe_file(path) for path in paths]


def _require_embedded(shard: Path) -> None:
    """Check that images and sounds in a shard are embedded, not paths of local files."""
    with pa.memory_map(str(shard)) as source:
        for batch in pa.ipc.open_stream(source):
            for name, values in zip(batch.schema.names, batch.columns, strict=True):
                if pa.types.is_struct(values.type) and {"bytes", "path"} <= {field.name for field in values.type}:
                    without = pc.and_(pc.is_null(values.field("bytes")), pc.is_valid(values.field("path")))
                    if pc.any(without).as_py():
                        raise ValueError(
                            f"{shard.name} has paths of this machine in its column {name!r} where files should be embedded: "
                            "label the set again"
                        )


def is_shard(name: str) -> bool:
    """Whether `load_dataset` would read rows from a file of this name."""
    return fnmatch(name, PATTERN)

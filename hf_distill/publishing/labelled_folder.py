"""What of a transfer set that a teacher labelled is published, and what it must pass before anything is sent."""

from __future__ import annotations

import os
from fnmatch import fnmatch
from pathlib import Path

from hf_distill.publishing.student_folder import PublishedFile, describe_file, plots_of_card, require_no_secrets
from hf_distill.teachers.labelling_cost import COST
from hf_distill.teachers.shards import MANIFEST, PATTERN, Manifest, is_begun


def is_labelled(folder: str | os.PathLike) -> bool:
    """Whether a folder holds recorded answers, or is about to."""
    return is_begun(Path(folder)) or any(Path(folder).glob(PATTERN))


def labelled_files(folder: str | os.PathLike, secret: str | None = None) -> list[PublishedFile]:
    """The files of a labelled transfer set that go to the Hub, by name, each as it was written.

    Args:
        folder: As `label_transfer_set` leaves it; its card may have been edited.
        secret: A token that no file may contain, beside what looks like a token, a password or a key.

    Raises:
        FileNotFoundError: Labelling was not finished, or the card is gone.
        ValueError: A file is not as it was written, the card's metadata is invalid, or a file contains a token.
    """
    folder = Path(folder)
    manifest = Manifest.load(folder)
    manifest.require_sound(folder)
    names = ["README.md", *plots_of_card(folder), MANIFEST, *(shard.file for shard in manifest.shards)]
    if (folder / COST).exists():
        names.append(COST)
    paths = [folder / name for name in names]
    require_no_secrets(paths, secret)
    return [describe_file(path) for path in paths]


def is_shard(name: str) -> bool:
    """Whether `load_dataset` would take a file of this name for rows."""
    return fnmatch(name, PATTERN)

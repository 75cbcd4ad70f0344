"""Requests, answers and routes, without sockets."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qs

from tests.hub.contents import Contents, Repository, User


class HubError(Exception):
    """An error answer: status, what it says, and the code by which the client tells errors apart."""

    def __init__(self, status: int, message: str, code: str | None = None, **body):
        super().__init__(message)
        headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
        self.answer = Answer({"error": message, **body}, status, headers)


@dataclass
class Answer:
    """Body (JSON unless bytes), status and headers of an answer."""

    body: object = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)

    def encoded(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


@dataclass
class Request:
    """One request, and the Hub it is put to."""

    contents: Contents
    base_url: str
    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes

    @property
    def storage_url(self) -> str:
        """Large files live on another host, as they do behind the real Hub."""
        return self.base_url.replace("127.0.0.1", "localhost") + "/objects"

    def json(self) -> dict:
        return json.loads(self.body)

    def form(self) -> dict[str, list[str]]:
        return parse_qs(self.body.decode())

    @property
    def user(self) -> User | None:
        """Who asks.

        Raises:
            HubError: The token is nobody's.
        """
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        if not scheme:
            return None
        if token not in self.contents.users:
            raise HubError(401, "Invalid credentials in Authorization header")
        return self.contents.users[token]

    def writer(self, namespace: str) -> User:
        """Who asks, where he may write.

        Raises:
            HubError: He may not.
        """
        if self.user is None:
            raise HubError(401, "Invalid username or password.")
        if not self.user.may_write(namespace):
            raise HubError(403, f"Forbidden: you don't have the rights to write under the namespace {namespace!r}")
        return self.user

    def repository(self, name: str) -> Repository:
        """A repository that who asks may see.

        Raises:
            HubError: There is none.
        """
        repository = self.contents.repositories.get(name)
        namespace = namespace_of(name)
        user = self.user
        if repository is None or (repository.private and not (user and namespace in (user.name, *user.organizations))):
            raise HubError(404 if user else 401, "Repository not found", "RepoNotFound")
        return repository

    def commit(self, name: str, revision: str):
        """A commit of a repository, by any name it has.

        Raises:
            HubError: It has no such revision.
        """
        commit = self.repository(name).find(revision)
        if commit is None:
            raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return commit


def namespace_of(repo: str) -> str:
    """Whose a repository is."""
    return repo.split("/")[-2]


@dataclass(frozen=True)
class Route:
    """A kind of request: its name, and how it is answered. Groups of the path's pattern are passed by name."""

    name: str
    method: str
    path: re.Pattern
    answer: Callable[..., Answer | object]


ROUTES: list[Route] = []
_PARTS = {
    "repo": r"(?:datasets/)?[\w.-]+/[\w.-]+",
    "rev": r"[^/]+",
    "path": r".+",
    "slug": r"[\w.-]+/[\w.-]+",
    "oid": r"[0-9a-f]+",
}


def route(name: str, method: str, path: str) -> Callable:
    """Decorator: answers what is asked by `method` at `path`, in which {repo}, {rev}, ... stand for parts.

    Where models are asked for, data sets are too; the name of such a repository begins with "datasets/".
    """
    path = path.replace("models/{repo}", "(?:models/|(?=datasets/)){repo}")
    pattern = re.sub(r"\{(\w+)\}", lambda part: f"(?P<{part[1]}>{_PARTS[part[1]]})", path.replace(".", r"\."))

    def register(function: Callable) -> Callable:
        ROUTES.append(Route(name, method, re.compile(pattern), function))
        return function

    return register

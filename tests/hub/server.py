"""A Hub on 127.0.0.1, in a thread of the test's process."""

from __future__ import annotations

import os
import socket
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from tests.hub import collection_routes, repository_routes, upload_routes  # noqa: F401  they register their routes
from tests.hub.contents import Contents, User
from tests.hub.faults import Failure, Fault, FaultPlan
from tests.hub.http import ROUTES, Answer, HubError, Request

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # linger on, for no time: close() sends RST
HANG_SECONDS = 30


class Hub:
    """The server. It forgets nothing when it dies; `start` brings it back at the same address.

    Args:
        folder: Where xet clients put their files.
        xet: Offers xet storage, else LFS alone.

    Attributes:
        contents: What it knows.
        faults: What is to go wrong.
        requests: Names of the routes asked for, in order.
        unknown: What was asked for that it does not serve.
    """

    def __init__(self, folder: Path, xet: bool = False):
        self.contents = Contents(folder, xet)
        self.faults = FaultPlan()
        self.requests: list[str] = []
        self.unknown: list[str] = []
        self._port, self._server = 0, None
        self._one_at_a_time = threading.RLock()
        self._awake = threading.Event()
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Listen; nothing where it already does."""
        if self._server is None:
            handler = type("Handler", (_Handler,), {"hub": self})
            self._awake.clear()
            self._server = ThreadingHTTPServer(("127.0.0.1", self._port), handler)
            self._port = self._server.server_port
            threading.Thread(target=self._server.serve_forever, args=(0.005,), daemon=True).start()

    def die(self) -> None:
        """Stop listening, let nobody hang."""
        server, self._server = self._server, None
        if server is not None:
            self._awake.set()
            server.shutdown()
            server.server_close()

    def add_user(self, token: str, user: User) -> None:
        self.contents.users[token] = user

    def answer(self, request: Request) -> tuple[Fault | None, Answer]:
        """Find the route, meet its fault, do the work."""
        for route in ROUTES:
            match = route.path.fullmatch(request.path)
            if route.method == request.method and match:
                break
        else:
            self.unknown.append(f"{request.method} {request.path}")
            return None, Answer({"error": f"no route for {self.unknown[-1]}"}, 404)
        self.requests.append(route.name)
        fault = self.faults.next(route.name)
        if fault is not None and not fault.applied:
            return fault, Answer()
        try:
            with self._one_at_a_time:
                found = route.answer(request, **{name: unquote(part) for name, part in match.groupdict().items()})
        except HubError as error:
            found = error.answer
        return fault, found if isinstance(found, Answer) else Answer(found)

    def hang(self) -> None:
        """Wait until the server dies, or for so long that no client would."""
        self._awake.wait(HANG_SECONDS)


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        request = Request(
            contents=self.hub.contents,
            base_url=self.hub.url,
            method=self.command,
            path=url.path,
            query=parse_qs(url.query),
            headers={name.lower(): value for name, value in self.headers.items()},
            body=self.rfile.read(int(self.headers.get("Content-Length", 0))),
        )
        fault, answer = self.hub.answer(request)
        if fault is not None:
            answer = self._fail(fault)
        if answer is not None:
            self._send(answer)

    do_POST = do_PUT = do_PATCH = do_HEAD = do_GET

    def _fail(self, fault: Fault) -> Answer | None:
        """Carry out a fault; what is to be sent, if anything."""
        if fault.failure is Failure.STATUS:
            # From 500 on a proxy answers, in its own words.
            page = f"<html><body>{fault.message}</body></html>".encode()
            headers = {"Retry-After": "1"} if fault.status == 429 else {}
            return Answer(page if fault.status >= 500 else {"error": fault.message}, fault.status, headers)
        if fault.failure is Failure.HANG:
            self.hub.hang()
        if fault.failure is Failure.DEATH:
            self.hub.die()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        os.close(self.connection.detach())
        return None

    def _send(self, answer: Answer) -> None:
        body = answer.encoded()
        kind = "text/html" if body.startswith(b"<html>") else "application/json"
        self.send_response(answer.status)
        for name, value in ({"Content-Type": kind, "Content-Length": str(len(body))} | answer.headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *args) -> None:
        """Quiet."""

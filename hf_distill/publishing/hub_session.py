"""Calls to the Hub with timeouts, retries and error messages that explain the reason."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx2
from huggingface_hub import HfApi, get_session, get_token
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled

from hf_distill import __version__

_Value = TypeVar("_Value")
_LOG_IN = "log in with `hf auth login`, or set HF_TOKEN to a token with write permission (hf.co/settings/tokens)"
_TOKEN = re.compile(r"\bhf_(?:[a-z]+_)?[A-Za-z0-9]{8,}")
_QUOTA = re.compile(r"quota|storage|billing|payment|exceed|upgrade", re.IGNORECASE)
_XET_STATUS = re.compile(r"HTTP status \w+ error \((\d{3})")
_MOST_SECONDS_TO_WAIT = 300.0  # the Hub counts requests in windows of five minutes


@dataclass(frozen=True)
class RetryPolicy:
    """The number of attempts, and the times to wait, for each step of publishing.

    Attributes:
        attempts: The largest number of attempts of each step, at least 1.
        wait: The number of seconds before the second attempt, doubled before each further one.
        timeout: The number of seconds without data from the Hub after which a request fails.
    """

    attempts: int = 4
    wait: float = 1.0
    timeout: float = 120.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.wait < 0 or self.timeout <= 0:
            raise ValueError(f"attempts must be at least 1, wait not negative and timeout positive, got {self}")


class PublishError(OSError):
    """Error with the reason why something was not published, for the user.

    Args:
        message: The reason, and what to do.
        passing: Whether another attempt may succeed.
        wait: The number of seconds that the Hub asks to wait before another attempt.
    """

    def __init__(self, message: str, *, passing: bool = False, wait: float = 0.0):
        super().__init__(message)
        self.passing, self.wait = passing, wait


class HubSession:
    """Access to the Hub with one account's token.

    Args:
        token: The account's token. None: the token of HF_TOKEN or of `hf auth login`.
        patience: The policy of retries. None: the defaults of `RetryPolicy`.

    Raises:
        PublishError: There is no token, or it contains invalid characters.
    """

    def __init__(self, token: str | None = None, patience: RetryPolicy | None = None):
        self.patience = patience or RetryPolicy()
        token = token or get_token()
        if token is None:
            raise PublishError(f"publishing needs a token, got none: {_LOG_IN}")
        if not re.fullmatch(r"[!-~]+", token):
            raise PublishError(f"the token has spaces or characters that no token has: {_LOG_IN}")
        self.token = token
        self.api = HfApi(token=self.token, library_name="hf_distill", library_version=__version__)
        self._account: dict[str, Any] | None = None

    def account(self) -> dict[str, Any]:
        """The account that the token belongs to, as the Hub describes it; requested once."""
        if self._account is None:
            self._account = self.persist("asking whose token this is", self.api.whoami)
        return self._account

    def call(self, doing: str, function: Callable[..., _Value], *args: Any, **kwargs: Any) -> _Value:
        """Call a function of the client once.

        Args:
            doing: The purpose of the call, for error messages, such as "creating the repository".
            function: The function to call.
            *args: The positional arguments of the function.
            **kwargs: The keyword arguments of the function.

        Returns:
            The result of the function.

        Raises:
            PublishError: The call failed. The message never contains the token, and the client's error is not chained.
        """
        try:
            with _bounded(self.patience.timeout):
                return function(*args, **kwargs)
        except PublishError:
            raise
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError, RuntimeError, ValueError, KeyError) as error:
            reason, passing, wait = _explain(error, self.patience.timeout)
        raise PublishError(self._without_token(f"{doing} failed: {reason}"), passing=passing, wait=wait)

    def persist(self, doing: str, function: Callable[..., _Value], *args: Any, **kwargs: Any) -> _Value:
        """Like `call`, with retries while they may help: `function` must be safe to call repeatedly."""
        for attempt in range(self.patience.attempts):
            try:
                return self.call(doing, function, *args, **kwargs)
            except PublishError as error:
                if not error.passing or attempt + 1 == self.patience.attempts:
                    raise
                time.sleep(min(max(self.patience.wait * 2**attempt, error.wait), _MOST_SECONDS_TO_WAIT))
        raise AssertionError("attempts is at least 1")

    def _without_token(self, text: str) -> str:
        return _TOKEN.sub("<token>", text.replace(self.token, "<token>"))


@contextmanager
def _bounded(seconds: float) -> Iterator[None]:
    """Set the timeout of the client, which by default has none for some calls, such as the one that commits.

    If the library replaces its client during a call, after a refused connection, the rest of that call has no timeout:
    huggingface_hub 2.4 has no public way to set the timeout of a client that it will create.
    """
    client = get_session()
    before, client.timeout = client.timeout, seconds
    try:
        yield
    finally:
        client.timeout = before


def _explain(error: BaseException, timeout: float) -> tuple[str, bool, float]:
    """The reason of an error, whether another attempt may succeed, and the seconds that the Hub asks to wait."""
    for each in _chain(error):
        if isinstance(each, HfHubHTTPError):
            after = each.response.headers.get("Retry-After", "")
            reason, passing = _explain_status(each.response.status_code, each.server_message or "")
            return reason, passing, float(after) if after.isdigit() else 0.0
        if isinstance(each, httpx2.TimeoutException):
            return f"no response within {timeout:g} seconds", True, 0.0
        if isinstance(each, LocalTokenNotFoundError):
            return f"there is no token: {_LOG_IN}", False, 0.0
        if isinstance(each, OfflineModeIsEnabled):
            return "the client is in offline mode: unset HF_HUB_OFFLINE", False, 0.0
        if isinstance(each, (httpx2.TransportError, ConnectionError)):
            status = _XET_STATUS.search(str(each))
            if status:
                return (*_explain_status(int(status[1]), ""), 0.0)
            return "the Hub cannot be reached, or broke the connection off", True, 0.0
        if isinstance(each, (json.JSONDecodeError, KeyError)):
            return "the response is not one of the Hub: it may be down", True, 0.0
    return f"{error}", False, 0.0


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and the errors it was raised from: the client wraps those of uploads."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _explain_status(status: int, said: str) -> tuple[str, bool]:
    """The reason behind an HTTP status, and whether another attempt may succeed; `said` is the Hub's own message."""
    said = f" (the Hub says: {said})" if said else ""
    if status == 401:
        return f"the Hub does not know this token: {_LOG_IN}", False
    if status in (402, 413, 507) or (status == 403 and _QUOTA.search(said)):
        return f"the account has no room left on the Hub; free some, or ask for more in its settings{said}", False
    if status == 403:
        return f"the token may not do this: it needs write permission for this namespace; {_LOG_IN}{said}", False
    if status == 404:
        return f"there is no such repository or namespace, or the token may not see it{said}", False
    if status in (409, 412):
        return f"something else changes the repository at the same time{said}", True
    if status == 429:
        return "too many requests in too short a time", True
    if status == 408 or status >= 500:
        return f"the Hub is down or overloaded (status {status})", True
    return f"the Hub refuses it with status {status}{said}", False

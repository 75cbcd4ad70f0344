"""What can go wrong, ordered in advance: on which request, in which way."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from enum import Enum


class Failure(str, Enum):
    """How a request fails."""

    STATUS = "status"  # an answer with an error status
    RESET = "reset"  # the connection breaks
    HANG = "hang"  # no answer comes
    DEATH = "death"  # the server is gone until it is started again


@dataclass(frozen=True)
class Fault:
    """A failure of certain requests.

    Attributes:
        route: Name of the route, see `Route`.
        failure: How it fails.
        status: HTTP status of a STATUS.
        message: What the error says.
        nth: First request to the route that fails, from 1.
        times: So many requests fail.
        applied: The request does its work first, and only the answer is lost. Else it does nothing.
    """

    route: str
    failure: Failure = Failure.STATUS
    status: int = 500
    message: str = "ordered by the test"
    nth: int = 1
    times: float = 1
    applied: bool = False

    def __str__(self) -> str:
        what = str(self.status) if self.failure is Failure.STATUS else self.failure.value
        when = f"{self.nth}" if self.times == 1 else f"from-{self.nth}"
        return f"{self.route}-{when}-{what}{'-applied' if self.applied else ''}"


ALWAYS = math.inf


class FaultPlan:
    """Counts the requests to each route and says which fault, if any, one meets."""

    def __init__(self):
        self._lock = threading.Lock()
        self._counts: dict[str, int] = {}
        self._faults: list[Fault] = []
        self.met: list[Fault] = []

    def order(self, *faults: Fault) -> None:
        """These faults and no others, counted from now."""
        with self._lock:
            self._faults, self._counts, self.met = list(faults), {}, []

    def next(self, route: str) -> Fault | None:
        with self._lock:
            count = self._counts[route] = self._counts.get(route, 0) + 1
            for fault in self._faults:
                if fault.route == route and fault.nth <= count < fault.nth + fault.times:
                    self.met.append(fault)
                    return fault
        return None

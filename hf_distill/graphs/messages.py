"""Messages of other libraries."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def silenced(name: str | None) -> Iterator[None]:
    """Silence a logger's warnings: torch's exporter warns of operators of torchvision, which no encoder has.

    Handlers that libraries add to it meanwhile are removed, with which all later messages would be printed twice or in another form.

    Args:
        name: The name of the logger. None: the root logger.

    Yields:
        Nothing.
    """
    log = logging.getLogger(name)
    level, handlers = log.level, list(log.handlers)
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)
        log.handlers[:] = handlers

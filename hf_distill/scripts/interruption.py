"""Ctrl-C in scripts and commands: one line that says how to resume, instead of a traceback."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

EXIT_CODE = 130  # 128 + 2, as shells report a program that SIGINT ended
RESUME_SEVERAL_TRAININGS = (
    "The same command resumes: finished trainings are kept, and an unfinished one continues from its last checkpoint, if "
    "it has one."
)


@contextmanager
def advice_on_interrupt(advice: Callable[[], str]) -> Iterator[None]:
    """Make a KeyboardInterrupt raised in this context carry advice on how to resume; of nested contexts the innermost counts.

    Args:
        advice: Function that returns the advice, called after the interruption.

    Raises:
        KeyboardInterrupt: The interruption, with the advice as its message.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        raise error if error.args else KeyboardInterrupt(advice()) from None


@contextmanager
def exit_on_interrupt() -> Iterator[None]:
    """End the process after Ctrl-C with exit code 130 and the advice on stderr, printed by the process of rank 0 only."""
    try:
        yield
    except KeyboardInterrupt as error:
        if os.environ.get("RANK", "0") == "0":
            print(f"\nInterrupted. {str(error) or 'The same command starts over.'}", file=sys.stderr)
        raise SystemExit(EXIT_CODE) from error

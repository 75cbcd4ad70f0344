"""What becomes of Ctrl-C: a line that says how the work goes on, and no traceback."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

EXIT_CODE = 130  # as shells say that a signal, the second, ended a program
RESUME_SEVERAL_TRAININGS = "The same command goes on: what is finished stays, and a training continues from its last checkpoint, if it has one."


@contextmanager
def advice_on_interrupt(advice: Callable[[], str]) -> Iterator[None]:
    """Have an interruption of what is done here say how to go on; of several such advices the innermost counts.

    Args:
        advice: Called after the interruption.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        raise error if error.args else KeyboardInterrupt(advice()) from None


@contextmanager
def exit_on_interrupt() -> Iterator[None]:
    """End the process after Ctrl-C with the advice on stderr, which of several processes the first gives."""
    try:
        yield
    except KeyboardInterrupt as error:
        if os.environ.get("RANK", "0") == "0":
            print(f"\nInterrupted. {str(error) or 'The same command starts again.'}", file=sys.stderr)
        raise SystemExit(EXIT_CODE) from error

"""Users' mistakes in scripts and commands: one line that says what is wrong, and an exit code, instead of a traceback."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

from hf_distill.scripts.interruption import RESUME_SEVERAL_TRAININGS, advice_on_interrupt, exit_on_interrupt
from hf_distill.scripts.verbosity import announce_compilation, quiet_libraries
from hf_distill.text.plain import printable

TRACEBACK = "HF_DISTILL_TRACEBACK"
_MISTAKES = (ValueError, OSError, ImportError)
_PACKAGE = __name__.partition(".")[0]


class WrongUsage(ValueError):
    """Options that do not exist or cannot be parsed; exit code 2, where other mistakes have exit code 1."""


@contextmanager
def exit_on_user_error() -> Iterator[None]:
    """End the process after a mistake with one line on stderr and exit code 1 or 2, and after Ctrl-C with exit code 130.

    ValueError, OSError and ImportError count as mistakes; with HF_DISTILL_TRACEBACK=1 their traceback is shown instead.

    Raises:
        SystemExit: A mistake was made, or the process was interrupted.
    """
    try:
        with exit_on_interrupt():
            yield
    except _MISTAKES as error:
        if os.environ.get(TRACEBACK, "0") != "0":
            raise
        print(f"Error: {one_line_message(error)}", file=sys.stderr)
        raise SystemExit(2 if isinstance(error, WrongUsage) else 1) from error


def one_line_message(error: BaseException) -> str:
    """The error's message in one line; where another library raised it, with a hint how to learn more."""
    message = printable(" ".join(str(error).split())) or type(error).__name__
    frames = traceback.extract_tb(error.__traceback__)
    raised_here = (
        not frames or f"{os.sep}{_PACKAGE}{os.sep}" in frames[-1].filename or "examples" in frames[-1].filename
    )
    if raised_here:
        return message
    help_first = "`hf-distill doctor` says what does not load; " if isinstance(error, ImportError) else ""
    return f"{message} ({help_first}set {TRACEBACK}=1 to see where)"


def run_main(main: Callable[[], None], trains_several: bool = False) -> None:
    """Run a script's main function with few progress bars; mistakes and Ctrl-C end the process as described at `exit_on_user_error`.

    Args:
        main: The function.
        trains_several: Whether the script trains one model after another and skips the finished ones when started again.
    """
    quiet_libraries()
    announce_compilation()
    with (
        exit_on_user_error(),
        advice_on_interrupt(lambda: RESUME_SEVERAL_TRAININGS) if trains_several else nullcontext(),
    ):
        main()

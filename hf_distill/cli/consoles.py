"""The console that tables are printed on."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

_OF_FILES = 160  # columns; rich assumes 80 where there is no terminal


def table_console() -> Console:
    """A console as wide as the terminal, or as COLUMNS says; in a log file or a pipe it is 160 columns wide."""
    from rich.console import Console

    console = Console()
    return console if console.is_terminal or "COLUMNS" in os.environ else Console(width=_OF_FILES)

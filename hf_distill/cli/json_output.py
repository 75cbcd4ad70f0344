"""The option `--json`: standard output is one JSON document and nothing else."""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stdout
from contextvars import ContextVar
from typing import Any, TextIO

import typer
from typer.core import TyperCommand

_FOR_JSON: ContextVar[TextIO | None] = ContextVar("for_json", default=None)


class WithJson(TyperCommand):
    """A command that with `--json` writes only what it passes to `print_json` to standard output.

    All other output goes to standard error, also that of libraries which keep the stream they find when they are imported.
    """

    def invoke(self, ctx: Any) -> Any:
        """Run the command, with standard output redirected where `--json` is given."""
        if not ctx.params.get("as_json"):
            return super().invoke(ctx)
        token = _FOR_JSON.set(sys.stdout)
        try:
            with redirect_stdout(sys.stderr):
                return super().invoke(ctx)
        finally:
            _FOR_JSON.reset(token)


def print_json(content: Any) -> None:
    """Write a command's result to its standard output as JSON."""
    typer.echo(json.dumps(content, indent=2, ensure_ascii=False), file=_FOR_JSON.get())

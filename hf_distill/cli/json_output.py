"""`--json`: standard output that holds the JSON and nothing else."""

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
    """A command whose standard output with `--json` is what it gives to `print_json`; what else is printed, also by libraries
    that are imported on the way and keep the stream they find, goes to standard error.
    """

    def invoke(self, ctx: typer.Context) -> Any:
        if not ctx.params.get("as_json"):
            return super().invoke(ctx)
        token = _FOR_JSON.set(sys.stdout)
        try:
            with redirect_stdout(sys.stderr):
                return super().invoke(ctx)
        finally:
            _FOR_JSON.reset(token)


def print_json(content: Any) -> None:
    """Write a command's result to its standard output."""
    typer.echo(json.dumps(content, indent=2, ensure_ascii=False), file=_FOR_JSON.get())

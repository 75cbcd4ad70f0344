"""How the tests call `hf-distill`."""

from __future__ import annotations

import json
from typing import Any

from typer.testing import CliRunner, Result

from hf_distill.cli.main import app


def invoke(*arguments: object, exit_code: int = 0) -> Result:
    """The outcome of a command, whose exit code is checked."""
    result = CliRunner().invoke(app, list(map(str, arguments)), terminal_width=200, env={"COLUMNS": "200"})
    assert result.exit_code == exit_code, (result.output, result.exception)
    return result


def invoke_json(*arguments: object) -> Any:
    """What a command prints with `--json`."""
    return json.loads(invoke(*arguments, "--json").stdout)

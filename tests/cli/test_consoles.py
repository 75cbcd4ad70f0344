"""Tables are as wide as the terminal, and wider than 80 columns in a log file."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from hf_distill.cli.consoles import table_console
from hf_distill.cli.main import app

PLAN = ["plan", "--teacher", "12/768", "--student", "6/384", "--budget", "8xH200x13h", "--transfer-tokens", "3e9"]


def test_the_width_is_that_of_the_terminal_of_columns_or_of_a_log_file(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    assert table_console().width == 160
    monkeypatch.setenv("COLUMNS", "90")
    assert table_console().width == 90


@pytest.mark.parametrize("width", [80, 160])
@pytest.mark.parametrize(
    ("arguments", "whole"),
    [(PLAN, ("vanilla_kd", "10,876,548", "475.20")), (["students"], ("12/768", "110,106,428", "174.59"))],
)
def test_lists_fit(arguments, whole, width):
    output = CliRunner().invoke(app, arguments, env={"COLUMNS": str(width)}).stdout
    table, _, _ = output.partition("\n- ")
    assert max(map(len, table.splitlines())) <= width
    assert all(each in output for each in whole) and "…" not in output
    assert ("not shown for want of width" in " ".join(output.split())) is (width == 80)

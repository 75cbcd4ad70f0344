"""With --json standard output is JSON and nothing else, whatever libraries print."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from hf_distill.cli.json_output import WithJson, print_json
from hf_distill.cli.main import app
from tests.tiny_models import tiny_bert, tiny_tokenizer

COMMANDS = typer.main.get_command(app).commands


def work(as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
    """Prints, and imports what prints."""
    print("Setting accelerator to CPU")
    log = logging.StreamHandler(sys.stdout)  # DeepSpeed makes one when it is imported
    log.emit(logging.LogRecord("DeepSpeed", logging.WARNING, "", 0, "kept the stream", None, None))
    print_json({"τ": 1})


def test_what_a_library_prints_on_the_way_is_no_part_of_the_json():
    program = typer.Typer()
    program.command(cls=WithJson)(work)
    result = CliRunner().invoke(program, ["--json"])
    assert json.loads(result.stdout) == {"τ": 1}
    assert "Setting accelerator" in result.stderr and "kept the stream" in result.stderr
    assert "Setting accelerator" in CliRunner().invoke(program, []).stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_so_are_all_commands(name):
    assert isinstance(COMMANDS[name], WithJson)


def test_a_distillation_where_deepspeed_is_installed(tmp_path):
    tiny_bert(16, 1).save_pretrained(tmp_path / "teacher")
    tiny_tokenizer().save_pretrained(tmp_path / "teacher")
    (tmp_path / "texts.csv").write_text("text,label\n" + "w5 w6,0\nw7 w8 w9,1\n" * 4)
    command = [Path(sys.executable).with_name("hf-distill"), "train", "teacher", "--student", "1/16", "--json"]
    command += ["--dataset", "texts.csv", "--output-dir", "out", "--max_steps", "1", "--report_to", "none", "--use_cpu"]
    environment = {name: value for name, value in os.environ.items() if name != "DS_ACCELERATOR"}
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["trainer"] == "DistillationTrainer"
    assert "Setting accelerator to CPU" not in done.stderr

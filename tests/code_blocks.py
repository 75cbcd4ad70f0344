"""The code blocks of a page of documentation, and what it takes to run each kind; a kind without a rule is refused."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from collections.abc import Sequence
from configparser import ConfigParser
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import patch

from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import launch_command_parser

from hf_distill import __version__
from hf_distill.scripts.user_errors import TRACEBACK
from tests.cli.commands import invoke

REPOSITORY = Path(__file__).parents[1]
EXAMPLES = REPOSITORY / "examples"
# What a run is given beside the page's own arguments, which come first, so that it takes a moment.
STEPS = 16
QUICK = [
    *("--max_steps", str(STEPS), "--use_cpu", "true", "--bf16", "false"),
    *("--report_to", "none", "--disable_tqdm", "true"),
]
QUICK_COMMANDS = {
    "train": QUICK,
    "evaluate": ["--runs", "1", "--lengths", "8", "--batch-sizes", "1"],
    "compress": [*QUICK, "--lengths", "8", "--batch-sizes", "1", "--format", "fp32"],
    "search": [*QUICK, "--length", "8", "--runs", "1", "--depths", "1", "--formats", "fp32"],
}
# Of the script that a page calls "your_script.py": what the page leaves out, and what it needs beside.
YOUR_SCRIPT = "your_script.py"
LEFT_OUT = {"--model_name_or_path": "outputs/bert", "--output_dir": "outputs/yours"}
NEEDED = ["--train_file", "sentences.csv"]
# Bash itself says what the commands of a block are, and has no others.
_SHELL = """
set -euo pipefail
record() { printf '%s\\0' "$#" "$@" >> "$CALLS"; }
python() { record python "$@"; }
make() { record make "$@"; }
accelerate() { record accelerate "$@"; }
hf-distill() { record hf-distill "$@"; }
docker() { record docker "$@"; }
pip() { record pip "$@"; }
id() { echo 1000; }
"""


@dataclass(frozen=True)
class Block:
    """A fenced block: the page's name, the line after the fence, the language, and what is in it."""

    page: str
    line: int
    language: str
    code: str


def blocks_of(page: str, text: str) -> list[Block]:
    """Every fenced block of a page, also an unfinished or an indented one."""
    found, opened, lines = [], None, text.splitlines()
    for number, line in enumerate(lines, start=1):
        fence = re.match(r"\s*(```+|~~~+)\s*(\S*)", line)
        if fence and opened is None:
            opened = number, fence[1], fence[2]
        elif fence and fence[1] == opened[1]:
            found.append(Block(page, opened[0] + 1, opened[2], "\n".join(lines[opened[0] : number - 1]) + "\n"))
            opened = None
    assert opened is None, f"{page}: the block of line {opened[0]} has no end"
    return found


def run_block(block: Block, namespace: dict[str, Any]) -> None:
    """Run a block in the working directory, by the rule of its language."""
    rules = {"python": _python, "bash": _bash, "bibtex": _bibtex}
    assert block.language in rules, f"{block.page}:{block.line}: no rule runs a block of {block.language!r}"
    rules[block.language](block, namespace)


def _python(block: Block, namespace: dict[str, Any]) -> None:
    exec(compile("\n" * (block.line - 1) + block.code, block.page, "exec"), namespace)


def _bash(block: Block, namespace: dict[str, Any]) -> None:
    calls = Path("calls").resolve()
    calls.unlink(missing_ok=True)
    shell = ["/bin/bash", "-c", _SHELL + block.code]
    done = subprocess.run(shell, env={"CALLS": str(calls), "PATH": ""}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{block.page}:{block.line}: no rule runs this: {done.stderr}"
    assert calls.exists(), f"{block.page}:{block.line}: the block runs nothing"
    parts = calls.read_text(encoding="utf-8").split("\0")[:-1]
    while parts:
        end = 1 + int(parts[0])
        (program, *arguments), parts = parts[1:end], parts[end:]
        rules = {"accelerate": _accelerate, "docker": _docker, "hf-distill": _command, "make": _make, "pip": _pip}
        (rules | {"python": _script})[program](arguments)


def _bibtex(block: Block, namespace: dict[str, Any]) -> None:
    entry = re.fullmatch(r"@(\w+)\{\w+,\n((?:  \w+ = \{.*\},?\n)+)\}\n", block.code)
    assert entry, f"{block.page}:{block.line} is no BibTeX entry"
    fields = dict(re.findall(r"  (\w+) = \{(.*)\}", entry[2]))
    assert fields.keys() >= {"title", "author", "year"}, f"{block.page}:{block.line} has {list(fields)} only"
    assert fields.get("version", __version__) == __version__


def _command(arguments: Sequence[str]) -> None:
    """An `hf-distill` command; its output must say something."""
    assert invoke(*arguments, *QUICK_COMMANDS.get(arguments[0], [])).output


def _docker(arguments: Sequence[str]) -> None:
    """An image is not built here, but its arguments exist; what is run in it is read as accelerate launch would."""
    subcommand, *rest = arguments
    assert subcommand in ("build", "run"), f"no rule runs docker {subcommand}"
    text = (REPOSITORY / "Dockerfile").read_text(encoding="utf-8")
    for option, value in pairwise(rest):
        if option == "--build-arg":
            name, chosen = value.split("=")
            assert f"\nARG {name}=" in text and f" AS {name.lower()}-{chosen}\n" in text, f"there is no {value}"
        if option == "--volume":
            place = value.rpartition(":")[2]
            assert place.startswith(("/opt/hf_distill/", "/tmp/")) and place.split("/")[1] in text, (
                f"nothing reads {place}"
            )
    if subcommand == "run":
        _accelerate(["launch", *rest[rest.index("hf_distill") + 1 :]])


def _make(targets: Sequence[str]) -> None:
    """What make would do: the targets themselves are the business of other tests."""
    subprocess.run(["make", "-n", *targets], cwd=REPOSITORY, check=True, capture_output=True)


def _pip(arguments: Sequence[str]) -> None:
    """Nothing is installed here, but this repository has the extras that are asked for."""
    subcommand, *requirements = arguments
    assert subcommand == "install", f"no rule runs pip {subcommand}"
    if requirements[0] == "-c":
        assert (REPOSITORY / requirements[1]).is_file(), f"there is no {requirements[1]}"
        requirements = requirements[2:]
    setup = ConfigParser()
    setup.read(REPOSITORY / "setup.cfg", encoding="utf-8")
    for requirement in requirements:
        name, extras = re.fullmatch(r"([\w.]+)(?:\[([\w,]+)\])?", requirement).groups()
        assert name == ".", f"no rule installs {name}"
        missing = {*(extras or "").split(",")} - {""} - {*setup["options.extras_require"]}
        assert not missing, f"there are no extras {sorted(missing)}"


def _accelerate(arguments: Sequence[str]) -> None:
    """The launch file is read and the script run, in this process alone: tests/distributed starts several."""
    subcommand, *rest = arguments
    assert subcommand == "launch", f"no rule runs accelerate {subcommand}"
    parsed = launch_command_parser().parse_args(rest)
    load_config_from_file(parsed.config_file)
    if parsed.no_python:
        assert parsed.training_script == "hf-distill", f"no rule runs {parsed.training_script}"
        _command(parsed.training_script_args)
        return
    _script([parsed.training_script, *parsed.training_script_args])


def _script(arguments: Sequence[str]) -> None:
    """A script of examples/, or the user's own; where it would fetch a GLUE task, its arguments are read and no more."""
    path, *given = arguments
    if path == YOUR_SCRIPT:
        assert not EXAMPLES.joinpath(path).exists()
        given = [LEFT_OUT[given[at - 1]] if each == "..." else each for at, each in enumerate(given)] + NEEDED
    else:
        assert Path(path).resolve().parent == EXAMPLES, f"no rule runs {path}"
    fetches = "--task_name" in given
    with (
        patch.object(sys, "argv", [path, *given, *QUICK]),
        patch.object(sys, "path", [str(EXAMPLES), *sys.path]),
        patch.dict(os.environ, {TRACEBACK: "1"}),  # else a mistake would end the process
        patch("hf_distill.scripts.run.prepare_run", _Begun.now) if fetches else nullcontext(),
    ):
        try:
            runpy.run_path(path, run_name="__main__")
            assert not fetches, f"{path} fetches a task"
        except _Begun:
            pass
        finally:
            for example in EXAMPLES.glob("*.py"):  # they import each other
                sys.modules.pop(example.stem, None)


class _Begun(Exception):
    """A script has read its arguments."""

    @classmethod
    def now(cls, args: Any, models: Any) -> None:
        """What stands in for `begin`, which every script calls with them."""
        raise cls

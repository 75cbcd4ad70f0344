"""The Dockerfile's steps, as far as they go without a Docker engine; hadolint looks at the rest (make lint)."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest
import torch

REPOSITORY = Path(__file__).parents[1]


def instructions(stage: str) -> list[list[str]]:
    """Of a stage, in order, each split into words."""
    text = re.sub(r"\\\n\s*", "", (REPOSITORY / "Dockerfile").read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    starts = [number for number, line in enumerate(lines) if line.startswith("FROM ")]
    begin = next(number for number in starts if lines[number].endswith(f" AS {stage}"))
    end = next((number for number in starts if number > begin), len(lines))
    return [shlex.split(line) for line in lines[begin + 1 : end]]


@pytest.fixture
def copied(tmp_path):
    """A folder with what the image has when its dependencies are installed."""
    for instruction, *words in instructions("dependencies"):
        if instruction == "COPY":
            *sources, target = [word for word in words if not word.startswith("--")]
            for source in sources:
                (tmp_path / target).mkdir(parents=True, exist_ok=True)
                shutil.copy(REPOSITORY / source, tmp_path / target)
    return tmp_path


def commands_of(*stages: str) -> list[list[str]]:
    """What is run, command by command."""
    words = [word for stage in stages for name, *rest in instructions(stage) if name == "RUN" for word in [*rest, "&&"]]
    text = " ".join(map(shlex.quote, words)).replace("'&&'", "&&")
    return [shlex.split(each) for each in text.split("&&") if each.strip()]


def extras_installed(commands: list[list[str]], folder: Path) -> list[str]:
    """What make would install of the package for each command of make's, and what else it would do."""
    made = [command for command in commands if command[0] == "make"]
    outputs = [
        subprocess.run(["make", "--dry-run", *words[1:]], cwd=folder, capture_output=True, text=True, check=True).stdout
        for words in made
    ]
    return [
        "".join(re.findall(r"editable '\.\[(.*)\]'", output)) + " pytest" * ("-m pytest" in output)
        for output in outputs
    ]


def test_the_image_has_no_tools_of_tests_and_those_run_in_a_stage_of_their_own(copied):
    (runtime,) = extras_installed(commands_of("dependencies", "source", "tests-no", "final"), copied)
    assert runtime == "all"
    assert extras_installed(commands_of("tests-yes"), copied) == ["dev pytest"]
    parts = {word.rstrip("/") for stage in ("dependencies", "source", "final") for word in copied_into(stage)}
    assert "examples" in parts and not {".", "tests"} & parts


def copied_into(stage: str) -> list[str]:
    """What of the repository is copied into a stage."""
    copies = [words for name, *words in instructions(stage) if name == "COPY" and not words[0].startswith("--from")]
    return [word for words in copies for word in words[:-1] if not word.startswith("--")]


def test_an_argument_leaves_the_tests_out():
    text = (REPOSITORY / "Dockerfile").read_text()
    assert re.search(r"^ARG TESTS=yes$", text, re.MULTILINE) and "FROM tests-${TESTS} AS tested" in text
    assert not any("make" in command for command in commands_of("tests-no"))
    assert any("--from=tested" in words for words in instructions("final")), "what is tested is built first"


def test_any_user_can_run_the_image():
    place = next(words[1] for words in instructions("base") if words[0] == "WORKDIR")
    assert not place.startswith("/home"), "homes are closed to other users"
    environment = dict(word.split("=", 1) for words in instructions("final") if words[0] == "ENV" for word in words[1:])
    assert environment["PATH"].startswith(f"{place}/.venv/bin:") and environment["HOME"] == "/tmp"


def test_the_image_has_the_cuda_that_torch_is_built_for():
    text = (REPOSITORY / "Dockerfile").read_text()
    (torch_version, built_for), (base,) = (
        re.findall(r"torch ([\d.]+) is built for CUDA (\d+\.\d+)", text)[0],
        re.findall(r"^FROM nvidia/cuda:(\d+\.\d+)\.", text, re.MULTILINE),
    )
    assert f"torch=={torch_version}\n" in (REPOSITORY / "constraints.txt").read_text()
    assert base == built_for and torch.version.cuda in (None, built_for)
    checked = [command for command in commands_of("dependencies") if "torch.version.cuda" in command[-1]]
    assert checked, "the build itself checks it"


def test_the_package_installs_from_what_is_copied_for_its_dependencies(copied):
    environment = copied / "environment"
    venv.create(environment, with_pip=True)
    install = ["-m", "pip", "install", "--quiet", "--no-deps", "--editable", "."]
    subprocess.run([environment / "bin" / "python", *install], cwd=copied, check=True)
    version = [environment / "bin" / "python", "-c", "import hf_distill; print(hf_distill.__version__)"]
    assert subprocess.run(version, cwd=copied.parent, capture_output=True, text=True, check=True).stdout.strip()


def test_the_image_starts_accelerate_launch():
    words = dict((name, "".join(rest)) for name, *rest in instructions("final"))
    assert words["ENTRYPOINT"] == "[accelerate,launch]"
    launched = subprocess.run(
        [Path(sys.executable).parent / "accelerate", "launch", "--help"], capture_output=True, text=True, check=False
    )
    assert launched.returncode == 0 and "--config_file" in launched.stdout


def test_what_is_installed_or_made_here_stays_out_of_the_image():
    ignored = (REPOSITORY / ".dockerignore").read_text().split()
    assert {".git", ".venv", "outputs"} <= set(ignored)

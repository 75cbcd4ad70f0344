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


def test_every_command_of_the_image_is_one_that_make_knows(copied):
    commands = [words for stage in ("dependencies", "source", "tested") for words in instructions(stage)]
    made = [words[2] for words in commands if words[:2] == ["RUN", "make"]]
    assert made == [".venv/.installed", "test"]
    result = subprocess.run(["make", "--dry-run", *made], cwd=copied, capture_output=True, text=True, check=True)
    assert "pip install" in result.stdout and "pytest" in result.stdout


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

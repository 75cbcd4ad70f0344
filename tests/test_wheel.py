"""The package as a user gets it: built, installed into an empty environment, imported from elsewhere."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import hf_distill

REPOSITORY = Path(__file__).parents[1]
PROGRAM = """
import importlib.metadata, importlib.resources, json, pathlib
import hf_distill
package = importlib.resources.files("hf_distill")
templates = importlib.resources.files("hf_distill.publishing") / "templates"
print(json.dumps({
    "file": hf_distill.__file__,
    "version": hf_distill.__version__,
    "metadata_version": importlib.metadata.version("hf_distill"),
    "py_typed": (package / "py.typed").is_file(),
    "templates": [entry.name for entry in templates.iterdir()] if templates.is_dir() else [],
}))
"""


def run(*command: str | Path, cwd: Path) -> str:
    """Output of a command that neither the repository nor the caller's PYTHONPATH can reach into."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A copy of what the wheel is built from, so that building leaves nothing in the repository."""
    copy = tmp_path_factory.mktemp("source")
    shutil.copytree(REPOSITORY / "hf_distill", copy / "hf_distill", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "setup.py", "pyproject.toml", "LICENSE"):
        shutil.copy(REPOSITORY / name, copy / name)
    readme = REPOSITORY / "README.md"
    (copy / "README.md").write_text(readme.read_text(encoding="utf-8") if readme.exists() else "# hf_distill\n")
    for folder in ("tests", "examples", "benchmarks"):
        (copy / folder).mkdir()
        (copy / folder / "__init__.py").touch()
    return copy


@pytest.fixture(scope="module")
def environment(source, tmp_path_factory) -> Path:
    """An environment that holds the wheel and nothing else."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip")
    run(*pip, "wheel", source, "--no-deps", "--no-build-isolation", "--no-index", "-w", folder / "dist", cwd=folder)
    (wheel,) = (folder / "dist").glob("*.whl")
    run(sys.executable, "-m", "venv", "--without-pip", folder / "venv", cwd=folder)
    python = folder / "venv" / "bin" / "python"
    run(*pip, "--python", python, "install", "--no-deps", "--no-index", wheel, cwd=folder)
    return folder / "venv"


@pytest.fixture(scope="module")
def installed(environment) -> dict:
    return json.loads(run(environment / "bin" / "python", "-c", PROGRAM, cwd=environment.parent))


def site_packages(environment: Path) -> Path:
    (folder,) = environment.glob("lib/python*/site-packages")
    return folder


def test_installed_package_imports_without_its_dependencies(environment, installed):
    assert Path(installed["file"]).is_relative_to(site_packages(environment))
    assert installed["version"] == installed["metadata_version"] == hf_distill.__version__


def test_package_data_is_there(installed):
    assert installed["py_typed"]
    assert any(name.endswith(".jinja") for name in installed["templates"])


def test_every_module_is_installed(source, environment):
    def modules(folder: Path) -> list[str]:
        return sorted(path.relative_to(folder).as_posix() for path in (folder / "hf_distill").rglob("*.py"))

    assert modules(site_packages(environment)) == modules(source)


def test_nothing_else_is_installed(environment):
    names = {path.name for path in site_packages(environment).iterdir()}
    assert {name.partition("-")[0] for name in names} == {"hf_distill"}
    assert len(names) == 2  # the package and its metadata


def test_the_page_of_a_package_index_has_no_links_into_the_repository(environment):
    (metadata,) = site_packages(environment).glob("hf_distill-*/METADATA")
    page = metadata.read_text(encoding="utf-8").partition("\n\n")[2]
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"(!?)\[([^]]*)\]\(([^)]*)\)", readme)
    assert any(image for image, *_ in links) and len(links) > 20
    assert not [target for _, target in re.findall(r"\[([^]]*)\]\(([^)]*)\)", page) if not target.startswith("https:")]
    assert all((text in page) != bool(image) for image, text, _ in links)
    assert page.startswith("# hf_distill\n") and page.count("\n## ") == readme.count("\n## ")

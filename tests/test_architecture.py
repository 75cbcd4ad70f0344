"""The package keeps the rules of `architecture_rules`, and every rule sees a breach of itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.architecture_rules import (
    MAX_FILE_LINES,
    MAX_FUNCTION_LINES,
    MAX_ROOT_MODULES,
    MAX_TRAINER_METHODS,
    Module,
    attributes_are_introduced_in_init,
    divergences_are_written_in_objectives,
    docstring_entries_are_phrases,
    every_part_has_a_layer,
    files_are_short,
    functions_are_short,
    imports_point_down,
    modules_of,
    no_cycle_among_modules,
    no_cycle_among_parts,
    no_item_in_compute_loss,
    no_mutable_defaults,
    nobody_asks_what_a_teacher_is,
    nothing_imports_the_command_line,
    nothing_is_left_to_do,
    objectives_import_torch_only,
    only_trainers_import_trainer,
    the_ignore_index_has_one_owner,
    the_package_itself_imports_nothing,
    the_root_is_small,
    the_training_loop_is_transformers,
    trainers_are_a_chain,
    trainers_have_few_methods,
)

PACKAGE = Path(__file__).parents[1] / "hf_distill"

# A small breach of every rule, by file.
BROKEN: list[tuple[Callable[[list[Module]], list[str]], dict[str, str]]] = [
    (every_part_has_a_layer, {"novelty/__init__.py": ""}),
    (every_part_has_a_layer, {"novelty.py": ""}),
    (imports_point_down, {"hardware.py": "import fake.teachers.frozen", "teachers/frozen.py": ""}),
    (imports_point_down, {"teachers/frozen.py": "from fake.trainers import checks", "trainers/checks.py": ""}),
    (imports_point_down, {"students.py": "def f():\n    from .evaluation import metrics", "evaluation/metrics.py": ""}),
    (nothing_imports_the_command_line, {"trainers/checks.py": "from fake.cli import main", "cli/__init__.py": ""}),
    (no_cycle_among_modules, {"teachers/a.py": "from fake.teachers import b", "teachers/b.py": "from . import a"}),
    (
        no_cycle_among_modules,
        {
            "teachers/a.py": "from fake.students import thing",
            "students.py": "if True:\n    import fake.pruning.c",
            "pruning/c.py": "def late():\n    from ..teachers.a import other",
        },
    ),
    (
        no_cycle_among_parts,
        {"teachers/a.py": "import fake.students", "students.py": "from fake.teachers.b import x", "teachers/b.py": ""},
    ),
    (the_package_itself_imports_nothing, {"__init__.py": "from fake.students import x", "students.py": ""}),
    (the_package_itself_imports_nothing, {"__init__.py": "if not TYPE_CHECKING:\n    import torch"}),
    (the_package_itself_imports_nothing, {"__init__.py": "", "hardware.py": "from fake import DistillationTrainer"}),
    (objectives_import_torch_only, {"objectives/logits.py": "import numpy as np"}),
    (objectives_import_torch_only, {"objectives/logits.py": "import fake.hardware", "hardware.py": ""}),
    (only_trainers_import_trainer, {"evaluation/report.py": "from transformers import Trainer"}),
    (only_trainers_import_trainer, {"students.py": "import transformers\nbase = transformers.Trainer"}),
    (divergences_are_written_in_objectives, {"students.py": "from torch.nn.functional import kl_div as f"}),
    (divergences_are_written_in_objectives, {"students.py": "y = x.log_softmax(-1)"}),
    (the_ignore_index_has_one_owner, {"objectives/logits.py": "ignored = -100"}),
    (no_item_in_compute_loss, {"trainers/t.py": "class T:\n    def compute_loss(self, x):\n        return x.item()"}),
    (the_training_loop_is_transformers, {"trainers/t.py": "class T:\n    def training_step(self): ..."}),
    (the_root_is_small, {f"part{index}.py": "" for index in range(MAX_ROOT_MODULES + 1)}),
    (trainers_are_a_chain, {"trainers/t.py": "class MyTrainer(Mixin, Trainer): ..."}),
    (
        trainers_have_few_methods,
        {
            "trainers/t.py": "class T(Trainer):\n    pass\nclass MyTrainer(T):\n"
            + "    def f(self): ...\n" * (MAX_TRAINER_METHODS + 1)
        },
    ),
    (
        attributes_are_introduced_in_init,
        {"trainers/t.py": "class MyTrainer(Trainer):\n    def log(self):\n        self.news = 1"},
    ),
    (nobody_asks_what_a_teacher_is, {"trainers/t.py": "x = isinstance(self.teacher, FrozenTeacher)"}),
    (nobody_asks_what_a_teacher_is, {"trainers/t.py": "x = hasattr(trainer.teacher, 'model')"}),
    (
        docstring_entries_are_phrases,
        {"students.py": 'def f(x):\n    """Do.\n\n    Args:\n        x: Of the student.\n    """'},
    ),
    (nothing_is_left_to_do, {"students.py": "# TODO: more sizes"}),
    (files_are_short, {"students.py": "x = 1\n" * (MAX_FILE_LINES + 1)}),
    (functions_are_short, {"students.py": "def f():\n" + "    x = 1\n" * MAX_FUNCTION_LINES}),
    (no_mutable_defaults, {"students.py": "def f(x, *, sizes=[]): ..."}),
    (no_mutable_defaults, {"students.py": "f = lambda sizes=dict(a=1): sizes"}),
]
RULES = list(dict.fromkeys(rule for rule, _ in BROKEN))
SOUND = {
    "__init__.py": "import importlib\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import fake.students",
    "objectives/__init__.py": "",
    "objectives/reduction.py": "import math\nIGNORE_INDEX = -100",
    "objectives/logits.py": "from torch.nn.functional import log_softmax\nfrom fake.objectives import reduction",
    "teachers/frozen.py": "from fake import __version__\nfrom fake.objectives import logits\nfrom . import column",
    "teachers/column.py": "def f(x, sizes=(1, 2), scale=-10.0): ...",
    "students.py": "from fake.teachers.frozen import teacher",  # the same layer, in one direction
    "trainers/arguments.py": "import typing\nif typing.TYPE_CHECKING:\n    from fake.trainers.trainer import T",
    "trainers/trainer.py": "from transformers import Trainer\nimport fake.trainers.arguments\nx = y.item()",
    "cli/main.py": "from ..trainers.trainer import T\ndef f():\n" + "    x = 1\n" * (MAX_FUNCTION_LINES - 1),
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_package_keeps(rule):
    modules = modules_of(PACKAGE)
    assert len(modules) > 20
    breaches = rule(modules)
    assert not breaches, "\n".join(breaches)


@pytest.mark.parametrize(("rule", "files"), BROKEN, ids=lambda value: getattr(value, "__name__", ""))
def test_breach_is_seen(tmp_path, rule, files):
    breaches = rule(modules_of(written(tmp_path / "fake", files)))
    assert breaches
    assert all(isinstance(breach, str) for breach in breaches)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_sound_package_passes(tmp_path, rule):
    assert rule(modules_of(written(tmp_path / "fake", SOUND))) == []


def written(package: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return package

"""What a user imports, reads in `help` and types on a command line."""

from __future__ import annotations

import ast
import dataclasses
import enum
import importlib.metadata
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import HfArgumentParser, TrainingArguments

import hf_distill
from hf_distill import DistillationTrainingArguments
from hf_distill.objectives.logits import SOFT_LABEL_LOSSES, SoftLabelLoss
from hf_distill.objectives.ranking import RANKING_LOSSES
from hf_distill.preflight.argument_rules import DEFAULTS
from hf_distill.preflight.student_defaults import STOCK
from hf_distill.teachers.frozen import TeacherDtype

PACKAGE = Path(hf_distill.__file__).parent
PUBLIC_NAMES = [name for name in hf_distill.__all__ if name != "__version__"]
SOURCES = sorted(PACKAGE.rglob("*.py"))
MAX_IMPORT_SECONDS = 0.2

OWN_CLASSES = [each for each in DistillationTrainingArguments.__mro__ if each.__module__.startswith("hf_distill.")]
OWN_FIELDS = [
    field
    for field in dataclasses.fields(DistillationTrainingArguments)
    if any(field.name in each.__annotations__ for each in OWN_CLASSES)
]


def has_documented_arguments(name: str) -> bool:
    """Functions and ordinary classes; dataclasses, protocols and choices document what they hold instead."""
    value = getattr(hf_distill, name)
    is_choice = isinstance(value, enum.EnumMeta)
    return not (is_choice or dataclasses.is_dataclass(value) or getattr(value, "_is_protocol", False))


@pytest.mark.parametrize("name", PUBLIC_NAMES)
def test_public_name_is_there_and_documented(name):
    value = getattr(hf_distill, name)
    assert value.__name__ == name
    assert inspect.getdoc(value)
    assert sys.modules[value.__module__].__doc__


@pytest.mark.parametrize("name", [name for name in PUBLIC_NAMES if has_documented_arguments(name)])
def test_public_name_documents_its_arguments(name):
    value = getattr(hf_distill, name)
    _, _, arguments = inspect.getdoc(value).partition("\nArgs:\n")
    documented = {name.lstrip("*") for name in re.findall(r"^    (\*{0,2}\w+): ", arguments, re.MULTILINE)}
    undocumented = inspect.signature(value).parameters.keys() - documented
    assert arguments or not inspect.signature(value).parameters
    assert not undocumented


def test_names_for_type_checkers_are_those_that_load():
    """The imports under TYPE_CHECKING and the table of lazy names say the same."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    declared = {alias.name: node.module for node in block.body for alias in node.names}
    assert declared == {name: getattr(hf_distill, name).__module__ for name in PUBLIC_NAMES}


def test_public_names_are_listed():
    assert set(dir(hf_distill)) == set(hf_distill.__all__)
    assert len(hf_distill.__all__) == len(set(hf_distill.__all__))


@pytest.mark.parametrize("name", ["DistilationTrainer", "_missing", "torch"])
def test_unknown_name(name):
    with pytest.raises(AttributeError, match=f"module 'hf_distill' has no attribute '{name}'"):
        getattr(hf_distill, name)


def test_version_is_that_of_the_installed_package():
    assert hf_distill.__version__ == importlib.metadata.version("hf_distill")


def test_import_is_quick_and_light(tmp_path):
    program = (
        "import time; start = time.perf_counter(); import hf_distill; seconds = time.perf_counter() - start\n"
        "import json, sys; print(json.dumps([seconds, sorted({'torch', 'transformers'} & sys.modules.keys())]))"
    )
    runs = [
        json.loads(
            subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, cwd=tmp_path).stdout
        )
        for _ in range(3)
    ]
    assert [heavy for _, heavy in runs] == [[], [], []]
    assert min(seconds for seconds, _ in runs) < MAX_IMPORT_SECONDS


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_public_functions_and_classes_have_docstrings(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    public = [
        node
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_")
    ]
    assert ast.get_docstring(tree)
    assert [node.name for node in public if not ast.get_docstring(node)] == []


def test_own_fields_are_all_that_trainer_does_not_have():
    theirs = {field.name for field in dataclasses.fields(TrainingArguments)}
    own = {field.name for field in OWN_FIELDS}
    assert {field.name for field in dataclasses.fields(DistillationTrainingArguments)} - theirs <= own
    assert own & theirs == {"bf16", *STOCK}


@pytest.mark.parametrize("field", OWN_FIELDS, ids=lambda field: field.name)
def test_own_field_has_help(field):
    help_text = field.metadata["help"].strip()
    assert help_text.endswith(".")
    if field.default is None:
        assert "None:" in help_text


def parse(tmp_path, *arguments: str) -> DistillationTrainingArguments:
    command_line = ["--output_dir", str(tmp_path), "--use_cpu", "--report_to", "none", *arguments]
    (args,) = HfArgumentParser(DistillationTrainingArguments).parse_args_into_dataclasses(command_line)
    return args


def test_command_line(tmp_path):
    args = parse(
        tmp_path,
        *("--soft_label_weight", "0.5", "--hard_label_weight", "0.25", "--temperature", "2"),
        *("--soft_label_loss", "reverse_kl", "--teacher_dtype", "float16", "--teacher_revision", "main"),
        *("--teacher_model_init_kwargs", '{"attn_implementation": "eager"}'),
        *("--length_bucketing", "False", "--bf16", "False", "--learning_rate", "3e-4"),
    )
    assert (args.soft_label_weight, args.hard_label_weight, args.temperature) == (0.5, 0.25, 2.0)
    assert args.soft_label_loss is SoftLabelLoss.REVERSE_KL
    assert args.teacher_dtype is TeacherDtype.FLOAT16
    assert args.teacher_revision == "main"
    assert args.teacher_model_init_kwargs == {"attn_implementation": "eager"}
    assert (args.length_bucketing, args.bf16, args.learning_rate) == (False, False, 3e-4)


def test_command_line_defaults(tmp_path):
    args = parse(tmp_path)
    for field in OWN_FIELDS:
        if field.name != "bf16":
            assert getattr(args, field.name) == (DEFAULTS | STOCK).get(field.name, field.default)
    assert isinstance(args.bf16, bool)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--soft_label_loss", "kl"),
        ("--teacher_dtype", "int8"),
        ("--temperature", "warm"),
        ("--no_such_argument", "1"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_command_line_refuses_what_it_does_not_know(tmp_path, arguments, capsys):
    with pytest.raises((SystemExit, ValueError)) as error:
        parse(tmp_path, *arguments)
    assert arguments[0] in capsys.readouterr().err + str(error.value)


@pytest.mark.parametrize("loss", SoftLabelLoss)
def test_arguments_survive_json(tmp_path, loss):
    args = parse(
        tmp_path,
        *("--soft_label_loss", loss.value, "--teacher_model_init_kwargs", '{"attn_implementation": "eager"}'),
        *(("--query_column", "query_id") if loss.value in RANKING_LOSSES else ()),
    )
    saved = json.loads(args.to_json_string())
    assert saved["soft_label_loss"] == loss.value
    assert saved["teacher_dtype"] == "auto"
    assert saved["teacher_model_init_kwargs"] == {"attn_implementation": "eager"}
    own = {field.name: saved[field.name] for field in OWN_FIELDS}
    again = DistillationTrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to="none", **own)
    assert all(getattr(again, name) == getattr(args, name) for name in own)


def test_every_soft_label_loss_can_be_asked_for():
    assert [loss.value for loss in SoftLabelLoss] == [*SOFT_LABEL_LOSSES, *RANKING_LOSSES]

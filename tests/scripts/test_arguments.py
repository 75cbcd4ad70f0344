"""What a script's parser refuses it names, with what may have been meant."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hf_distill.files import FileFormatError
from hf_distill.objectives.logits import SoftLabelLoss
from hf_distill.scripts.arguments import ScriptParser
from hf_distill.scripts.run import ScriptTrainingArguments, parse_arguments, parsed_values
from hf_distill.scripts.user_errors import WrongUsage
from hf_distill.text.suggestions import choice, suggestion

EXAMPLES = Path(__file__).parents[2] / "examples"
SCRIPTS = [EXAMPLES / "run_glue.py", EXAMPLES / "compare_trajectories.py", EXAMPLES / "quickstart.py"]
PLACE = ["--output_dir", "out"]


def refused(*words: str) -> str:
    with pytest.raises(WrongUsage) as error:
        ScriptParser((ScriptTrainingArguments,), also_known=["student"]).parse_args_into_dataclasses(list(words))
    return str(error.value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--max_stepz", "3"], "there is no option --max_stepz. Did you mean '--max_steps'?"),
        (["--learning-rat=1", "--hard_label_wait", "1"], "there is no option --hard_label_wait. Did you mean '--hard_label_weight'?"),
        (["--studnet", "tiny"], "there is no option --studnet. Did you mean '--student'?"),
        (["--quite_another_thing"], "there is no option --quite_another_thing"),
        (["--max_steps", "3", "4"], "unexpected value that follows no option: 4"),
        (["--soft_label_loss", "forward"], ". Did you mean 'forward_kl'?"),
        (["--max_steps", "three"], "argument --max_steps/--max-steps: invalid int value: 'three'"),
        (["--max_steps"], "argument --max_steps/--max-steps: expected one argument"),
    ],
)  # fmt: skip
def test_a_refusal_is_one_line_with_what_may_be_meant(words, message):
    said = refused(*PLACE, *words)
    assert said.endswith(message) and len(said) < 600 and "\n" not in said and "usage" not in said


def test_values_and_their_order_are_kept(monkeypatch):
    (args,) = ScriptParser(ScriptTrainingArguments).parse_args_into_dataclasses([*PLACE, "--max_steps", "3"])
    assert args.max_steps == 3 and args.overwrite_output_dir is False
    parser = ScriptParser((ScriptTrainingArguments,))
    *_, rest = parser.parse_args_into_dataclasses([*PLACE, "--other"], return_remaining_strings=True)
    assert rest == ["--other"]
    monkeypatch.setattr("sys.argv", ["script", *PLACE, "--max_stepz", "3"])
    with pytest.raises(WrongUsage, match="--max_stepz"):
        parsed_values(parser, ScriptTrainingArguments)


def test_keys_of_a_file_are_read_like_options(tmp_path, monkeypatch):
    path = tmp_path / "arguments.json"
    path.write_text(json.dumps({"output_dir": "out", "do_train": True, "max_stepz": 3}))
    monkeypatch.setattr("sys.argv", ["script", str(path)])
    with pytest.raises(WrongUsage, match=r"has the unknown argument 'max_stepz'. Did you mean 'max_steps'\?"):
        parse_arguments(ScriptTrainingArguments)


@pytest.mark.parametrize("text", ["[]", "{", '{"output_dir": "out", "output_dir": "other"}'])
def test_a_file_that_is_no_object_of_arguments_is_named(tmp_path, monkeypatch, text):
    path = tmp_path / "arguments.json"
    path.write_text(text)
    monkeypatch.setattr("sys.argv", ["script", str(path)])
    with pytest.raises(FileFormatError, match=r"arguments\.json"):
        parse_arguments(ScriptTrainingArguments)


def test_suggestions_are_similar_or_none():
    assert suggestion("Tinny", ["tiny", "mini"]) == ". Did you mean 'tiny'?"
    assert suggestion("elephant", ["tiny", "mini"]) == "" == suggestion("x", [])
    assert suggestion("widht", ["width"], "--{}") == ". Did you mean '--width'?"


def test_a_choice_by_value_or_itself():
    assert choice(SoftLabelLoss, "logit_mse", "loss") is choice(SoftLabelLoss, SoftLabelLoss.LOGIT_MSE, "loss")
    message = f"loss must be one of {[each.value for each in SoftLabelLoss]}, got 'mse'"
    with pytest.raises(ValueError, match=re.escape(message)):
        choice(SoftLabelLoss, "mse", "loss")


@pytest.mark.parametrize("name", [path.name for path in SCRIPTS])
def test_help_of_a_script_begins_with_what_it_does_and_its_own_options(name):
    program = [sys.executable, str(EXAMPLES / name), "--help"]
    shown = subprocess.run(
        program, capture_output=True, text=True, check=True, env=os.environ | {"COLUMNS": "200"}
    ).stdout
    said = ast.get_docstring(ast.parse((EXAMPLES / name).read_text()), clean=False)
    assert shown.startswith(f"usage: {name} [options]\n\n{said.splitlines()[0]}")
    if "--weight_decay" in shown:
        own = [
            flag
            for flag in ("--students", "--student", "--max_train_samples", "--arms", "--train_file")
            if flag in shown
        ]
        assert own and all(shown.index(f"  {flag}") < shown.index("  --weight_decay") for flag in own)


@dataclass
class Augmenting:
    augment: bool = field(default=True, metadata={"help": "Change images at random."})


def test_the_contrary_of_an_option_does_not_claim_to_be_the_option():
    text = " ".join(ScriptParser(Augmenting).format_help().split())
    assert "--no_augment, --no-augment Set --augment to false." in text and text.count("Change images at random.") == 1

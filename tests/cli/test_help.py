"""Every command explains itself with an example that runs, and a mistake is one line."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from hf_distill import __version__
from hf_distill.cli import entry_point
from hf_distill.cli.main import app
from hf_distill.publishing.model_card import write_model_card
from hf_distill.publishing.run_record import RunRecord
from hf_distill.resources.sentiment import load_sentiment
from tests.cli.commands import invoke
from tests.publishing.test_run_record import record
from tests.tiny_models import tiny_bert, tiny_tokenizer

COMMANDS = typer.main.get_command(app).commands
NAMES = {"id2label": {0: "negative", 1: "positive"}, "label2id": {"negative": 0, "positive": 1}}


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_an_example_and_options_have_help(name):
    text = invoke(name, "--help").output
    assert f"Example: hf-distill {name}" in text
    command = COMMANDS[name]
    for parameter in command.params:
        assert parameter.help or parameter.name == "help", parameter.name
    assert any("--json" in parameter.opts for parameter in command.params)


@pytest.fixture
def prepared(tmp_path, monkeypatch):
    """Makes the folders that an example names, and data that need no network; returns where they are."""

    def make(example: list[str]) -> Path:
        if "movie_reviews" in example:
            rows = {split: data.select(range(0, len(data), 400)) for split, data in load_sentiment().items()}
            monkeypatch.setattr("hf_distill.resources.built_in.load_sentiment", lambda name: rows)
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("HF_DISTILL_CACHE", str(tmp_path / "cache"))
        for seed, place in enumerate(each for each in example if each.startswith("outputs/")):
            folder = tmp_path / place
            tiny_bert(256, 2, seed=seed, **NAMES).save_pretrained(folder)
            tiny_tokenizer().save_pretrained(folder)
            record().save(folder)
            write_model_card(folder)
        (tmp_path / "reviews.csv").write_text("text\nw5 w6\nw7 w8 w9\n")
        lines = [f"w{row + 4} w9,{NAMES['id2label'][row % 2]}" for row in range(24)]
        (tmp_path / "labeled.csv").write_text("\n".join(["text,label", *lines]) + "\n")
        (tmp_path / "texts.txt").write_text("w5 w6 w7\nw8 w9\n")
        return tmp_path / "outputs"

    return make


def example_of(name: str) -> list[str]:
    """The arguments of a command's example, on one line whatever the width of the terminal."""
    text = COMMANDS[name].help
    found = re.search(r"Example: hf-distill (.*)", text)
    return shlex.split(found.group(1))


@pytest.mark.real_data
@pytest.mark.parametrize("name", COMMANDS)
def test_the_example_runs(name, prepared):
    quick = {
        "train": ["--max_steps", "2", "--use_cpu", "--report_to", "none", "--disable_tqdm", "true"],
        "compress": ["--plan"],
        "search": ["--plan", "--runs", "1", "--length", "8"],
        "publish-family": ["--dry-run"],
        "evaluate": ["--runs", "1", "--lengths", "8"],
        "export": ["--no-latency"],
    }
    arguments = example_of(name)
    outputs = prepared(arguments)
    result = invoke(*arguments, *quick.get(name, []))
    assert result.output
    if name == "train":
        assert RunRecord.load(outputs / "student").evaluation["rows"][1]["name"] == "student"
        assert "(this model)" in (outputs / "student" / "README.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["card", "nowhere"], "nowhere/run.json"),
        (["evaluate", "nowhere", "--dataset", "digits"], "nowhere"),
        (["evaluate", "a", "--dataset", "digits", "--split", "other"], r"split must be one of \['test'.*got 'other'"),
        (["evaluate", "a", "--dataset", "digits", "--label-column", "x"], r"no columns \['x'\]"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_1(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    output = invoke(*arguments, exit_code=1).output
    assert re.search(f"Error: .*{message}", output.replace("\n", " ")) and "Traceback" not in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "a", "--dataset", "digits", "--formats", "fp64"], "formats must be among fp32, bf16, int8, onnx"),
        (["evaluate", "a", "--dataset", "digits", "--lengths", "1,-2"], "positive whole numbers"),
        (["evaluate", "a"], "Missing option '--dataset'."),
        (["evaluate"], "Missing argument 'students', option '--dataset'."),
        (["compress"], "Missing argument 'teacher', option '--dataset', option '--target', option '--output-dir'."),
        (["train", "a", "--max_steps", "3"], "Missing option '--student', option '--output-dir', option '--dataset'."),
        (["nothing"], "No such command"),
    ],
)
def test_wrong_usage_is_exit_code_2(arguments, message):
    assert message in re.sub(r"[│\s]+", " ", invoke(*arguments, exit_code=2).output)


def test_the_version_is_printed():
    assert invoke("--version").output == f"hf_distill {__version__}\n"


def test_help_imports_neither_torch_nor_transformers():
    program = (
        "import sys, hf_distill.cli.main as m; assert not {'torch', 'transformers', 'datasets'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[2])


def test_shells_complete_commands(tmp_path):
    words = {"_HF_DISTILL_COMPLETE": "complete_bash", "COMP_WORDS": "hf-distill ev", "COMP_CWORD": "1"}
    command = Path(sys.executable).with_name("hf-distill")
    found = subprocess.run([command], env=os.environ | words, capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["evaluate"]


def test_without_a_command_there_is_a_table_from_jobs_to_commands():
    table = invoke(exit_code=2).output.partition("Jobs and their commands:\n")[2]
    found = dict(re.split(r" {2,}", line.strip()) for line in table.splitlines() if line.strip())
    assert sorted(found.values()) == sorted(COMMANDS)
    assert found["Compare students with their teacher"] == "evaluate"
    assert max(map(len, table.splitlines())) <= 80


def test_libraries_are_quiet_before_they_are_imported(monkeypatch, capsys):
    called = []
    monkeypatch.setattr(entry_point, "quiet_libraries", lambda: called.append(True))
    monkeypatch.setattr(entry_point, "require_extra", lambda *_: called or pytest.fail("too late"))
    monkeypatch.setattr(sys, "argv", ["hf-distill", "--help"])
    with pytest.raises(SystemExit):
        entry_point.main()
    assert called and "Jobs and their commands" in capsys.readouterr().out

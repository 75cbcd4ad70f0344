"""What a run was started with: arguments without private values, the command, and the commit."""

from __future__ import annotations

import json
import subprocess
import sys
from types import SimpleNamespace

from transformers import TrainingArguments

from hf_distill import DistillationTrainingArguments
from hf_distill.publishing.run_origin import changed_arguments, command_line, git_state


def test_only_changed_arguments_without_paths_and_secrets(tmp_path):
    args = TrainingArguments(str(tmp_path), hub_token="secret", learning_rate=0.1, report_to="none", optim="sgd")
    changed = changed_arguments(args)
    assert changed["learning_rate"] == 0.1 and changed["optim"] == "sgd"
    assert "secret" not in json.dumps(changed) and str(tmp_path) not in json.dumps(changed)
    assert "weight_decay" not in changed


def test_an_argument_that_differs_from_its_recipe_is_changed(tmp_path):
    args = DistillationTrainingArguments(str(tmp_path), recipe="embedding", similarity_weight=0.0, report_to="none")
    changed = changed_arguments(args)
    assert changed["similarity_weight"] == 0 and changed["recipe"] == "embedding" and changed["temperature"] == 0.05


def test_the_command_is_that_of_the_script(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)
    monkeypatch.setattr("sys.argv", [str(tmp_path / "train.py"), "--text", "two words", "--hub_token", "abc"])
    assert command_line() == "python train.py --text 'two words' --hub_token '[removed]'"
    monkeypatch.setattr("sys.argv", ["/home/anna/train.py"])
    assert command_line() == "python train.py"
    monkeypatch.setattr("sys.argv", ["/usr/bin/hf-distill", "train", "/home/anna/teacher"])
    assert command_line() == "hf-distill train teacher"
    monkeypatch.setattr("sys.argv", ["-c"])
    assert command_line() is None
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", SimpleNamespace(name="package.__main__"))
    assert command_line() == "python -m package"


def test_the_state_of_the_repository(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_state() is None

    def git(*arguments):
        subprocess.run(
            ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments], check=True, capture_output=True
        )

    git("init")
    (tmp_path / "file").write_text("one")
    git("add", "file")
    git("commit", "-m", "one")
    state = git_state()
    assert len(state["commit"]) == 40 and state["changed"] is False
    (tmp_path / "file").write_text("two")
    assert git_state() == state | {"changed": True}

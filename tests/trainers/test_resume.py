"""A run killed in mid-epoch and resumed is the run that was never killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from transformers.trainer_utils import get_last_checkpoint

REPOSITORY = Path(__file__).parents[2]


def start(folder: Path, *flags: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "tests.trainers.resume_worker", str(folder), *flags]
    return subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen) -> None:
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors[-3000:]


def wait_for(path: Path, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None, process.stderr.read()[-3000:]
        assert time.monotonic() < deadline, f"{path} never appeared"
        time.sleep(0.05)


def test_killed_in_mid_epoch_and_resumed_equals_uninterrupted(tmp_path):
    whole = start(tmp_path / "whole")
    killed = start(tmp_path / "killed", "--wait-after-step=13")
    wait_for(tmp_path / "killed" / "waiting", killed)
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    assert not (tmp_path / "killed" / "weights.pt").exists()
    # 8 steps an epoch: the last checkpoint, of step 12, lies in the middle of the second.
    assert get_last_checkpoint(str(tmp_path / "killed")).endswith("checkpoint-12")
    finish(start(tmp_path / "killed", "--resume"))
    finish(whole)
    expected, found = (torch.load(tmp_path / name / "weights.pt") for name in ("whole", "killed"))
    assert torch.equal(found, expected)
    expected, found = (json.loads((tmp_path / name / "logs.json").read_text()) for name in ("whole", "killed"))
    assert len(found) == len(expected) == 24
    for name in ("loss", "soft_label_loss", "hard_label_loss", "grad_norm", "learning_rate"):
        assert [entry[name] for entry in found] == pytest.approx([entry[name] for entry in expected], rel=1e-6), name

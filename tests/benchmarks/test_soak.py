"""The script that looks for growing memory and handles: a trainer's samples, and what is too much."""

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest


@pytest.fixture
def soak(benchmark_module):
    return benchmark_module("soak")


def sampled(mb, handles):
    return [{"step": 50 * (index + 1), "mb": mb(index), "handles": handles(index)} for index in range(40)]


@pytest.mark.parametrize(
    ("mb", "handles", "grown"),
    [
        (lambda index: 500 + min(index, 3), lambda index: 5, {"mb": 0, "handles": 0}),
        (lambda index: 500 + index, lambda index: 5, {"mb": 36, "handles": 0}),
        (lambda index: 600 - index, lambda index: 5 + index // 10, {"mb": -4, "handles": 3}),
    ],
)
def test_what_grows_after_the_first_tenth_ends_the_script_with_1(soak, monkeypatch, tmp_path, mb, handles, grown):
    def run(command, env, **_):
        ranks = range(2 if "torch.distributed.run" in command else 1)
        for rank in ranks:
            Path(env["SOAK_REPORTS"], f"{rank}.json").write_text(json.dumps(sampled(mb, handles)))
        return SimpleNamespace(returncode=0, stderr="")

    monkeypatch.setattr(soak.subprocess, "run", run)
    output = tmp_path / "soak.json"
    monkeypatch.setattr(sys, "argv", ["soak.py", "--only", "ddp", "stream", "--output", str(output)])
    with pytest.raises(SystemExit) as ended:
        soak.main()
    cells = json.loads(output.read_text())["cells"]
    assert [cells[name]["grown"] for name in ("ddp", "stream")] == [grown, grown]
    assert [cells[name]["processes"] for name in ("ddp", "stream")] == [2, 1]
    assert ended.value.code == (grown["mb"] > 24 or grown["handles"] > 2)


def test_a_trainer_is_watched_through_both_of_its_stages(soak):
    before = len(os.listdir("/proc/self/fd"))
    samples = soak.work("trajectory", 40)
    assert [each["step"] for each in samples] == list(range(1, 51))  # 40 of the first stage, 10 of the second
    assert all(each["mb"] > 100 and abs(each["handles"] - before) < 10 for each in samples)

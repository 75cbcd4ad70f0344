"""Scripts log what they do; libraries log warnings, unless another level is set."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers

from hf_distill.scripts.verbosity import announce_compilation, logger, quiet_libraries, set_verbosity

LIBRARY = logging.getLogger("transformers.configuration_utils")
SCRIPT = logging.getLogger("transformers.examples.run_glue")


@pytest.fixture(autouse=True)
def _as_before(monkeypatch):
    monkeypatch.delenv("DS_ACCELERATOR", raising=False)
    verbosity, level = transformers.logging.get_verbosity(), logger.level
    transformers.logging.set_verbosity_warning()
    yield
    transformers.logging.set_verbosity(verbosity)
    logger.setLevel(level)


@pytest.mark.parametrize(
    ("level", "library", "script"),
    [("passive", logging.WARNING, logging.INFO), ("info", logging.INFO, logging.INFO), ("error", 40, 40)],
)
def test_levels(level, library, script, arguments):
    set_verbosity(arguments(log_level=level))
    assert (LIBRARY.getEffectiveLevel(), SCRIPT.getEffectiveLevel()) == (library, script)


def test_where_there_is_only_a_cpu_nothing_warns_of_it(arguments, monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda *_: False)
    args = arguments(use_cpu=False)
    set_verbosity(args)
    assert args.dataloader_pin_memory is False and os.environ["DS_ACCELERATOR"] == "cpu"


def test_an_accelerator_is_left_alone(arguments, monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda *_: True)
    args = arguments()
    before = args.dataloader_pin_memory
    set_verbosity(args)
    assert args.dataloader_pin_memory is before and "DS_ACCELERATOR" not in os.environ


FIRST = "from hf_distill.scripts.verbosity import quiet_libraries; quiet_libraries()"
LATER = """
import datasets
from hf_distill.scripts.user_errors import run_main
run_main(lambda: None)
run_main(lambda: None)
"""
BARS = """
import time
from tqdm.auto import tqdm
for _ in tqdm(range(3), desc="short"):
    pass
for _ in tqdm(range(5), desc="long"):
    time.sleep(0.15)
"""


@pytest.mark.parametrize("quiet", [FIRST, LATER], ids=["before tqdm is imported", "in a script"])
@pytest.mark.parametrize(
    ("variables", "shown"),
    [
        ({"TQDM_DELAY": "0.2", "TQDM_MININTERVAL": "0.2"}, {"long"}),
        ({}, set()),
        ({"TRANSFORMERS_VERBOSITY": "info"}, {"short", "long"}),
    ],
)
def test_bars_appear_where_work_takes_long_and_a_file_gets_few_lines(variables, shown, quiet):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TQDM_")}
    repository = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", quiet + BARS],
        env=environment | variables,
        cwd=repository,
        capture_output=True,
        text=True,
        check=True,
    )
    assert {name for name in ("short", "long") if f"{name}:" in done.stderr} == shown
    if shown == {"long"}:
        assert done.stderr.count("long:") <= 4
        assert "it/s" in done.stderr


def test_what_importing_torchao_says_is_hidden_and_nothing_else(caplog, monkeypatch):
    monkeypatch.setattr(os, "environ", dict(os.environ))
    quiet_libraries()
    torchao, pytree = logging.getLogger("torchao"), logging.getLogger("torch.utils._pytree")
    torchao.warning("Failed to load /venv/torchao/_C_mxfp8.so: Could not load this library")
    pytree.warning("<enum 'KernelPreference'> is an Enum subclass and is now natively supported")
    torchao.warning("int4 weights need a newer GPU")
    assert [record.getMessage() for record in caplog.records] == ["int4 weights need a newer GPU"]


@pytest.mark.parametrize("words", [["--deepspeed", "zero2.json"], []])
def test_where_deepspeed_has_compiled_nothing_yet_it_is_said_that_it_may(tmp_path, caplog, monkeypatch, words):
    monkeypatch.setattr(sys, "argv", ["run_glue.py", *words])
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "false" if words else "true")
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    monkeypatch.setenv("LOCAL_RANK", "1")
    announce_compilation()
    assert not caplog.records
    monkeypatch.setenv("LOCAL_RANK", "0")
    announce_compilation()
    (said,) = caplog.records
    assert (
        f"DeepSpeed may compile kernels now, for minutes and silently; later runs find them in {tmp_path}."
        in said.message
    )
    (tmp_path / "deepspeed_shm_comm").mkdir()
    (tmp_path / "deepspeed_shm_comm" / "deepspeed_shm_comm.so").touch()
    announce_compilation()
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "other"))
    monkeypatch.setattr(sys, "argv", ["run_glue.py"])
    monkeypatch.delenv("ACCELERATE_USE_DEEPSPEED")
    announce_compilation()
    assert caplog.records == [said]

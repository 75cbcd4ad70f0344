"""A process dies: the launcher says so at once, and the run goes on from its last checkpoint, also on fewer processes."""

import re
import shutil
import time

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from tests.distributed.resume_worker import KILLED_AT, SAVED
from tests.distributed.scenarios import WHOLE_BATCH, losses_of, trainer
from tests.distributed.workers import on_two_processes

pytest.importorskip("deepspeed")


def trained_alone(folder, resume=None, **overrides):
    run = trainer("logits", folder, WHOLE_BATCH, 1, **overrides)
    run.train(resume_from_checkpoint=resume)
    return losses_of(run)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("resume")


@pytest.fixture(scope="module")
def undisturbed(folder):
    """One process, which leaves the checkpoint of its twelfth step as its last."""
    losses = trained_alone(folder / "alone", save_strategy="steps", save_steps=12)
    shutil.rmtree(folder / "alone" / "output" / "checkpoint-20", ignore_errors=True)
    return losses


@pytest.fixture(scope="module")
def came(folder, undisturbed):
    """A run on two processes of which one was killed, and what went on from it and from others."""
    started = time.monotonic()
    result = on_two_processes("resume_worker", folder, "killed")
    seconds = time.monotonic() - started
    assert sorted(path.name for path in (folder / "output").glob("checkpoint-*")) == ["checkpoint-4", "checkpoint-8"]
    shutil.copytree(folder / "output", folder / "on one" / "output")
    second = on_two_processes("resume_worker", folder, "resumed")
    assert (folder / "done").exists(), second.stderr[-3000:]
    return torch.load(folder / "came.pt") | {"killed": (result, seconds)}


def test_the_launcher_says_which_process_died_and_stops_the_other(came):
    result, seconds = came["killed"]
    assert result.returncode != 0 and seconds < 120
    assert re.search(r"exitcode *: -9.*", result.stderr) and "Signal 9 (SIGKILL) received by PID" in result.stderr


def test_a_killed_run_goes_on_as_if_nothing_had_been(came, undisturbed):
    assert came["after the kill"] == pytest.approx(undisturbed, rel=1e-5)


def test_a_run_goes_on_with_more_processes_or_fewer(came, undisturbed, folder):
    assert came["from one process"] == pytest.approx(undisturbed, rel=1e-5)
    assert trained_alone(folder / "on one", resume=True) == pytest.approx(undisturbed, rel=1e-5)


@pytest.mark.parametrize(("engine", "scenario"), [*((name, "logits") for name in SAVED), ("zero2", "shrinking")])
def test_an_engine_resumes_to_the_same_losses(came, engine, scenario):
    assert came[engine, scenario, "resumed"] == came[engine, scenario, "whole"]


def test_a_checkpoint_of_a_shrinking_student_under_deepspeed_is_a_stock_model(came, folder):
    checkpoint = folder / "zero2-shrinking" / "output" / f"checkpoint-{KILLED_AT}"
    assert AutoModelForSequenceClassification.from_pretrained(checkpoint).config.hidden_size < 32


@pytest.mark.parametrize("engine", ["zero2", "zero3", "fsdp2"])
def test_a_checkpoint_of_an_engine_is_refused_without_it(came, folder, engine):
    """Its optimizer would silently begin anew."""
    checkpoint = folder / f"{engine}-logits" / "output" / f"checkpoint-{KILLED_AT}"
    with pytest.raises(ValueError, match="FSDP" if engine == "fsdp2" else "DeepSpeed"):
        trained_alone(folder / "refused", resume=str(checkpoint))

"""Scripts log what they do; libraries log warnings, unless another level is set."""

from __future__ import annotations

import logging
import os

import pytest
import torch
import transformers

from hf_distill.scripts.verbosity import logger, set_verbosity

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

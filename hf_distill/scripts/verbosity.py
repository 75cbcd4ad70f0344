"""Logging levels while a script or a command trains."""

from __future__ import annotations

import logging
import os

import torch
import transformers
from transformers import TrainingArguments

logger = transformers.logging.get_logger("transformers.examples")


def set_verbosity(args: TrainingArguments) -> None:
    """Let scripts log at level INFO and libraries at the level that --log_level sets, by default WARNING.

    Settings that would cause warnings on a machine without an accelerator are adapted to the CPU.

    Args:
        args: The training arguments; without an accelerator their `dataloader_pin_memory` is set to False.
    """
    level = args.get_process_log_level()
    transformers.logging.set_verbosity(level)
    is_own_choice = args.log_level != "passive" or not args.should_log
    logger.setLevel(level if is_own_choice else logging.INFO)
    default_deepspeed_to_cpu()
    if not torch.accelerator.is_available():
        args.dataloader_pin_memory = False


def default_deepspeed_to_cpu() -> None:
    """On a machine without an accelerator set DS_ACCELERATOR=cpu, unless it is set; else DeepSpeed warns when imported."""
    if not torch.accelerator.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")

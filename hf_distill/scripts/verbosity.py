"""How much is said while a script or a command trains."""

from __future__ import annotations

import logging
import os

import torch
import transformers
from transformers import TrainingArguments

logger = transformers.logging.get_logger("transformers.examples")


def set_verbosity(args: TrainingArguments) -> None:
    """Let the scripts say what they do, and the libraries what --log_level asks for: unset, warnings alone.

    What they would warn of because there is nothing but a CPU is settled.
    """
    level = args.get_process_log_level()
    transformers.logging.set_verbosity(level)
    is_own_choice = args.log_level != "passive" or not args.should_log
    logger.setLevel(level if is_own_choice else logging.INFO)
    default_deepspeed_to_cpu()
    if not torch.accelerator.is_available():
        args.dataloader_pin_memory = False


def default_deepspeed_to_cpu() -> None:
    """Tell DeepSpeed, where it is installed, which otherwise prints that it found nothing else; what the user set counts."""
    if not torch.accelerator.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")

"""What scripts and commands show of their work, and what they hide of that of libraries; what a user sets goes first."""

from __future__ import annotations

import logging
import os
import re
import sys
from functools import partialmethod
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import TrainingArguments

logger = logging.getLogger("transformers.examples")

# Progress bars appear after so many seconds of work, and in a file they are written again after so many.
_BARS, _BARS_IN_FILES = {"TQDM_DELAY": "3"}, {"TQDM_MININTERVAL": "30", "TQDM_MAXINTERVAL": "30"}
# What torchao and torch say where a package imports torchao, which this one does not use.
_IMPORTING = re.compile(r"Failed to load .*torchao|is an Enum subclass")
_WHO_IMPORTS = ("torchao", "torch.utils._pytree")


def quiet_libraries() -> None:
    """Let progress bars appear only where work takes long, and hide what importing torchao says.

    What importing torchao says is hidden only if this is called before. The environment variables TQDM_* of the user are kept,
    and with TRANSFORMERS_VERBOSITY "info", "debug" or "detail" nothing is hidden.
    """
    if os.environ.get("TRANSFORMERS_VERBOSITY") in ("info", "debug", "detail"):
        return
    wanted = _BARS if sys.stderr.isatty() else _BARS | _BARS_IN_FILES
    missing = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(missing)
    if missing and "tqdm" in sys.modules:
        _set_defaults_of_bars({name.removeprefix("TQDM_").lower(): float(value) for name, value in missing.items()})
    for name in _WHO_IMPORTS:
        logging.getLogger(name).addFilter(_is_not_of_import)


def announce_compilation() -> None:
    """Say that DeepSpeed may compile kernels, which it does without a message, where none has been compiled yet."""
    is_used = os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true" or "--deepspeed" in sys.argv
    if not is_used or os.environ.get("LOCAL_RANK", "0") != "0":
        return
    from torch.utils.cpp_extension import get_default_build_root

    folder = Path(os.environ.get("TORCH_EXTENSIONS_DIR") or get_default_build_root())
    if not any(folder.glob("**/*.so")):
        logger.warning(
            f"DeepSpeed may compile kernels now, for minutes and silently; later runs find them in {folder}."
        )


def _set_defaults_of_bars(defaults: dict[str, float]) -> None:
    """As the environment variables TQDM_* do, which tqdm reads only while it is imported."""
    from tqdm.std import tqdm

    tqdm.__init__ = partialmethod(tqdm.__init__, **defaults)


def _is_not_of_import(record: logging.LogRecord) -> bool:
    return not _IMPORTING.search(record.getMessage())


def set_verbosity(args: TrainingArguments) -> None:
    """Let scripts log at level INFO and libraries at the level that --log_level sets, by default WARNING.

    Settings that would cause warnings on a machine without an accelerator are adapted to the CPU.

    Args:
        args: The training arguments; without an accelerator their `dataloader_pin_memory` is set to False.
    """
    import torch
    import transformers

    from hf_distill.distributed.deepspeed import default_deepspeed_to_cpu  # imports torch, as commands' help does not

    level = args.get_process_log_level()
    transformers.logging.set_verbosity(level)
    is_own_choice = args.log_level != "passive" or not args.should_log
    logger.setLevel(level if is_own_choice else logging.INFO)
    default_deepspeed_to_cpu()
    if not torch.accelerator.is_available():
        args.dataloader_pin_memory = False

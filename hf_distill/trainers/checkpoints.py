"""Which checkpoint a stopped run goes on from."""

from __future__ import annotations

import re
from pathlib import Path

from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from hf_distill.files import read_json

_DEEPSPEED_STATE = "latest"  # names the folder of the state


def require_optimizer_state(checkpoint: Path, is_deepspeed: bool) -> None:
    """Refuse a checkpoint whose optimizer state only DeepSpeed can read, where Trainer would begin with a new one.

    Args:
        checkpoint: Of a run.
        is_deepspeed: The run that goes on from it is under DeepSpeed, which itself refuses another number of processes.

    Raises:
        ValueError: Names the checkpoint and the ways out.
    """
    if not is_deepspeed and (checkpoint / _DEEPSPEED_STATE).exists():
        raise ValueError(
            f"{checkpoint.name} was written under DeepSpeed, and its optimizer state is not readable without: resume under "
            "DeepSpeed with the same ZeRO stage and number of processes, or begin a new run from the weights in "
            f"{checkpoint.name}"
        )


def last_complete_checkpoint(folder: str | Path) -> str | None:
    """The latest checkpoint of a Trainer's output folder that was written to its end; None if there is none.

    Trainer writes `trainer_state.json` last: a checkpoint without it was being written when its process died, and
    `get_last_checkpoint` of transformers would take it all the same.
    """
    found = [path for path in Path(folder).glob(f"{PREFIX_CHECKPOINT_DIR}-*") if re.fullmatch(r".*-\d+", path.name)]
    for path in sorted(found, key=lambda path: int(path.name.rpartition("-")[2]), reverse=True):
        try:
            read_json(path / TRAINER_STATE_NAME, finite=False)
        except (OSError, ValueError):
            continue
        return str(path)
    return None

"""Finds the checkpoint that an interrupted run resumes from."""

from __future__ import annotations

import re
from pathlib import Path

from transformers import TrainerState
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from hf_distill.files import read_json
from hf_distill.trainers.run_settings import settings_in

_DEEPSPEED_STATE = "latest"  # names the folder of the state


def require_optimizer_state(checkpoint: Path, is_deepspeed: bool) -> None:
    """Refuse a checkpoint whose optimizer state only DeepSpeed can read, where Trainer would start with a new one.

    Args:
        checkpoint: The checkpoint's folder.
        is_deepspeed: Whether the run that resumes is under DeepSpeed, which itself refuses another number of processes.

    Raises:
        ValueError: The state cannot be read; names the checkpoint and what to do.
    """
    if not is_deepspeed and (checkpoint / _DEEPSPEED_STATE).exists():
        raise ValueError(
            f"{checkpoint.name} was written under DeepSpeed, and its optimizer state is not readable without: resume under "
            "DeepSpeed with the same ZeRO stage and number of processes, or begin a new run from the weights in "
            f"{checkpoint.name}"
        )


def last_complete_checkpoint(folder: str | Path) -> str | None:
    """The latest complete checkpoint in a Trainer's output folder; None if there is none.

    Trainer writes `trainer_state.json` last: a checkpoint without it is incomplete, since its process was killed, and
    `get_last_checkpoint` of transformers would return it all the same. A checkpoint without the random state of a process,
    which may have been killed before the main process wrote that file, is incomplete too.

    Args:
        folder: The output folder.

    Returns:
        The checkpoint's folder, or None.
    """
    found = [path for path in Path(folder).glob(f"{PREFIX_CHECKPOINT_DIR}-*") if re.fullmatch(r".*-\d+", path.name)]
    for path in sorted(found, key=lambda path: int(path.name.rpartition("-")[2]), reverse=True):
        try:
            state = TrainerState(**read_json(path / TRAINER_STATE_NAME, finite=False))
        except (OSError, ValueError, TypeError):
            continue
        if _has_random_states(path, settings_in(state).get("random_states", 0)):
            return str(path)
    return None


def _has_random_states(checkpoint: Path, processes: int) -> bool:
    names = ["rng_state.pth"] if processes == 1 else [f"rng_state_{index}.pth" for index in range(processes)]
    return all((checkpoint / name).is_file() for name in names)


def checkpoint_to_resume(wanted: str | bool | None, output_dir: str) -> str | None:
    """The checkpoint that the argument `resume_from_checkpoint` names.

    Args:
        wanted: A checkpoint's folder; True: the latest complete checkpoint in the output folder; None or False: none.
        output_dir: The output folder.

    Returns:
        The checkpoint's folder. None: the run does not resume.

    Raises:
        ValueError: There is no complete checkpoint, or the folder is no checkpoint.
    """
    if wanted is True:
        found = last_complete_checkpoint(output_dir)
        begun = sorted(path.name for path in Path(output_dir).glob(f"{PREFIX_CHECKPOINT_DIR}-*"))
        if found is None:
            what = f"those it holds, {begun}, were not written to their end" if begun else "it holds none"
            raise ValueError(f"no checkpoint to resume from in {output_dir}: {what}. Start afresh, without resuming.")
        return found
    if not wanted:
        return None
    if not Path(wanted, TRAINER_STATE_NAME).is_file():
        raise ValueError(
            f"resume_from_checkpoint must be a checkpoint's folder, got {wanted!r} without {TRAINER_STATE_NAME}"
        )
    return str(wanted)

"""Output folders that an earlier run has used: it is resumed, or its checkpoints are deleted on request; runs never mix."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import transformers
from transformers import TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from hf_distill.files import folder_lock
from hf_distill.publishing.student_folder import is_weights
from hf_distill.trainers.checkpoints import last_complete_checkpoint
from hf_distill.trainers.progressive_trainer import Stage

logger = transformers.logging.get_logger("transformers.examples")


@dataclass
class OutputFolderArguments:
    """What is done with the checkpoints that an earlier run left in the output folder."""

    _argument_group_name = "training arguments"

    overwrite_output_dir: bool = field(
        default=False,
        metadata={
            "help": "Start over in an output_dir that an earlier run has used: its checkpoints are deleted. False: resume "
            "from the last of them, see --resume_from_checkpoint."
        },
    )


def output_path(args: TrainingArguments) -> Path:
    """The folder of `output_dir`, which TrainingArguments gives a default where none is passed."""
    assert args.output_dir is not None
    return Path(args.output_dir)


def prepare_fresh_run(args: TrainingArguments, requested: bool, overwrite: bool = False) -> None:
    """Make sure that the output folder of a run which does not resume has no checkpoints of an earlier run.

    Args:
        args: The run's arguments.
        requested: Whether the user asked to start over. If not, there is no checkpoint to resume from, and incomplete
            checkpoints stay where they are.
        overwrite: Delete the checkpoints that are there.

    Raises:
        ValueError: There are checkpoints, and they are not to be deleted.
        FolderInUseError: They are to be deleted, but another process trains into the folder.
    """
    folder = output_path(args)
    places = [place for place in (folder, *(folder / stage.value for stage in Stage)) if place.is_dir()]
    name = re.compile(rf"{PREFIX_CHECKPOINT_DIR}-\d+")
    found = sorted(path for place in places for path in place.iterdir() if name.fullmatch(path.name))
    are_in_the_way = bool(found) if requested else any(map(last_complete_checkpoint, places))
    if are_in_the_way and not overwrite:
        raise ValueError(
            f"output_dir {folder} has checkpoints of an earlier run ({found[0].relative_to(folder)}, {len(found)} in all), "
            "which would mix with those of a run that starts over: choose another --output_dir, or delete them with "
            "--overwrite_output_dir true"
        )
    if not args.should_save:
        return
    if overwrite and found:
        with folder_lock(folder, "deleting the checkpoints of an earlier run", timeout=0):
            for path in found:
                shutil.rmtree(path, ignore_errors=True)
        logger.warning(f"Deleted the {len(found)} checkpoints of an earlier run in {folder}: --overwrite_output_dir.")
    elif folder.is_dir() and any(is_weights(path.name) for path in folder.iterdir()):
        logger.warning(f"{folder} holds the model of an earlier run, which this run replaces when it ends.")


def has_stages(args: TrainingArguments) -> bool:
    """Whether the run learns from a teacher's checkpoints, one stage after the other."""
    return bool(getattr(args, "teacher_checkpoints", None))


def last_checkpoint(args: TrainingArguments) -> str | None:
    """The last complete checkpoint in `output_dir`; of a run in stages, in the last stage that has one. None: there is none."""
    root = output_path(args)
    places = [root / stage.value for stage in reversed(Stage)] if has_stages(args) else [root]
    return next(filter(None, map(last_complete_checkpoint, places)), None)


def resume_advice(args: TrainingArguments) -> str:
    """How to resume a training that was interrupted, in a sentence for the user."""
    last, wanted = last_checkpoint(args), str(args.resume_from_checkpoint).lower()
    if last is None:
        return (
            f"{args.output_dir} has no checkpoint to resume from, so the same command starts over; --save_steps sets after "
            "how many steps one is saved."
        )
    if getattr(args, "overwrite_output_dir", False):
        return f"The same command without --overwrite_output_dir resumes from {last}."
    changed = "" if wanted in ("none", "true") else " with --resume_from_checkpoint true"
    return f"The same command{changed} resumes from {last}."

"""Output folders that an earlier run has used: what is there is continued, or replaced on request, never mixed."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import transformers
from transformers import TrainingArguments
from transformers.hf_argparser import HfArg
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from hf_distill.files import folder_lock
from hf_distill.publishing.student_folder import is_weights
from hf_distill.trainers.checkpoints import last_complete_checkpoint
from hf_distill.trainers.progressive_trainer import Stage

logger = transformers.logging.get_logger("transformers.examples")


@dataclass
class OutputFolderArguments:
    """What becomes of the checkpoints that an earlier run left in the output folder."""

    _argument_group_name = "training arguments"

    overwrite_output_dir: bool = HfArg(
        default=False,
        help="Begin anew in an output_dir that an earlier run has used: its checkpoints are deleted. False: continue "
        "from the last of them, see --resume_from_checkpoint.",
    )


def prepare_fresh_run(args: TrainingArguments, asked_for: bool, overwrite: bool = False) -> None:
    """Make sure that a run which does not continue finds no checkpoints of another in its output folder.

    Args:
        args: Of the run.
        asked_for: The user said so; else there is just nothing to continue, and checkpoints that were never written to
            their end are left where they are.
        overwrite: Delete the checkpoints that are there.

    Raises:
        ValueError: There are some, and they are not to be deleted.
        FolderInUseError: They are to be, and another process trains into the folder; names it.
    """
    folder = Path(args.output_dir)
    places = [place for place in (folder, *(folder / stage.value for stage in Stage)) if place.is_dir()]
    name = re.compile(rf"{PREFIX_CHECKPOINT_DIR}-\d+")
    found = sorted(path for place in places for path in place.iterdir() if name.fullmatch(path.name))
    are_in_the_way = bool(found) if asked_for else any(map(last_complete_checkpoint, places))
    if are_in_the_way and not overwrite:
        raise ValueError(
            f"output_dir {folder} has checkpoints of an earlier run ({found[0].relative_to(folder)}, {len(found)} in all), "
            "among which those of a run that begins anew would lie: choose another --output_dir, or delete them with "
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
    """Whether the run follows a teacher's checkpoints, stage after stage."""
    return bool(getattr(args, "teacher_checkpoints", None))


def last_checkpoint(args: TrainingArguments) -> str | None:
    """Of a run in stages that of the last stage which has one."""
    root = Path(args.output_dir)
    places = [root / stage.value for stage in reversed(Stage)] if has_stages(args) else [root]
    return next(filter(None, map(last_complete_checkpoint, places)), None)


def resume_advice(args: TrainingArguments) -> str:
    """What a user is told who stops a training."""
    last, wanted = last_checkpoint(args), str(args.resume_from_checkpoint).lower()
    if last is None:
        return (
            f"{args.output_dir} has no checkpoint to go on from, so the same command begins anew; --save_steps says after how "
            "many steps there is one."
        )
    if getattr(args, "overwrite_output_dir", False):
        return f"The same command without --overwrite_output_dir goes on from {last}."
    changed = "" if wanted in ("none", "true") else " with --resume_from_checkpoint true"
    return f"The same command{changed} goes on from {last}."

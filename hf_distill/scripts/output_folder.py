"""Output folders that an earlier run has used: it is resumed, or its checkpoints are deleted on request; runs never mix."""

from __future__ import annotations

import atexit
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import transformers
from transformers import TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from hf_distill.publishing.student_folder import is_weights
from hf_distill.trainers.checkpoints import last_complete_checkpoint
from hf_distill.trainers.progressive_trainer import Stage
from hf_distill.trainers.resuming import training_lock

logger = transformers.logging.get_logger("transformers.examples")

_kept = ExitStack()
atexit.register(_kept.close)


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


@contextmanager
def output_folder_in_use(args: TrainingArguments) -> Iterator[None]:
    """Keep other processes from training into `output_dir`, from before its last checkpoint is looked for.

    The folder is created, and removed if it is still empty in the end, as after a mistake in another argument.

    Args:
        args: The run's arguments. Without `do_train` the folder is free for others.

    Raises:
        FolderInUseError: Another process trains into the folder; names it.
    """
    if not args.do_train:
        yield
        return
    folder = output_path(args)
    is_new = args.should_save and not folder.exists()
    if is_new:
        folder.mkdir(parents=True, exist_ok=True)
    try:
        with training_lock(args):
            yield
    finally:
        if is_new:
            with suppress(OSError):
                folder.rmdir()


def keep_output_folder(args: TrainingArguments) -> None:
    """Enter `output_folder_in_use` until `leave_output_folders` is called, or the process ends."""
    _kept.enter_context(output_folder_in_use(args))


def leave_output_folders() -> None:
    """Let other processes train into the folders of `keep_output_folder`."""
    _kept.close()


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
        with training_lock(args):
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


def checkpoint_to_resume(args: TrainingArguments) -> str | bool | None:
    """Find the checkpoint that a run resumes from; start over where there is none.

    Args:
        args: The run's arguments. Their resume_from_checkpoint is a checkpoint's folder, true for the last checkpoint,
            false for none, or None for the last if there is one. With overwrite_output_dir the checkpoints in output_dir
            are deleted, and none is resumed from.

    Returns:
        The checkpoint's folder; of a run in stages True, the last checkpoint of the last stage; None where there is none.

    Raises:
        ValueError: A checkpoint is requested and does not exist, or is to be deleted as well; or none is requested, and
            output_dir has some.
    """
    wanted, overwrite = str(args.resume_from_checkpoint).lower(), getattr(args, "overwrite_output_dir", False)
    if not args.do_train:
        return None
    if overwrite and wanted not in ("none", "false"):
        raise ValueError(
            "pass either overwrite_output_dir, which starts over, or resume_from_checkpoint, which resumes, got both "
            f"({args.resume_from_checkpoint!r})"
        )
    if overwrite or wanted == "false":
        prepare_fresh_run(args, requested=True, overwrite=overwrite)
        return None
    searched = wanted in ("none", "true")
    folder = str(args.output_dir if searched else args.resume_from_checkpoint)
    found = None if not Path(folder).is_dir() else last_checkpoint(args) if searched else folder
    if found is None and wanted != "none":
        raise ValueError(
            f"resume_from_checkpoint must be a checkpoint's folder, false, or true where output_dir has a checkpoint, got "
            f"{args.resume_from_checkpoint!r} and output_dir {args.output_dir!r}"
        )
    if found is None and wanted == "none":
        prepare_fresh_run(args, requested=False)
    elif found is not None and args.should_log:
        logger.warning(f"Resuming from {found}. To start over, pass --overwrite_output_dir true.")
    return True if searched and found is not None and has_stages(args) else found


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

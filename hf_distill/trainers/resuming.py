"""Resumes a training from a checkpoint, after checking that the same run wrote it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import TrainerState, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import TrainOutput

from hf_distill.files import folder_lock
from hf_distill.preflight.training import require_findable_rows
from hf_distill.trainers.checkpoints import checkpoint_to_resume
from hf_distill.trainers.run_settings import (
    extensions_in,
    is_extended,
    passes_in,
    require_same_settings,
    settings_in,
    settings_of_trainer,
)

logger = logging.getLogger(__name__)

_training_here: set[tuple[int, Path]] = set()  # threads of this process, and the folders that they have locked


@dataclass(frozen=True)
class ResumePoint:
    """The point at which a training starts.

    Attributes:
        checkpoint: The checkpoint's folder. None: it starts from the beginning.
        finished: The state of the checkpoint, if its run is finished. None: steps are left.
        extensions: The points at which the run was extended, including this one, see `RunSettingsCallback`.
    """

    checkpoint: str | None = None
    finished: TrainerState | None = None
    extensions: list[dict[str, Any]] = field(default_factory=list)


def resume_point(trainer: Any, wanted: str | bool | None) -> ResumePoint:
    """The checkpoint to resume from; extended runs and changed batch sizes are logged as warnings.

    Args:
        trainer: A `DistillationTrainer`.
        wanted: The argument `resume_from_checkpoint` of `train`.

    Returns:
        The point to start at; without a checkpoint the beginning.

    Raises:
        ValueError: There is no such checkpoint, it is another run's, or the rows it has seen cannot be found again.
    """
    checkpoint = checkpoint_to_resume(wanted, trainer.args.output_dir)
    if checkpoint is None:
        return ResumePoint()
    state, there, now = require_same_run(trainer, checkpoint)
    longer, extensions = is_extended(there, now), extensions_in(state)
    if trainer.is_finished(state) and not longer:
        return ResumePoint(checkpoint, state, extensions)
    require_findable_rows(trainer.train_dataset, passes_in(state), checkpoint)
    if longer:
        lengths = {"step": state.global_step, "from": there["length"], "to": now["length"]}
        extensions.append(lengths)
        logger.warning(f"{checkpoint} is resumed as a longer run: {lengths['from']} becomes {lengths['to']}.")
    if there and there["total_batch"] != now["total_batch"]:
        logger.warning(
            f"{checkpoint} was written with {there['total_batch']} examples in an optimizer step (processes times "
            f"per_device_train_batch_size times gradient_accumulation_steps), now it is {now['total_batch']}: the run "
            "resumes, but not as it would have continued without the interruption."
        )
    return ResumePoint(checkpoint, None, extensions)


def require_same_run(
    trainer: Any, checkpoint: str, may_be_longer: bool = True
) -> tuple[TrainerState, dict[str, Any], dict[str, Any]]:
    """Refuse a checkpoint of another run.

    Args:
        trainer: A `DistillationTrainer`.
        checkpoint: The checkpoint's folder.
        may_be_longer: Whether the trainer may make more steps or epochs than the run in the checkpoint.

    Returns:
        The state in the checkpoint, its run's settings, and the trainer's.

    Raises:
        ValueError: The checkpoint is another run's; names the differences.
    """
    state = TrainerState.load_from_json(str(Path(checkpoint, TRAINER_STATE_NAME)))
    there, now = settings_in(state), settings_of_trainer(trainer) | {"teacher": trainer.teacher_identity()}
    require_same_settings(there, now, checkpoint, may_be_longer)
    return state, there, now


def load_finished(trainer: Any, point: ResumePoint) -> TrainOutput:
    """Load the results of a finished training without another step, which Trainer would make.

    Args:
        trainer: A `DistillationTrainer`, which gets the weights and the state.
        point: The last checkpoint of the run.

    Returns:
        Steps and loss of the finished run.
    """
    checkpoint, state = Path(str(point.checkpoint)), point.finished
    assert state is not None, "the run in the checkpoint is not finished"
    if trainer.args.should_log:
        logger.warning(
            f"The run in {checkpoint.parent} is finished: it made all of its {state.global_step} steps. Nothing is "
            "trained; for a longer one raise max_steps or num_train_epochs, for another one choose another output_dir."
        )
    best = state.best_model_checkpoint if trainer.args.load_best_model_at_end else None
    trainer._load_from_checkpoint(best or str(checkpoint))
    trainer.feature_hooks.load(checkpoint)
    trainer.state = state
    trainer.control = trainer.callback_handler.on_train_begin(trainer.args, state, trainer.control)
    trainer.control = trainer.callback_handler.on_train_end(trainer.args, state, trainer.control)
    known = [entry["train_loss"] for entry in state.log_history if "train_loss" in entry]
    return TrainOutput(state.global_step, known[-1] if known else float("nan"), {})


@contextmanager
def training_lock(args: TrainingArguments) -> Iterator[None]:
    """A lock that keeps other trainings out of `output_dir`, see `folder_lock`; taken by the processes that save.

    Within this context the same thread may enter it again: a script holds it from the choice of the checkpoint on, and the
    trainer while it trains.

    Args:
        args: The arguments of the training, whose `output_dir` exists.

    Raises:
        FolderInUseError: Another process trains into the folder; names it.
    """
    holder = (threading.get_ident(), Path(str(args.output_dir)).resolve())
    if holder in _training_here or not args.should_save:
        yield
        return
    with folder_lock(str(args.output_dir), "training", timeout=0):
        _training_here.add(holder)
        try:
            yield
        finally:
            _training_here.discard(holder)

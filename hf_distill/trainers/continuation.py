"""A trainer that goes on with a checkpoint only as the run it belongs to."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerState
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import TrainOutput

from hf_distill.files import folder_lock
from hf_distill.trainers.checkpoints import checkpoint_to_resume, last_complete_checkpoint
from hf_distill.trainers.preflight import require_findable_rows, require_own_process_group
from hf_distill.trainers.run_settings import (
    RunSettingsCallback,
    extensions_in,
    is_extended,
    passes_in,
    require_same_settings,
    settings_in,
    settings_of,
    teacher_settings,
)

logger = logging.getLogger(__name__)


class Continuation:
    """The part of `DistillationTrainer` that keeps a run's settings in its checkpoints and resumes no other run."""

    def _keep_settings(self) -> None:
        """Add the callbacks that do, unless nothing is added to Trainer."""
        self._extensions: list[dict[str, Any]] = []
        if not self._is_trainer():
            require_own_process_group(self.args)
            self.add_callback(RunSettingsCallback())
            self.add_callback(_NoteTheSettings(self))

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> TrainOutput:
        """Trainer's; a checkpoint is continued as the run it belongs to, and one of a finished run takes no further step.

        Args:
            resume_from_checkpoint: A folder, or True: the last checkpoint in `output_dir` that was written to its end.
            args: Further arguments of `Trainer.train`.
            kwargs: Its keyword arguments.

        Raises:
            ValueError: There is no such checkpoint, it is another run's, or the rows it has seen cannot be found again.
            FolderInUseError: Another process trains into `output_dir`; names it.
        """
        if self._is_trainer():
            if resume_from_checkpoint is True:
                resume_from_checkpoint = last_complete_checkpoint(self.args.output_dir) or True
            return super().train(resume_from_checkpoint, *args, **kwargs)
        checkpoint = checkpoint_to_resume(resume_from_checkpoint, self.args.output_dir)
        if checkpoint is not None:
            state, there, now = self._require_same_run(checkpoint)
            longer, self._extensions = is_extended(there, now), extensions_in(state)
            if self._is_finished(state) and not longer:
                return self._end_at(checkpoint, state)
            require_findable_rows(self.train_dataset, passes_in(state), checkpoint)
            if longer:
                lengths = {"step": state.global_step, "from": there["length"], "to": now["length"]}
                self._extensions.append(lengths)
                logger.warning(f"{checkpoint} is continued as a longer run: {lengths['from']} becomes {lengths['to']}.")
            if there and there["total_batch"] != now["total_batch"]:
                logger.warning(
                    f"{checkpoint} was written with {there['total_batch']} examples in an optimizer step (processes times "
                    f"per_device_train_batch_size times gradient_accumulation_steps), now it is {now['total_batch']}: the run "
                    "goes on, but not as it would have without the interruption."
                )
        else:
            self._extensions = []
        with self._alone_in(self.args.output_dir):
            return super().train(checkpoint, *args, **kwargs)

    def _require_same_run(
        self, checkpoint: str, may_be_longer: bool = True
    ) -> tuple[TrainerState, dict[str, Any], dict[str, Any]]:
        """The state in a checkpoint, its run's settings and those of this one, which must be the same run.

        Raises:
            ValueError: Names the differences.
        """
        state = TrainerState.load_from_json(str(Path(checkpoint, TRAINER_STATE_NAME)))
        there, now = settings_in(state), self._describe_settings() | {"teacher": self._teacher_settings()}
        require_same_settings(there, now, checkpoint, may_be_longer)
        return state, there, now

    def _alone_in(self, folder: str | Path) -> AbstractContextManager[None]:
        """Keeps other trainings out of a folder, see `folder_lock`; the processes that save do so for the others."""
        return folder_lock(folder, "training", timeout=0) if self.args.should_save else nullcontext()

    def _end_at(self, checkpoint: str, state: TrainerState) -> TrainOutput:
        """What a training that ended at a checkpoint left, without a further step, which Trainer would make."""
        logger.warning(
            f"The run in {Path(checkpoint).parent} is finished: it made all of its {state.global_step} steps. Nothing is "
            "trained; for a longer one raise max_steps or num_train_epochs, for another one choose another output_dir."
        )
        best = state.best_model_checkpoint if self.args.load_best_model_at_end else None
        self._load_from_checkpoint(best or checkpoint)
        self._feature_hooks.load(Path(checkpoint))
        self.state = state
        self.control = self.callback_handler.on_train_begin(self.args, state, self.control)
        self.control = self.callback_handler.on_train_end(self.args, state, self.control)
        known = [entry["train_loss"] for entry in state.log_history if "train_loss" in entry]
        return TrainOutput(state.global_step, known[-1] if known else float("nan"), {})

    def _training_notes(self) -> dict[str, Any]:
        """What the record says of the course of the training beside its numbers."""
        return {"extensions": self._extensions} if self._extensions else {}

    def _describe_settings(self) -> dict[str, Any]:
        total = self._train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        return settings_of(self.args, self.training_objective, self.train_dataset, total)

    def _teacher_settings(self) -> Any:
        return teacher_settings(self.teacher)

    def _add_teacher_settings(self) -> None:
        """Before a checkpoint is written, on every process: what tells the teacher, which takes a look at its weights."""
        for kept in self._kept_settings():
            if "teacher" not in kept.settings:
                kept.settings["teacher"] = self._teacher_settings()

    def _note_settings(self) -> None:
        for kept in self._kept_settings():
            kept.settings, kept.passes, kept.extensions = self._describe_settings(), 0, self._extensions

    def _kept_settings(self) -> list[RunSettingsCallback]:
        """The callback, where there is one; a checkpoint may have brought another object of it."""
        return [each for each in self.callback_handler.callbacks if isinstance(each, RunSettingsCallback)]


class _NoteTheSettings(TrainerCallback):
    def __init__(self, trainer: Continuation):
        self._trainer = trainer

    def on_train_begin(self, args, state, control, **kwargs):
        self._trainer._note_settings()

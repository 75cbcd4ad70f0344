"""A `DistillationTrainer` whose student learns from the checkpoints of the teacher's training."""

from __future__ import annotations

import dataclasses
import json
import logging
import shutil
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from enum import Enum
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from transformers import PreTrainedModel, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import TrainOutput, set_seed

from hf_distill.compute.budget import ComputeBudget
from hf_distill.files import atomic_write, read_json
from hf_distill.objectives.logits import is_masked_logit
from hf_distill.objectives.objective import Objective
from hf_distill.precomputed.checks import require_same_trajectory
from hf_distill.precomputed.provenance import Provenance
from hf_distill.publishing.run_record import RunRecord
from hf_distill.tasks import Task
from hf_distill.teachers.base import TeacherOutputs
from hf_distill.teachers.checkpoints import find_checkpoints
from hf_distill.teachers.column_names import TEACHER_LOGITS
from hf_distill.teachers.frozen import FrozenTeacher
from hf_distill.teachers.trajectory import Trajectory
from hf_distill.trainers.callbacks import RunRecordCallback
from hf_distill.trainers.checkpoints import last_complete_checkpoint
from hf_distill.trainers.distillation_trainer import DistillationTrainer
from hf_distill.trainers.objective_builder import label_term
from hf_distill.trainers.progression import (
    GeneralStageLoss,
    annealed_temperature,
    can_compare_stages,
    choosing_the_best,
    last_steps,
    logit_scale,
    quality,
)
from hf_distill.trainers.progressive_arguments import ProgressiveTrainingArguments
from hf_distill.trainers.resuming import require_same_run, training_lock

logger = logging.getLogger(__name__)


class Stage(Enum):
    """The two stages, by the folder in `output_dir` where each keeps its checkpoints."""

    GENERAL = "general_stage"
    FINAL = "final_stage"


_FINISHED = "finished.json"


class ProgressiveTrainer(DistillationTrainer):
    """Pro-KD: the student learns from one checkpoint of its teacher after the other, then from labels.

    One `train()` does both stages. The general stage keeps its checkpoints in `output_dir/general_stage`, where the best
    by `metric_for_best_model` (without it by the loss on labels) is chosen when evaluations and saves coincide, else the
    last. The final stage starts from that, with a new optimizer and schedule, in `output_dir/final_stage`. The student is
    that of the general stage in the end if labels have made it worse (`keep_better_stage`).

    Columns of precomputed outputs of every checkpoint (`label_with_trajectory`) replace the teacher's forward passes.

    Args:
        model: The student.
        args: `ProgressiveTrainingArguments`; `teacher_checkpoints` names the teachers.
        *trainer_args: Further positional arguments of Trainer.
        **trainer_kwargs: Keyword arguments of Trainer and `DistillationTrainer`, except `teacher_model`.

    Attributes:
        stage: The current `Stage`, on which an overridden `training_objective` may depend.
        trajectory: The teacher's checkpoints.

    Raises:
        ValueError: The checkpoints do not belong together or cannot be read, or a final stage has no labels.

    Source:
        Rezagholizadeh et al. 2021, arXiv 2110.08532. Shares, the choice of loss and that between the stages are ours.
    """

    args: ProgressiveTrainingArguments

    def __init__(
        self,
        model: PreTrainedModel | nn.Module | None = None,
        args: ProgressiveTrainingArguments | None = None,
        *trainer_args: Any,
        **trainer_kwargs: Any,
    ):
        folders = getattr(args, "teacher_checkpoints", None)
        if args is None or not folders or trainer_kwargs.get("teacher_model") is not None:
            raise ValueError(
                "the teachers are named by ProgressiveTrainingArguments(teacher_checkpoints=...), got none there"
            )
        source = folders[0] if len(folders) == 1 else folders
        self.trajectory = Trajectory(find_checkpoints(source, args.skip_unreadable_checkpoints))
        self._temperatures: list[float] = []  # of the general stage's steps so far
        self._shares = args.shares([checkpoint.step for checkpoint in self.trajectory.checkpoints])
        self.stage, self._logit_scale = Stage.GENERAL, 1.0
        self._general_metrics: dict[str, float] | None = None  # of the student after the general stage
        self._kept: Stage | None = None  # the stage whose student was the better one
        if args.max_steps > 0:
            last_steps(self._shares, args.max_steps)  # refuses too few
        trainer_kwargs["teacher_model"] = self.trajectory.first_model(cast(nn.Module, model))
        super().__init__(model, args, *trainer_args, **trainer_kwargs)
        if args.has_final_stage and not (self.optimizer is None and self.lr_scheduler is None):
            raise ValueError(
                "optimizers holds an optimizer or scheduler, but the final stage begins with new ones: pass "
                "optimizer_cls_and_kwargs, or optim and lr_scheduler_type, which serve both stages"
            )
        self._require_labels_for_the_final_stage()
        self.add_callback(_FollowCheckpoints(self))

    @property
    def training_objective(self) -> Objective:
        """The terms selected by the arguments in the general stage, hard labels alone in the final stage."""
        if self.stage is Stage.GENERAL:
            return super().training_objective
        return Objective([label_term(1.0, self.label_names, self.task, self.problem_type)])

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> TrainOutput:
        """Train both stages.

        Args:
            resume_from_checkpoint: True: resume the run in `output_dir`, within a stage or between the two. A folder: a
                checkpoint of either stage. None or False: start afresh.
            *args: Further positional arguments of `Trainer.train`.
            **kwargs: Keyword arguments of `Trainer.train`.

        Returns:
            The output of the last stage that was trained.

        Raises:
            ValueError: There is no checkpoint to resume from, or it is another run's.
            FolderInUseError: Another process trains into `output_dir`; names it.
        """
        root = Path(str(self.args.output_dir))
        with training_lock(self.args):
            before = self.cost_tracker.previous
            try:
                return self._train_stages(root, resume_from_checkpoint, *args, **kwargs)
            finally:
                self.cost_tracker.previous = before

    def _train_stages(
        self, root: Path, resume_from_checkpoint: str | bool | None, *args: Any, **kwargs: Any
    ) -> TrainOutput:
        stage, checkpoint = self._where_to_begin(root, resume_from_checkpoint)
        self._general_metrics = self._kept = None
        if stage is Stage.GENERAL:
            output = self._train_general_stage(root, checkpoint, *args, **kwargs)
            history, checkpoint = self.state.log_history, None
        else:
            self._require_same_general_stage(root)
            finished = self._finished(root)
            history, self._general_metrics = finished["log_history"], finished.get("metrics")
            self.continue_from(finished["cost"])
        if stage is Stage.FINAL or self.args.has_final_stage:
            output = self._train_final_stage(root, checkpoint, *args, **kwargs)
            self.state.log_history = history + self.state.log_history
        self._write_record(root)
        return output

    def _where_to_begin(self, root: Path, resume: str | bool | None) -> tuple[Stage, str | None]:
        if not resume:
            if self.args.should_save:
                for folder in (root / stage.value for stage in Stage if (root / stage.value).exists()):
                    logger.warning(f"Starting afresh: {folder} of an earlier run is removed.")
                    shutil.rmtree(folder)
            self.accelerator.wait_for_everyone()
            return Stage.GENERAL, None
        if resume is not True:
            folder = Path(resume)
            if folder.parent.name not in {stage.value for stage in Stage}:
                raise ValueError(
                    f"resume_from_checkpoint must be True or a checkpoint in {[stage.value for stage in Stage]} of "
                    f"output_dir, got {resume!r}"
                )
            return Stage(folder.parent.name), str(folder)
        if self.args.has_final_stage and (root / Stage.GENERAL.value / _FINISHED).exists():
            return Stage.FINAL, last_complete_checkpoint(root / Stage.FINAL.value)
        last = last_complete_checkpoint(root / Stage.GENERAL.value)
        if last is None:
            raise ValueError(f"no checkpoint to resume from in {root / Stage.GENERAL.value}")
        return Stage.GENERAL, last

    def _train_general_stage(self, root: Path, checkpoint: str | None, *args: Any, **kwargs: Any) -> TrainOutput:
        folder = root / Stage.GENERAL.value
        with self._in_general_stage(folder):
            output = super().train(checkpoint, *args, **kwargs)
            self.save_model(str(folder))
            self._general_metrics = self._metrics_of_stage()
        self.continue_from(self.cost())
        if self.args.should_save:
            content = {
                "best_checkpoint": self.state.best_model_checkpoint,
                "log_history": self.state.log_history,
                "cost": self.cost(),
                "metrics": self._general_metrics,
            }
            atomic_write(folder / _FINISHED, json.dumps(content) + "\n")
        self.accelerator.wait_for_everyone()
        return output

    def _train_final_stage(self, root: Path, checkpoint: str | None, *args: Any, **kwargs: Any) -> TrainOutput:
        self.load_weights(root / Stage.GENERAL.value)
        set_seed(self.args.seed)  # the same whether the process that did the general stage is this one
        lengths = {
            "max_steps": self.args.final_stage_steps,
            "num_train_epochs": self.args.final_stage_epochs,
            "learning_rate": self.args.final_stage_learning_rate or self.args.learning_rate,
        }
        with self._in_stage(Stage.FINAL, output_dir=str(root / Stage.FINAL.value), **lengths):
            output = super().train(checkpoint, *args, **kwargs)
            self._keep_better_stage(root)
        return output

    def _metrics_of_stage(self) -> dict[str, float] | None:
        """The metrics of the student after a stage; None where the students of the stages are not compared."""
        is_wanted = self.args.keep_better_stage and self.args.has_final_stage and can_compare_stages(self)
        return self.evaluate() if is_wanted else None

    def _keep_better_stage(self, root: Path) -> None:
        """Go back to the student of the general stage if the final stage has made it worse."""
        found = self._general_metrics, self._metrics_of_stage()
        before, after = (quality(self.args, metrics or {}) for metrics in found)
        if before is None or after is None:
            return
        self._kept = Stage.GENERAL if before[1] > after[1] else Stage.FINAL
        if self._kept is Stage.GENERAL:
            logger.warning(
                f"The student of the general stage is kept: {before[0]} was {abs(before[1]):.4g} after it, and is "
                f"{abs(after[1]):.4g} after the final stage (keep_better_stage)."
            )
            self.replace_weights(root / Stage.GENERAL.value)

    def _require_same_general_stage(self, root: Path) -> None:
        """Refuse to start or resume the final stage after a general stage of another run, or a shorter one.

        Args:
            root: The output folder of both stages.

        Raises:
            ValueError: The general stage is another run's; names the differences.
        """
        folder = root / Stage.GENERAL.value
        if (checkpoint := last_complete_checkpoint(folder)) is not None:
            with self._in_general_stage(folder):
                require_same_run(self, checkpoint, may_be_longer=False)

    def _in_general_stage(self, folder: Path) -> AbstractContextManager[None]:
        best = choosing_the_best(self.args, self.eval_dataset)
        return self._in_stage(Stage.GENERAL, output_dir=str(folder), **best)

    @contextmanager
    def _in_stage(self, stage: Stage, **changes: Any) -> Iterator[None]:
        """Context in which the arguments are those of a stage."""
        before = {name: getattr(self.args, name) for name in (*changes, "temperature")}
        self.stage = stage
        for name, value in changes.items():
            setattr(self.args, name, value)
        try:
            yield
        finally:
            for name, value in before.items():
                setattr(self.args, name, value)

    def teacher_identity(self) -> Any:
        """The steps and weights of all checkpoints."""
        steps = [checkpoint.step for checkpoint in self.trajectory.checkpoints]
        return {"steps of the checkpoints": steps, "weights with sha256": self.trajectory.weights_sha256}

    @property
    def stage_budget(self) -> ComputeBudget:
        """The maximum total cost when the stage ends; the final stage has the rest of the budget."""
        keeps = self.stage is Stage.GENERAL and self.args.has_final_stage
        return super().stage_budget * (1 - self.args.final_stage_budget if keeps else 1)

    @property
    def _live(self) -> FrozenTeacher:
        """The teacher whose weights follow the trajectory."""
        return cast(FrozenTeacher, self._teacher.members[0])

    def follow(self, step: int, total_steps: int) -> None:
        """Load the teacher checkpoint of a step of the general stage, and set temperature or scale of its logits."""
        if self.stage is not Stage.GENERAL:
            return
        ends = last_steps(self._shares, total_steps)
        due = next(index for index, end in enumerate(ends) if step < end or end == total_steps)
        self.trajectory.move_to(due, self._live.model)
        self.trajectory.prefetch()
        temperature = self.temperature_at(min(step, total_steps - 1), total_steps)
        self._temperatures.append(temperature)
        if self.args.general_stage_loss is GeneralStageLoss.LOGIT_MSE:
            self._logit_scale = logit_scale(temperature, self.args.max_temperature)
        else:
            self.args.temperature = float(temperature)

    def temperature_at(self, step: int, total_steps: int) -> float:
        """The temperature at a step of the general stage, which determines φ; may be overridden for another schedule.

        Args:
            step: The number of steps done, from 0 to `total_steps` - 1; parts of the budget where there is one.
            total_steps: The number of steps of the stage, or of parts of its budget.

        Returns:
            The temperature, at least 1.
        """
        return annealed_temperature(step, total_steps, self.args.max_temperature)

    def training_notes(self) -> dict[str, Any]:
        """`DistillationTrainer`'s, with the temperatures of the general stage."""
        if self.stage is not Stage.GENERAL or not self._temperatures:
            return super().training_notes()
        schedule = {"by": type(self).temperature_at.__qualname__, "first": self._temperatures[0]}
        return super().training_notes() | {"temperatures": schedule | {"last": self._temperatures[-1]}}

    def require_same_teacher(self, found: Mapping[str, Provenance]) -> None:
        """Refuse precomputed outputs, by column, of other checkpoints than those of the trajectory."""
        require_same_trajectory(found, self.trajectory, self._live)

    def teacher_forward(self, inputs: Mapping[str, Any], training: bool) -> TeacherOutputs:
        """`DistillationTrainer`'s, of the current checkpoint; in training its logits are scaled by φ."""
        outputs, checkpoints = super().teacher_forward(inputs, training), len(self.trajectory.checkpoints)
        logits = outputs.require_logits()
        of_one = 3 if self.task is not None and self.task.is_per_token else 2
        if TEACHER_LOGITS in inputs and logits.ndim != of_one:
            if (recorded := logits.shape[1]) != checkpoints:
                raise ValueError(f"{TEACHER_LOGITS} must hold logits of {checkpoints} checkpoints, got {recorded}")
            logits = logits[:, self.trajectory.current]
        if training and self._logit_scale != 1.0:
            logits = torch.where(is_masked_logit(logits), logits, self._logit_scale * logits)
        return dataclasses.replace(outputs, logits=logits)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """`DistillationTrainer`'s log; training steps also report stage, teacher step, and φ or temperature."""
        if "loss" in logs:
            logs["stage"] = list(Stage).index(self.stage) + 1
            if self.stage is Stage.GENERAL:
                logs["teacher_step"] = self.trajectory.checkpoints[self.trajectory.current].step
                if self.args.general_stage_loss is GeneralStageLoss.LOGIT_MSE:
                    logs["logit_scale"] = self._logit_scale
                else:
                    logs["temperature"] = cast(float, self.args.temperature)
        super().log(logs, start_time)

    def _require_labels_for_the_final_stage(self) -> None:
        names = None if self.task is Task.MASKED_LM else getattr(self.train_dataset, "column_names", None)
        accepted = {*self.label_names, "label", "label_ids"}
        if self.args.has_final_stage and names is not None and not accepted & set(names):
            raise ValueError(
                f"the final stage learns from {list(self.label_names)}, but the training set has the columns {names}; add "
                "labels, or leave that stage out (final_stage_epochs=0)"
            )

    def _write_record(self, root: Path) -> None:
        """Write one run record of both stages."""
        if not self.args.should_save:
            return
        records = {stage: root / stage.value for stage in Stage if (root / stage.value / "run.json").exists()}
        parts = ("objective", "arguments", "data", "training", "metrics")
        loaded = {stage: RunRecord.load(folder) for stage, folder in records.items()}
        record = loaded[max(loaded, key=list(Stage).index)]
        if self._kept in loaded:
            record.student, record.metrics = loaded[self._kept].student, loaded[self._kept].metrics
        record.student["saved_as"], record.teacher = root.resolve().name, loaded[Stage.GENERAL].teacher
        if record.teacher is not None:
            record.teacher["trajectory"] = [checkpoint.step for checkpoint in self.trajectory.checkpoints]
        record.stages = [
            {"name": stage.value} | {part: getattr(each, part) for part in parts} for stage, each in loaded.items()
        ]
        if self._kept is not None:
            record.training["kept_stage"] = self._kept.value
        record.save(root)
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, RunRecordCallback):
                callback.record = record

    def _finished(self, root: Path) -> dict[str, Any]:
        return read_json(root / Stage.GENERAL.value / _FINISHED, finite=False)


class _FollowCheckpoints(TrainerCallback):
    def __init__(self, trainer: ProgressiveTrainer):
        self._trainer = trainer

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._trainer.follow(*self._trainer.training_position())

    on_step_begin = on_train_begin

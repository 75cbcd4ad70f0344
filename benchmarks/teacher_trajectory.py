"""The checkpoints of a teacher of few_label_tasks.py, and their outputs for the transfer set, for quality_trajectories.py.

The teacher is fine-tuned on the labeled rows, with 8 evenly spaced checkpoints. Their outputs are computed once, for all
ways of training and all seeds.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import datasets
import numpy as np
from few_label_tasks import LABELED, NO_LABEL, ON_LABELS, TRANSFER, Task
from quality_movie_reviews import arguments
from transformers import PreTrainedModel
from transformers.trainer_utils import set_seed

from hf_distill import (
    DistillationTrainer,
    FrozenTeacher,
    ProgressiveTrainer,
    ProgressiveTrainingArguments,
    label_with_trajectory,
)
from hf_distill.files import atomic_write
from hf_distill.teachers.checkpoints import Checkpoint, find_checkpoints
from hf_distill.teachers.column_names import TEACHER_LOGITS, TEACHER_PROVENANCE, checkpoint_column, precomputed_columns

CHECKPOINTS = 8


def outputs_of(rows: datasets.Dataset, checkpoints: Sequence[int]) -> datasets.Dataset:
    """The rows with the precomputed outputs of these checkpoints alone, in the columns that the trainers read."""
    renamed = {}
    for place, index in enumerate(checkpoints):
        for of in (TEACHER_LOGITS, TEACHER_PROVENANCE):
            renamed[checkpoint_column(index, of)] = of if len(checkpoints) == 1 else checkpoint_column(place, of)
    dropped = [name for name in precomputed_columns(rows.column_names) if name not in renamed]
    moved = {old: new for old, new in renamed.items() if old != new}
    return rows.remove_columns(dropped).rename_columns(moved)


class TeacherTrajectory:
    """A task's teacher with its checkpoints, kept in the task's folder.

    Args:
        task: The task.
    """

    def __init__(self, task: Task):
        self.task = task
        self.folder = task.folder / "trajectory"

    def trained(
        self, model: PreTrainedModel, rows: datasets.Dataset, steps: int, rate: float, seed: int, **more: Any
    ) -> None:
        """Train a model in place, with `ProgressiveTrainer` where `teacher_checkpoints` are given."""
        if "teacher_checkpoints" not in more:
            self.task.trainer(model, rows, steps, rate, seed, **more).train()
            return
        args = arguments(self.task.folder / "run", steps, rate, seed, ProgressiveTrainingArguments, **more)
        ProgressiveTrainer(model, args, train_dataset=rows, **self.task.shared).train()

    def right(self, model: PreTrainedModel, split: str) -> np.ndarray:
        """Share of the labels of each row of a split that the model predicts correctly, (rows,)."""
        args = arguments(self.task.folder / "run", 1, 1e-4, 0, **ON_LABELS)
        found = DistillationTrainer(model, args, **self.task.shared).predict(self.task.splits[split])
        rows = len(found.label_ids)
        labels = found.label_ids.reshape(rows, -1)
        counted = labels != NO_LABEL
        correct = (found.predictions.argmax(-1).reshape(rows, -1) == labels) & counted
        return correct.sum(axis=1) / counted.sum(axis=1)

    @cached_property
    def record(self) -> dict[str, Any]:
        """Steps, training losses and accuracies of the checkpoints; the teacher is trained unless it is there."""
        path = self.folder / "teacher.json"
        if not path.exists():
            shutil.rmtree(self.folder, ignore_errors=True)
            content = json.dumps(self._teach())
            atomic_write(path, content)
        return json.loads(path.read_text())

    def _teach(self) -> dict[str, Any]:
        set_seed(0)
        task, every = self.task, self.task.teacher_steps // CHECKPOINTS
        saving = {
            "output_dir": str(self.folder),
            "save_strategy": "steps",
            "save_steps": every,
            "save_only_model": True,
        }
        logging = {"logging_steps": every, "logging_first_step": True}
        trainer = task.trainer(
            task.untrained_teacher(), task.splits[LABELED], every * CHECKPOINTS, task.teacher_rate, 0,
            **ON_LABELS, **saving, **logging,
        )  # fmt: skip
        trainer.train()
        losses = {entry["step"]: entry["loss"] for entry in trainer.state.log_history if "loss" in entry}
        models = [self.model(index) for index in range(CHECKPOINTS)]
        return {
            "steps": [checkpoint.step for checkpoint in self.checkpoints],
            "training_losses": list(losses.values()),  # of the first step, then the means up to each checkpoint
            "validation": [float(self.right(model, "validation").mean()) for model in models],
            "test": float(self.right(models[-1], "test").mean()),
            "parameters": models[-1].num_parameters(),
            "layers": models[-1].config.num_hidden_layers,
        }

    @cached_property
    def checkpoints(self) -> list[Checkpoint]:
        """The teacher's checkpoints, oldest first."""
        return find_checkpoints(str(self.folder))

    def model(self, index: int) -> PreTrainedModel:
        """The teacher at a checkpoint."""
        return self.task.teacher_class.from_pretrained(self.checkpoints[index].folder)

    @cached_property
    def labeled(self) -> datasets.Dataset:
        """The transfer set with the outputs of every checkpoint."""
        whole = self.folder / "labeled"
        if not whole.exists():
            teachers = (FrozenTeacher(self.model(index)) for index in range(CHECKPOINTS))
            labeled = label_with_trajectory(
                self.task.splits[TRANSFER], teachers, self.task.shared["data_collator"],
                cache_folder=self.folder / "outputs", disable_tqdm=True,
            )  # fmt: skip
            labeled.save_to_disk(partial := whole.with_suffix(".partial"))
            partial.rename(whole)
        return datasets.load_from_disk(whole)

"""Ways of training a student for quality_trajectories.py, each with its own learning rate, compared by row.

Every way takes equally many steps of the student, from the same weights. Those with a final stage train it on the labeled
rows; the others see labels through the teacher alone. Every training is a cell, a JSON file of its own, so that an
interrupted run continues.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from few_label_tasks import EVALUATION, LABELED, ON_LABELS
from quality_movie_reviews import BATCH_SIZE
from teacher_trajectory import CHECKPOINTS, TeacherTrajectory, outputs_of
from transformers import PreTrainedModel
from transformers.trainer_utils import set_seed

from hf_distill import FrozenTeacher, create_student, label_transfer_set
from hf_distill.evaluation.significance import difference_interval
from hf_distill.files import atomic_write
from hf_distill.preflight.student_defaults import student_defaults
from hf_distill.teachers.column_names import precomputed_columns

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
from train_teacher import evenly_falling

STEEP_CHECKPOINTS = CHECKPOINTS // 2
ASSISTANT_STEPS = 600
BASELINE = "vanilla_kd"
LAST, EVERY, STEEP, ASSISTANT, SEARCHED = "last", "every", "steep", "assistant", "searched"


@dataclass(frozen=True)
class Way:
    """A way of training.

    Attributes:
        teacher: What teaches: the last checkpoint, every one, half of them evenly spaced in the teacher's loss, an assistant
            of half of the teacher's layers, or the checkpoint whose student is best; None: labels alone.
        progressive: Arguments of `ProgressiveTrainer`; None: `DistillationTrainer` with its defaults.
        final_share: The share of the steps that comes last and is on labels.
        final_rate: The learning rate of these steps as a multiple of the learning rate.
        lengths: The shares of the steps to choose from.
    """

    teacher: str | None
    progressive: dict[str, Any] | None = None
    final_share: float = 0.0
    final_rate: float = 1.0
    lengths: tuple[float, ...] = (1.0,)


_THIRD = {"final_share": 1 / 3}
_SHORT = {"final_share": 0.1, "final_rate": 0.2}
_EQUAL, _LATE = {"checkpoint_shares": "equal"}, {"checkpoint_shares": "late"}  # the paper's, and the default
_FULL_SCALE = {"max_temperature": 1}  # φ = 1 throughout
WAYS = {
    "labels_alone": Way(None, lengths=(0.2, 1.0)),
    BASELINE: Way(LAST),
    "annealing_kd": Way(LAST, {}, **_THIRD),
    "rco": Way(EVERY, {"general_stage_loss": "forward_kl", "max_temperature": 1} | _EQUAL),
    "takd": Way(ASSISTANT),
    "pro_kd": Way(EVERY, _EQUAL, **_THIRD),
    "pro_kd_short_final": Way(EVERY, _EQUAL, **_SHORT),
    "best_checkpoint": Way(SEARCHED),
    "vanilla_kd_final": Way(LAST, **_THIRD),
    "pro_kd_full_scale": Way(EVERY, _FULL_SCALE | _EQUAL, **_THIRD),
    "pro_kd_late": Way(EVERY, _LATE, **_THIRD),
    "pro_kd_steep": Way(STEEP, _EQUAL, **_THIRD),
    "pro_kd_changed": Way(EVERY, _LATE | _FULL_SCALE, **_SHORT),
}
DEFAULT_WAYS = tuple(WAYS)[:7]


@dataclass(frozen=True)
class Setting:
    """What is chosen for a way by validation with the first seed: the learning rate, steps, and indices of checkpoints."""

    rate: float
    steps: int
    checkpoints: tuple[int, ...]


class WayComparison:
    """Trains students in every way.

    Args:
        trajectory: The teacher with its task; the cells are kept in the task's folder.
        kind: The kind of student, of the task's.
        steps: Optimizer steps of every student.
        rates: The learning rates to choose from.
    """

    def __init__(self, trajectory: TeacherTrajectory, kind: str, steps: int, rates: Sequence[float]):
        if (shortest := round(steps * 2 / 3)) < CHECKPOINTS:
            raise ValueError(f"{CHECKPOINTS} checkpoints need as many steps before the final stage, got {shortest}")
        self.trajectory, self.steps, self.rates = trajectory, steps, rates
        self.kind = kind
        self.shape, self.initialization = trajectory.task.kinds[kind]
        self.folder = trajectory.task.folder / "cells" / kind
        self.folder.mkdir(parents=True, exist_ok=True)

    @cached_property
    def final_teacher(self) -> PreTrainedModel:
        """The last checkpoint, whose weights students start from."""
        return self.trajectory.model(-1)

    def checkpoints_of(self, way: Way) -> tuple[int, ...]:
        """The indices of the checkpoints that teach."""
        last = CHECKPOINTS - 1
        if way.teacher == STEEP:
            losses = self.trajectory.record["training_losses"]
            return tuple(position - 1 for position in evenly_falling(losses, STEEP_CHECKPOINTS))
        return {None: (), ASSISTANT: (), EVERY: tuple(range(CHECKPOINTS)), LAST: (last,)}[way.teacher]

    def settings(self, way: Way) -> list[Setting]:
        """The settings to choose from."""
        if way.teacher == SEARCHED:
            rate = self.chosen(BASELINE).rate
            return [Setting(rate, self.steps, (index,)) for index in range(CHECKPOINTS)]
        found = self.checkpoints_of(way)
        return [Setting(rate, round(part * self.steps), found) for rate, part in product(self.rates, way.lengths)]

    def chosen(self, name: str) -> Setting:
        """The setting with the best validation accuracy with the first seed."""
        return max(self.settings(WAYS[name]), key=lambda setting: self.cell(name, setting, 0)["validation"])

    def cell(self, name: str, setting: Setting, seed: int) -> dict[str, Any]:
        """Accuracies of one training, kept, and read where it is there already."""
        index = f"_{setting.checkpoints[0]}" if WAYS[name].teacher == SEARCHED else ""
        path = self.folder / f"{name}{index}_{setting.steps}_{setting.rate:g}_{seed}.json"
        if not path.exists():
            started = time.process_time()
            measured = {"way": asdict(WAYS[name])} | self._train(WAYS[name], setting, seed)
            measured["cpu_seconds"] = round(time.process_time() - started, 1)
            print(path.stem, {split: measured[split] for split in EVALUATION}, flush=True)
            atomic_write(path, json.dumps(measured))
        found = json.loads(path.read_text())
        if found["way"] != json.loads(json.dumps(asdict(WAYS[name]))):
            raise SystemExit(
                f"{path} was trained as {found['way']}, not as {WAYS[name]}; remove it, or take another --folder"
            )
        return found

    def _train(self, way: Way, setting: Setting, seed: int) -> dict[str, Any]:
        rows, more = self._lesson(way, setting)
        set_seed(seed)
        student = create_student(self.shape, self.final_teacher, self.initialization)
        final = round(setting.steps * way.final_share)
        self.trajectory.trained(student, rows, setting.steps - final, setting.rate, seed, **more)
        measured = {}
        if final:
            measured["before_final_stage"], _ = self._scores(student)
            set_seed(seed)
            labeled, rate = self.trajectory.task.splits[LABELED], setting.rate * way.final_rate
            self.trajectory.trained(student, labeled, final, rate, seed, **ON_LABELS)
        scores, right = self._scores(student)
        return measured | scores | {"test_right": right.round(4).tolist()}

    def _lesson(self, way: Way, setting: Setting) -> tuple[datasets.Dataset, dict[str, Any]]:
        """The rows of the first stage, and its arguments."""
        if way.teacher is None:
            return self.trajectory.task.splits[LABELED], ON_LABELS
        if way.teacher == ASSISTANT:
            return self.labeled_by_assistant, {}
        rows = outputs_of(self.trajectory.labeled, setting.checkpoints)
        if way.progressive is None:
            return rows, {}
        folders = [str(self.trajectory.checkpoints[index].folder) for index in setting.checkpoints]
        return rows, {"teacher_checkpoints": folders, "final_stage_epochs": 0.0} | way.progressive

    @cached_property
    def labeled_by_assistant(self) -> datasets.Dataset:
        """The transfer set with the outputs of the assistant."""
        task = self.trajectory.task
        return label_transfer_set(
            self.trajectory.labeled.remove_columns(precomputed_columns(self.trajectory.labeled.column_names)),
            FrozenTeacher(self.assistant), task.shared["data_collator"], cache_folder=self.folder / "assistant_outputs",
            disable_tqdm=True,
        )  # fmt: skip

    @cached_property
    def assistant(self) -> PreTrainedModel:
        """A model of half of the teacher's layers, evenly spaced, trained on the last checkpoint's outputs."""
        folder = self.folder / f"assistant_{self.steps}"
        if not (folder / "config.json").exists():
            layers, width = self.final_teacher.config.num_hidden_layers // 2, self.final_teacher.config.hidden_size
            set_seed(0)
            model = create_student(f"{layers}/{width}", self.final_teacher, "truncated", layers="uniform")
            rows, _ = self._lesson(WAYS[BASELINE], Setting(0.0, 0, self.checkpoints_of(WAYS[BASELINE])))
            rate = student_defaults(model, 1)["learning_rate"]
            self.trajectory.trained(model, rows, min(self.steps, ASSISTANT_STEPS), rate, 0)
            model.save_pretrained(folder)
        return type(self.final_teacher).from_pretrained(folder)

    def _scores(self, model: PreTrainedModel) -> tuple[dict[str, float], np.ndarray]:
        """Validation and test accuracy, and the share of correct labels by row of the test split."""
        right = {split: self.trajectory.right(model, split) for split in EVALUATION}
        return {split: float(each.mean()) for split, each in right.items()}, right["test"]

    def results(self, names: Sequence[str], seeds: int) -> dict[str, Any]:
        """Teacher, results of every way, and conditions; accuracies in percent, differences in points."""
        teacher = self.trajectory.record
        found = {name: self._summary(name, seeds) for name in names}
        if BASELINE in found:
            for name in found.keys() - {BASELINE}:
                found[name][f"difference_to_{BASELINE}"] = self._difference(name, seeds)
        return {"teacher": teacher, "arms": found, "conditions": self.conditions(seeds)}

    def _summary(self, name: str, seeds: int) -> dict[str, Any]:
        best = self.chosen(name)
        cells = [self.cell(name, best, seed) for seed in range(seeds)]
        tried = {
            f"lr {setting.rate:g}, {setting.steps} steps, checkpoints {list(setting.checkpoints)}": _percent(
                self.cell(name, setting, 0)["validation"]
            )
            for setting in self.settings(WAYS[name])
        }
        summary = {"learning_rate": best.rate, "steps": best.steps, "validation_by_setting": tried}
        summary |= _over_seeds([cell["test"] for cell in cells])
        if "before_final_stage" in cells[0]:
            stages = [(cell["before_final_stage"], cell) for cell in cells]
            summary["before_final_stage"] = _over_seeds([first["test"] for first, _ in stages])
            better = [max(reversed(pair), key=lambda stage: stage["validation"])["test"] for pair in stages]
            summary["better_stage_by_validation"] = _over_seeds(better)
        return summary | {"cpu_seconds": [cell["cpu_seconds"] for cell in cells]}

    def _difference(self, name: str, seeds: int) -> dict[str, Any]:
        """Points of a way above the baseline; the interval is that of the mean over seeds, over the test rows."""
        pairs = np.mean([self._right(name, seed) - self._right(BASELINE, seed) for seed in range(seeds)], axis=0)
        low, high = difference_interval(lambda chosen: pairs[chosen].mean(), len(pairs))
        values = [_percent((self._right(name, seed) - self._right(BASELINE, seed)).mean()) for seed in range(seeds)]
        means = {"mean": _percent(pairs.mean()), "values": values}
        return means | {"interval_low": _percent(low), "interval_high": _percent(high)}

    def _right(self, name: str, seed: int) -> np.ndarray:
        return np.array(self.cell(name, self.chosen(name), seed)["test_right"])

    def conditions(self, seeds: int) -> dict[str, Any]:
        """The settings that all ways share."""
        student = create_student(self.shape, self.final_teacher, self.initialization)
        return {
            "metric": "accuracy, the mean over rows of the share of correct labels",
            "student": {
                "shape": self.shape,
                "initialization": self.initialization,
                "parameters": student.num_parameters(),
            },
            "student_steps": self.steps,
            "assistant_steps": min(self.steps, ASSISTANT_STEPS),
            "batch_size": BATCH_SIZE,
            "learning_rates": self.rates,
            "seeds": seeds,
            "rows": {name: len(split) for name, split in self.trajectory.task.splits.items()},
        }


def _percent(share: float) -> float:
    return round(100 * float(share), 2)


def _over_seeds(shares: Sequence[float]) -> dict[str, Any]:
    values = [_percent(share) for share in shares]
    return {
        "mean": round(statistics.mean(values), 2),
        "sd": round(statistics.stdev(values), 2) if len(values) > 1 else None,
        "values": values,
    }

"""Which settings of distillation win with few labels and much text: quality_defaults.py TASK

For each kind of student of few_label_tasks.py, chosen by validation accuracy with seed 0:

labels      the best of several learning rates and lengths on the labeled rows alone
distilled   the best learning rate at a length, then one change at a time: shorter and longer, no warm-up, temperatures, 100 more steps
            on the labels, labels of the labeled rows beside the soft labels of all, squared differences of logits, a cosine schedule,
            evenly spaced layers of the teacher

and then, with all seeds: the best on labels, `stock` (what transformers' own defaults give: 5e-5, 3 epochs), the defaults
of this library, for 3 epochs and as they are, and the best distilled. A cell that is done is not run again.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import datasets
import transformers
from few_label_tasks import LABELED, ON_LABELS, TASKS, TRANSFER, Task
from quality_movie_reviews import BATCH_SIZE
from transformers import PreTrainedModel
from transformers.trainer_utils import set_seed

from hf_distill import DistillationTrainer
from hf_distill.files import atomic_write
from hf_distill.fingerprints import package_versions
from hf_distill.hardware import hardware_name
from hf_distill.preflight.student_defaults import STOCK, student_defaults

RESULTS = Path(__file__).with_name("results")
LABELS_ONLY, DISTILLED, SPACED = "labels", "distilled", "evenly spaced layers"
# Learning rates to try for students that start from the teacher's layers, and for others.
RATES = {True: (1e-4, 3e-4, 1e-3), False: (3e-4, 1e-3, 3e-3)}
LABEL_STEPS, STEPS = (100, 300), 600
FINALS = ("labels", "stock", "3 epochs", "default", "best")
CHANGES: dict[str, dict[str, Any]] = {
    "200 steps": {"steps": STEPS // 3},
    "1,800 steps": {"steps": 3 * STEPS},
    "no warm-up": {"warmup": 0.0},
    "temperature 2": {"temperature": 2.0},
    "temperature 4": {"temperature": 4.0},
    "fine-tuned": {"fine_tuning_steps": 100},
    "labels too": {"hard_label_weight": 1.0},
    "logit_mse": {"loss": "logit_mse"},
    "cosine": {"schedule": "cosine"},
    SPACED: {"layers": "uniform"},
}


@dataclass(frozen=True)
class Setting:
    """A way of training.

    Attributes:
        rows: On what: the labeled rows, or the transfer set with the teacher's outputs.
        warmup: The share of the steps in which the learning rate rises.
        hard_label_weight: Weight of the loss on labels, which only the labeled rows have.
        layers: Which layers of the teacher students that start from layers get.
        fine_tuning_steps: Number of steps on the labeled rows afterwards, at a tenth of the learning rate.
    """

    rows: str
    rate: float
    steps: int
    warmup: float = 0.1
    temperature: float = 1.0
    fine_tuning_steps: int = 0
    loss: str = "forward_kl"
    schedule: str = "linear"
    hard_label_weight: float = 0.0
    layers: str = "bottom"

    @property
    def arguments(self) -> dict[str, Any]:
        """The training arguments."""
        more: dict[str, Any] = {"warmup_steps": self.warmup, "lr_scheduler_type": self.schedule}
        if self.rows == LABELS_ONLY:
            return more | ON_LABELS
        more |= {"hard_label_weight": self.hard_label_weight} if self.hard_label_weight else {}
        return more | {"temperature": self.temperature, "soft_label_loss": self.loss}


@dataclass
class Study:
    """The cells of a task.

    Attributes:
        task: The task.
        folder: Where the cells are kept.
        rates: The learning rates that are tried. None: those of `RATES`.
        changes: Which of `CHANGES` are tried.
        label_steps: The lengths that are tried on labels alone.
    """

    task: Task
    folder: Path
    rates: tuple[float, ...] | None
    changes: list[str]
    label_steps: Sequence[int] = LABEL_STEPS

    def cell(self, kind: str, setting: Setting, seed: int) -> dict[str, float]:
        """Accuracies and seconds of one training."""
        added = {"hard_label_weight": 0.0, "layers": "bottom"}  # to the names of cells only where they differ
        values = {name: value for name, value in asdict(setting).items() if value != added.get(name)}
        name = "_".join(map(str, values.values()))
        return self.kept(f"{kind}_{name}_{seed}", lambda: self.measured(kind, setting, seed))

    def kept(self, name: str, measure: Callable[[], dict[str, float]]) -> dict[str, float]:
        """What a function measures; read where it is there already."""
        path = self.folder / f"{name}.json"
        if not path.exists():
            found = measure()
            print(f"{name}: {found}", flush=True)
            atomic_write(path, json.dumps(found))
        return json.loads(path.read_text())

    def measured(self, kind: str, setting: Setting, seed: int) -> dict[str, float]:
        """Accuracies and seconds of one training."""
        set_seed(seed)
        begin = time.time()
        trainer = self.trained(self.task.student(kind, setting.layers), setting, seed)
        return self.task.scores(trainer) | {"seconds": round(time.time() - begin, 1)}

    def trained(self, student: PreTrainedModel, setting: Setting, seed: int) -> DistillationTrainer:
        """The trainer of the last stage, after it has trained."""
        rows = self.task.splits[LABELED] if setting.rows == LABELS_ONLY else self.task.transfer_set
        rows = self.task.with_labels if setting.hard_label_weight else rows
        trainer = self.task.trainer(student, rows, setting.steps, setting.rate, seed, **setting.arguments)
        trainer.train()
        if setting.fine_tuning_steps:
            after = Setting(LABELS_ONLY, setting.rate / 10, setting.fine_tuning_steps)
            return self.trained(student, after, seed)
        return trainer

    def best(self, kind: str, settings: dict[str, Setting]) -> tuple[str, dict[str, float]]:
        """The name of the best setting by validation accuracy with seed 0, and the accuracies of all."""
        tried = {name: self.cell(kind, setting, 0)["validation"] for name, setting in settings.items()}
        return max(tried, key=lambda name: tried[name]), tried

    def explore(self, kind: str) -> dict[str, Any]:
        """The best settings of a kind of student, and what every change did."""
        rates = self.rates or RATES[has_layers(self.task, kind)]
        on_labels = {
            f"{rate} {steps}": Setting(LABELS_ONLY, rate, steps) for rate in rates for steps in self.label_steps
        }
        best_on_labels, tried_on_labels = self.best(kind, on_labels)
        if self.task.kinds[kind][1] == "truncated":  # what distilled students may choose too
            on_labels[SPACED] = replace(on_labels[best_on_labels], layers="uniform")
            best_on_labels, tried_on_labels = self.best(kind, on_labels)
        by_rate = {str(rate): Setting(DISTILLED, rate, STEPS) for rate in rates}
        best_rate, tried_rates = self.best(kind, by_rate)
        start = by_rate[best_rate]
        unfit = {"labels too"} if self.task.marks_words else set()
        unfit |= set() if self.task.kinds[kind][1] == "truncated" else {SPACED}
        names = [name for name in self.changes if name not in unfit]
        changed = {name: replace(start, **CHANGES[name]) for name in names}
        best_change, tried_changes = self.best(kind, {"none": start} | changed)
        return {
            "labels": {"tried": tried_on_labels, "best": on_labels[best_on_labels]},
            "rates": {"tried": tried_rates, "best": start},
            "changes": {"tried": tried_changes, "best": ({"none": start} | changed)[best_change]},
        }

    def over_seeds(self, kind: str, setting: Setting, seeds: int) -> dict[str, Any]:
        """Mean and standard deviation of the accuracies of a setting."""
        cells = [self.cell(kind, setting, seed) for seed in range(seeds)]
        summary: dict[str, Any] = {"setting": asdict(setting)}
        for name in ("validation", "test"):
            values = [cell[name] for cell in cells]
            summary[name] = {"mean": statistics.mean(values), "sd": statistics.stdev(values), "values": values}
        return summary


def has_layers(task: Task, kind: str) -> bool:
    """Whether a kind of student starts from layers of the teacher."""
    return task.kinds[kind][1] in ("truncated", "width")


def finals(task: Task, kind: str, explored: dict[str, Any]) -> dict[str, Setting]:
    """The settings that are compared over seeds."""
    epoch = math.ceil(len(task.splits[TRANSFER]) / BATCH_SIZE)
    own = student_defaults(task.student(kind), epoch)
    stock = Setting(DISTILLED, STOCK["learning_rate"], round(STOCK["num_train_epochs"] * epoch), STOCK["warmup_steps"])
    default = Setting(DISTILLED, own["learning_rate"], round(own["num_train_epochs"] * epoch), own["warmup_steps"])
    return {
        "labels": explored["labels"]["best"],
        "stock": stock,
        "3 epochs": replace(default, steps=stock.steps),
        "default": default,
        "best": explored["changes"]["best"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=list(TASKS))
    parser.add_argument("--folder", type=Path, default=Path("outputs/defaults"), help="where cells are kept")
    parser.add_argument("--seeds", type=int, default=3, help="seeds of the settings compared at last, at least 2")
    parser.add_argument("--kinds", nargs="+", help="which kinds of students; default: all of the task")
    parser.add_argument("--rates", nargs="+", type=float, help="learning rates to try; default: by kind of student")
    parser.add_argument(
        "--label-steps", nargs="+", type=int, default=LABEL_STEPS, help="lengths to try on labels alone"
    )
    parser.add_argument("--changes", nargs="*", default=list(CHANGES), choices=list(CHANGES), help="changes to try")
    parser.add_argument("--compared", nargs="+", default=FINALS, choices=FINALS, help="settings to compare over seeds")
    parser.add_argument("--explore", action="store_true", help="the cells with seed 0 alone, and no file of results")
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    folder = options.folder / options.task
    folder.mkdir(parents=True, exist_ok=True)
    task = TASKS[options.task](folder)
    study = Study(task, folder, options.rates, options.changes, options.label_steps)
    teacher = study.kept("teacher", task.teacher_scores)
    kinds = options.kinds or list(task.kinds)
    explored = {kind: study.explore(kind) for kind in kinds}
    if options.explore:
        print(json.dumps(explored, indent=1, default=asdict), flush=True)
        return
    compared = {
        kind: {
            name: study.over_seeds(kind, setting, options.seeds)
            for name, setting in finals(task, kind, explored[kind]).items()
            if name in options.compared
        }
        for kind in kinds
    }
    rows = {name: len(split) for name, split in task.splits.items()}
    conditions = {"rows": rows, "batch_size": BATCH_SIZE, "seeds": options.seeds, "teacher": teacher}
    conditions |= {"students": task.kinds, "hardware": hardware_name("cpu"), "versions": package_versions()}
    content = {"conditions": conditions, "explored": explored, "compared": compared}
    path = RESULTS / f"defaults_{options.task}.json"
    path.write_text(json.dumps(content, indent=2, default=asdict) + "\n")


if __name__ == "__main__":
    main()

"""Task-agnostic students that shrink, against the same shape made otherwise: python benchmarks/quality_task_agnostic.py

A masked-language model (prose_teacher.py, 6 layers of 384) is distilled on prose and definitions into a student of 6 narrow
layers, by the HomoDistil recipe:

gradual      a copy of the teacher loses width at ten events, by sensitivity, on the paper's cubic schedule
one_shot     the same at one event
truncated    the last shape from the first step on, with the teacher's leading dimensions and learned projections
scratch      the same with random weights
no_teacher   the same with random weights, and the masked words alone

All spend the same counted FLOPs, forward and backward passes of the student and forward passes of the teacher. Each has
its own best learning rate of the same list, by the loss of held-out masked words with the first seed; then come the other
seeds at that rate. Every student is fine-tuned, equally long and at one rate, on a few labels of movie reviews and of
definitions; reported are the reviews of both other splits, and 5,000 definitions of the test split, on which nothing was
chosen. The teacher is fine-tuned too, once. A cell that is done is not run again.

All heads stay, since attention is compared head by head, and so the width is a multiple of 12.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import datasets
import transformers
from datasets import Dataset, concatenate_datasets
from prose_teacher import FOLDER, LENGTH, masked_word_loss, sequences, trained_teacher
from quality_movie_reviews import arguments
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    PreTrainedModel,
)
from transformers.trainer_utils import set_seed

from hf_distill import DistillationTrainer, PruningDistillTrainer, PruningDistillTrainingArguments
from hf_distill.files import atomic_write
from hf_distill.fingerprints import package_versions
from hf_distill.hardware import hardware_name
from hf_distill.pruning.compaction import compact
from hf_distill.pruning.importance import Criterion, largest, leading, score
from hf_distill.resources.sentiment import load_sentiment
from hf_distill.resources.wordnet import load_wordnet

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

from compare_under_budget import difference, is_right

RESULTS = Path(__file__).with_name("results")
GRADUAL, NO_TEACHER, TEACHER = "gradual", "no_teacher", "teacher"
SHRINKING: dict[str, dict[str, Any]] = {
    GRADUAL: {"shrinking": "cubic", "pruning_events": 10},
    "one_shot": {"shrinking": "one_shot"},
}
ARMS = (*SHRINKING, "truncated", "scratch", NO_TEACHER)
BATCH_SIZE = 16
TEACHER_RATE = 1e-4
# Options that choose cells, and do not change them.
CHOOSING = ("folder", "teacher_folder", "results", "learning_rates", "seeds", "arms")


@dataclass(frozen=True)
class Task:
    """A task that students are fine-tuned on: its data, labeled examples, steps of 32, splits and rows reported."""

    load: Callable[[], datasets.DatasetDict]
    labels: int
    steps: int
    reported: tuple[str, ...]
    rows: int


TASKS = {
    "reviews": Task(load_sentiment, 2000, 250, ("validation", "test"), 5000),
    "definitions": Task(load_wordnet, 5000, 600, ("test",), 5000),
}


class Study:
    """Teacher, data and cells, which are trained unless they are in the folder."""

    def __init__(self, options: argparse.Namespace):
        self.options = options
        self.folder: Path = options.folder / f"{options.width}_{options.flops:g}"
        self.folder.mkdir(parents=True, exist_ok=True)
        self._require_same_settings()
        self.teacher_folder = trained_teacher(options.teacher_folder, options.teacher_steps)
        self.teacher = AutoModelForMaskedLM.from_pretrained(self.teacher_folder)
        self.tokenizer = AutoTokenizer.from_pretrained(self.teacher_folder)
        self.sequences = sequences(options.teacher_folder)

    def _require_same_settings(self) -> None:
        settings = {name: value for name, value in vars(self.options).items() if name not in CHOOSING}
        was = self.kept("settings", lambda: settings)
        if was != settings:
            raise SystemExit(f"{self.folder} holds cells with {was}, not with {settings}; take another --folder")

    @cached_property
    def tasks(self) -> dict[str, tuple[Dataset, Dataset]]:
        """Rows for fine-tuning, and rows that are reported, by task."""
        tokenizer, found = self.tokenizer, {}

        def encode(rows: dict[str, list]) -> dict[str, list]:
            return dict(tokenizer(rows["text"], truncation=True, max_length=LENGTH))

        for name, task in TASKS.items():
            raw = task.load().select_columns(["text", "label"]).rename_column("label", "labels")
            raw = raw.map(encode, batched=True, remove_columns="text")
            reported = concatenate_datasets([raw[split] for split in task.reported])
            found[name] = raw["train"].take(task.labels), reported.take(task.rows)
        return found

    def kept(self, name: str, measure: Any) -> Any:
        """What a cell measured, read where it is there already."""
        path = self.folder / f"{name}.json"
        if not path.exists():
            measured = measure()
            print(name, {key: value for key, value in measured.items() if key != "correct"}, flush=True)
            atomic_write(path, json.dumps(measured) + "\n")
        return json.loads(path.read_text())

    def distilled(self, arm: str, rate: float, seed: int) -> dict[str, Any]:
        """Loss of held-out masked words and cost of one student, whose folder has the name of its cell."""
        name = f"{arm}_{rate:g}_{seed}"
        return self.kept(name, lambda: self._distil(arm, rate, seed, self.folder / name))

    def _distil(self, arm: str, rate: float, seed: int, folder: Path) -> dict[str, Any]:
        set_seed(seed)
        trainer = self.trainer(arm, rate, seed)
        trainer.train()
        trainer.model.save_pretrained(folder)
        student, spent = AutoModelForMaskedLM.from_pretrained(folder), trainer.cost()  # without projections
        assert student.config.hidden_size == self.options.width
        sizes = {"parameters": student.num_parameters(), "steps": trainer.state.global_step}
        return {"loss": self.loss(student)} | sizes | {name: spent[name] for name in ("flops", "tokens", "seconds")}

    def trainer(self, arm: str, rate: float, seed: int) -> DistillationTrainer:
        """The trainer of an arm."""
        given = {"max_flops": self.options.flops, "per_device_train_batch_size": BATCH_SIZE, "weight_decay": 0.01}
        more = {"train_dataset": self.sequences["train"], **self._masking}
        run = self.folder / "run"
        if arm in SHRINKING:
            own = given | {"recipe": "homodistil", "target_hidden_size": self.options.width} | SHRINKING[arm]
            args = arguments(run, -1, rate, seed, PruningDistillTrainingArguments, **own)
            return PruningDistillTrainer(None, args, teacher_model=self.teacher, **more)
        student = self.truncated if arm == "truncated" else AutoModelForMaskedLM.from_config(self.truncated.config)
        recipe, teacher = (None, None) if arm == NO_TEACHER else ("homodistil", self.teacher)
        args = arguments(run, -1, rate, seed, recipe=recipe, **given)
        return DistillationTrainer(student.train(), args, teacher_model=teacher, **more)

    @property
    def _masking(self) -> dict[str, Any]:
        return {"data_collator": DataCollatorForLanguageModeling(self.tokenizer), "processing_class": self.tokenizer}

    @property
    def truncated(self) -> PreTrainedModel:
        """The teacher's leading dimensions."""
        config, width = self.teacher.config, self.options.width
        sizes = width, config.num_attention_heads, config.intermediate_size * width // config.hidden_size
        units = leading(score(self.teacher, Criterion.MAGNITUDE))
        return compact(self.teacher, largest(self.teacher, units, *sizes)).requires_grad_(True)

    def loss(self, model: PreTrainedModel) -> float:
        """Cross-entropy of held-out masked words."""
        args = arguments(self.folder / "run", 1, 1e-4, 0, recipe=None)
        return masked_word_loss(DistillationTrainer(model, args, eval_dataset=self.sequences["test"], **self._masking))

    def fine_tuned(self, name: str, model: Path, task: str, rate: float, seed: int) -> dict[str, Any]:
        """Accuracy of a model fine-tuned on a task, and 1 for every reported example that it has right."""
        return self.kept(f"{name}_{task}_{seed}", lambda: self._fine_tune(model, task, rate, seed))

    def _fine_tune(self, model: Path, task: str, rate: float, seed: int) -> dict[str, Any]:
        set_seed(seed)
        train, reported = self.tasks[task]
        classes = train.features["labels"].num_classes
        classifier = AutoModelForSequenceClassification.from_pretrained(model, num_labels=classes)
        steps = self.options.fine_tuning_steps or TASKS[task].steps
        args = arguments(self.folder / "run", steps, rate, seed, recipe=None)
        trainer = DistillationTrainer(classifier, args, train_dataset=train, processing_class=self.tokenizer)
        trainer.train()
        correct = is_right(trainer.predict(reported))
        return {"accuracy": statistics.mean(correct), "correct": correct}

    def arm(self, arm: str) -> dict[str, Any]:
        """Best learning rate by masked words with seed 0, then all seeds at it, and what they have right by task."""
        tried = {rate: self.distilled(arm, rate, 0)["loss"] for rate in self.options.learning_rates}
        best = min(tried, key=tried.get)
        cells = [self.distilled(arm, best, seed) for seed in range(self.options.seeds)]
        found: dict[str, Any] = {"learning_rate": best, "loss_by_rate": tried}
        found |= {name: summary([cell[name] for cell in cells]) for name in cells[0]}
        return found | self._on_tasks([self.folder / f"{arm}_{best:g}_{seed}" for seed in range(self.options.seeds)])

    def _on_tasks(self, models: list[Path]) -> dict[str, Any]:
        rate = self.options.fine_tuning_learning_rate
        cells = {
            task: [self.fine_tuned(model.name, model, task, rate, seed) for seed, model in enumerate(models)]
            for task in TASKS
        }
        accuracies = {task: summary([100 * cell["accuracy"] for cell in each]) for task, each in cells.items()}
        return accuracies | {"correct": {task: [cell["correct"] for cell in each] for task, each in cells.items()}}

    def of_teacher(self) -> dict[str, Any]:
        """What the teacher has right by task, in percent, fine-tuned once."""
        cells = {task: self.fine_tuned(TEACHER, self.teacher_folder, task, TEACHER_RATE, 0) for task in TASKS}
        return {task: 100 * cell["accuracy"] for task, cell in cells.items()}


def summary(values: list[float]) -> dict[str, Any]:
    """Mean, standard deviation and values over seeds."""
    return {"mean": statistics.mean(values), "sd": statistics.stdev(values), "values": values}


def ahead_of(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Points by which one arm is ahead of another, with their 95 % interval over examples and seeds, by task."""
    found = {}
    for task in TASKS:
        gap, low, high = (100 * each for each in difference(first["correct"][task], second["correct"][task]))
        pairs = zip(first[task]["values"], second[task]["values"], strict=True)
        found[task] = {"difference": gap, "interval_low": low, "interval_high": high}
        found[task]["values"] = [one - other for one, other in pairs]
    return found


def without_examples(arm: dict[str, Any]) -> dict[str, Any]:
    """What is reported of an arm."""
    return {name: value for name, value in arm.items() if name != "correct"}


def options_of() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("outputs/task_agnostic"), help="where cells are kept")
    parser.add_argument("--teacher_folder", type=Path, default=FOLDER, help="where text and teacher are kept")
    parser.add_argument("--teacher_steps", type=int, default=2000, help="steps of the teacher's training")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the folder for results")
    parser.add_argument("--width", type=int, default=132, help="of the students, a multiple of 12 below 384")
    parser.add_argument("--flops", type=float, default=8e12, help="what each student may cost, teacher included")
    parser.add_argument("--learning_rates", type=float, nargs="+", default=[4e-4, 1.2e-3], help="tried in every arm")
    parser.add_argument("--fine_tuning_learning_rate", type=float, default=3e-4, help="of all students")
    parser.add_argument("--fine_tuning_steps", type=int, help="of both tasks in place of their own")
    parser.add_argument("--seeds", type=int, default=3, help="seeds per arm, at least 2")
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=ARMS, help="which arms, gradual too")
    return parser.parse_args()


def conditions_of(options: argparse.Namespace) -> dict[str, Any]:
    """What the results depend on."""
    given = {name: value for name, value in vars(options).items() if not isinstance(value, Path)}
    fixed = {"batch_size": BATCH_SIZE, "length": LENGTH, "shrinking": SHRINKING, "teacher_rate": TEACHER_RATE}
    tasks = {
        name: {part: value for part, value in vars(task).items() if part != "load"} for name, task in TASKS.items()
    }
    return given | fixed | {"tasks": tasks, "hardware": hardware_name("cpu"), "versions": package_versions()}


def main() -> None:
    options = options_of()
    transformers.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    study = Study(options)
    arms = {arm: study.arm(arm) for arm in options.arms}
    ahead = {arm: ahead_of(arms[GRADUAL], each) for arm, each in arms.items() if arm != GRADUAL}
    trained = json.loads((study.teacher_folder / "teacher.json").read_text())
    content = {"conditions": conditions_of(options), "teacher": trained | study.of_teacher()}
    content |= {"arms": {arm: without_examples(each) for arm, each in arms.items()}, "gradual_ahead_of": ahead}
    options.results.mkdir(parents=True, exist_ok=True)
    path = options.results / f"quality_task_agnostic_{options.width}.json"
    atomic_write(path, json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()

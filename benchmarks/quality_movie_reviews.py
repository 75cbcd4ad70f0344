"""Labels only against distilled, on movie reviews, with equal effort: python benchmarks/quality_movie_reviews.py

One teacher (all-MiniLM-L6-v2 fine-tuned on the training split) and for each student several ways of training it, from
the same first weights: on labels for some epochs (`labels`), on the teacher's soft labels of a larger, unlabeled
transfer set for as many epochs (`distilled`), and, as a control, on labels for as many steps as that (`labels_long`).
Each has its own best learning rate of the same list, by validation accuracy with the first seed; then come the remaining
seeds at that rate. A cell that is done is not run again, and students and arms may be run one by one (--add).
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import torch
import transformers
from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding, PreTrainedModel
from transformers.trainer_utils import set_seed

from hf_distill import (
    DistillationTrainer,
    DistillationTrainingArguments,
    FrozenTeacher,
    create_student,
    label_transfer_set,
)
from hf_distill.evaluation.metrics import glue_metric
from hf_distill.fingerprints import package_versions
from hf_distill.hardware import hardware_name
from hf_distill.resources.minilm import minilm_path
from hf_distill.resources.sentiment import LABELS, load_sentiment, load_transfer_set

RESULTS = Path(__file__).with_name("results") / "quality_movie_reviews.json"
TEACHER_EPOCHS = 3
BATCH_SIZE = 32
# Student: the learning rates tried for every way of training it.
STUDENTS = {
    "2/384-truncated": (1e-4,),
    "2/128-embeddings": (5e-4, 1e-3),
}
ARMS = ("labels", "distilled", "labels_long")


@dataclass
class Experiment:
    """Everything a cell needs."""

    folder: Path
    epochs: int
    seeds: int
    teacher: PreTrainedModel
    tokenizer: transformers.PreTrainedTokenizerBase
    splits: dict[str, datasets.Dataset]
    transfer_set: datasets.Dataset

    def cell(self, student: str, arm: str, learning_rate: float, seed: int) -> dict[str, float]:
        """Validation and test metrics of one training; kept, and read when there already."""
        path = self.folder / f"{student.replace('/', '-')}_{arm}_{learning_rate}_{seed}.json"
        if path.exists():
            return json.loads(path.read_text())
        shape, initialization = student.split("-")
        set_seed(seed)
        distilled = arm == "distilled"
        weights = {} if distilled else dict(soft_label_weight=0.0, hard_label_weight=1.0)
        steps = self.steps(self.splits["train"] if arm == "labels" else self.transfer_set)
        trainer = DistillationTrainer(
            create_student(shape, self.teacher, initialization),
            arguments(self.folder / f"run-{student.replace('/', '-')}-{arm}", steps, learning_rate, seed, **weights),
            train_dataset=self.transfer_set if distilled else self.splits["train"],
            processing_class=self.tokenizer,
            compute_metrics=glue_metric(None),
            teacher_model=self.teacher,
        )
        trainer.train()
        validation = trainer.evaluate(self.splits["validation"])
        test = trainer.predict(self.splits["test"]).metrics
        measured = {
            "validation_accuracy": validation["eval_accuracy"],
            "test_accuracy": test["test_accuracy"],
            "test_agreement": test["test_teacher_agreement"],
            "test_kl": test["test_teacher_kl"],
            "parameters": trainer.model.num_parameters(),
            "steps": steps,
        }
        print(f"{student} {arm} lr={learning_rate} seed={seed}: {measured}", flush=True)
        path.write_text(json.dumps(measured))
        return measured

    def steps(self, dataset: datasets.Dataset) -> int:
        """Optimizer steps of the epochs over a data set."""
        return self.epochs * math.ceil(len(dataset) / BATCH_SIZE)

    def arm(self, student: str, arm: str) -> dict[str, object]:
        """Best learning rate by validation accuracy with seed 0, then all seeds at it."""
        tried = {rate: self.cell(student, arm, rate, seed=0)["validation_accuracy"] for rate in STUDENTS[student]}
        best = max(tried, key=tried.get)
        cells = [self.cell(student, arm, best, seed) for seed in range(self.seeds)]
        summary = {"learning_rate": best, "validation_accuracy_by_rate": tried, "parameters": cells[0]["parameters"]}
        summary["steps"] = cells[0]["steps"]
        for name in ("validation_accuracy", "test_accuracy", "test_agreement", "test_kl"):
            values = [cell[name] for cell in cells]
            summary[name] = {"mean": statistics.mean(values), "sd": statistics.stdev(values), "values": values}
        return summary


def arguments(
    folder: Path, steps: int, learning_rate: float, seed: int, kind: type = DistillationTrainingArguments, **more: Any
) -> DistillationTrainingArguments:
    fixed = dict(
        output_dir=str(folder), max_steps=steps, learning_rate=learning_rate, seed=seed, warmup_steps=0.1,
        per_device_train_batch_size=BATCH_SIZE, per_device_eval_batch_size=128, save_strategy="no", report_to="none",
        disable_tqdm=True, logging_steps=1000, dataloader_pin_memory=False,
    )  # fmt: skip
    return kind(**(fixed | more))


def prepare(folder: Path, epochs: int, seeds: int) -> tuple[Experiment, dict[str, float]]:
    teacher, tokenizer, splits, metrics = teacher_and_splits(folder)
    transfer_set = label_transfer_set(
        tokenized(load_transfer_set(), tokenizer), FrozenTeacher(teacher), DataCollatorWithPadding(tokenizer),
        cache_folder=folder,
    )  # fmt: skip
    return Experiment(folder, epochs, seeds, teacher, tokenizer, splits, transfer_set), metrics


def teacher_and_splits(folder: Path) -> tuple[Any, Any, dict[str, datasets.Dataset], dict[str, float]]:
    """Teacher, trained unless it is there, tokenizer, encoded reviews by split, and how good the teacher is."""
    tokenizer = AutoTokenizer.from_pretrained(minilm_path())
    splits = {name: tokenized(split, tokenizer) for name, split in load_sentiment().items()}
    if not (folder / "teacher" / "metrics.json").exists():
        train_teacher(folder / "teacher", tokenizer, splits)
    teacher = AutoModelForSequenceClassification.from_pretrained(folder / "teacher")
    return teacher, tokenizer, splits, json.loads((folder / "teacher" / "metrics.json").read_text())


def tokenized(dataset: datasets.Dataset, tokenizer: transformers.PreTrainedTokenizerBase) -> datasets.Dataset:
    """Model inputs, with labels where there are any."""
    dropped = [name for name in dataset.column_names if name != "label"]
    return dataset.map(
        lambda rows: tokenizer(rows["text"], truncation=True, max_length=128), batched=True, remove_columns=dropped
    )


def train_teacher(folder: Path, tokenizer: transformers.PreTrainedTokenizerBase, splits: dict) -> None:
    set_seed(0)
    names = dict(enumerate(LABELS))
    model = AutoModelForSequenceClassification.from_pretrained(
        minilm_path(), id2label=names, label2id={label: index for index, label in names.items()}
    )
    steps = TEACHER_EPOCHS * math.ceil(len(splits["train"]) / BATCH_SIZE)
    trainer = DistillationTrainer(
        model, arguments(folder, steps, 5e-5, seed=0), train_dataset=splits["train"], processing_class=tokenizer,
        compute_metrics=glue_metric(None),
    )  # fmt: skip
    trainer.train()
    trainer.save_model(folder)
    test = trainer.predict(splits["test"]).metrics
    validation = trainer.evaluate(splits["validation"])
    measured = {
        "validation_accuracy": validation["eval_accuracy"],
        "test_accuracy": test["test_accuracy"],
        "parameters": model.num_parameters(),
    }
    (folder / "metrics.json").write_text(json.dumps(measured))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("outputs/quality"), help="where cells are kept")
    parser.add_argument("--epochs", type=int, default=2, help="epochs over the labeled set, and over the transfer set")
    parser.add_argument("--seeds", type=int, default=3, help="seeds per student and arm, at least 3")
    parser.add_argument("--students", nargs="+", default=list(STUDENTS), choices=list(STUDENTS), help="which students")
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=ARMS, help="which ways of training")
    parser.add_argument("--add", action="store_true", help="add to the results there are instead of replacing them")
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    experiment, teacher = prepare(options.folder, options.epochs, options.seeds)
    found = {student: {arm: experiment.arm(student, arm) for arm in options.arms} for student in options.students}
    conditions = {
        "epochs": options.epochs,
        "batch_size": BATCH_SIZE,
        "seeds": options.seeds,
        "train_examples": len(experiment.splits["train"]),
        "transfer_set_examples": len(experiment.transfer_set),
        "test_examples": len(experiment.splits["test"]),
        "hardware": hardware_name("cuda" if torch.cuda.is_available() else "cpu"),
        "versions": package_versions(),
    }
    content = {"teacher": teacher, "conditions": conditions, "students": {}}
    if options.add and RESULTS.exists():
        content = json.loads(RESULTS.read_text())
        if content["teacher"] != teacher or content["conditions"] != conditions:
            raise SystemExit(f"{RESULTS.name} was measured under other conditions: {content['conditions']}")
    for student, arms in found.items():
        content["students"][student] = content["students"].get(student, {}) | arms
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()

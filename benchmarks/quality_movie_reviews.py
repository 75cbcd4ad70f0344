"""Labels only against distilled, on movie reviews, with equal effort: python benchmarks/quality_movie_reviews.py

One teacher (all-MiniLM-L6-v2 fine-tuned on the training split) and for each student two ways of training it, from the
same first weights, for equally many steps, each with its own best learning rate of the same list (chosen by validation
accuracy with the first seed), then the remaining seeds at that rate. A cell that is done is not run again; several
processes may share the work (--students).
"""

from __future__ import annotations

import argparse
import json
import statistics
from dataclasses import dataclass
from pathlib import Path

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
from hf_distill.hardware import hardware_name
from hf_distill.publishing.run_record import package_versions, weights_sha256
from hf_distill.resources.minilm import minilm_path
from hf_distill.resources.sentiment import LABELS, load_sentiment, load_transfer_set

RESULTS = Path(__file__).with_name("results") / "quality_movie_reviews.json"
# Student: the learning rates tried for both ways of training it.
STUDENTS = {
    "3/384-truncated": (1e-4,),
    "4/256-embeddings": (5e-4,),
    "2/128-embeddings": (5e-4, 1e-3),
    "2/128-random": (1e-3,),
}
ARMS = ("labels", "distilled")


@dataclass
class Experiment:
    """Everything a cell needs."""

    folder: Path
    steps: int
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
        shape, initialisation = student.split("-")
        set_seed(seed)
        weights = dict(soft_label_weight=0.0, hard_label_weight=1.0) if arm == "labels" else {}
        trainer = DistillationTrainer(
            create_student(shape, self.teacher, initialisation),
            arguments(self.folder / "run", self.steps, learning_rate, seed, **weights),
            train_dataset=self.splits["train"] if arm == "labels" else self.transfer_set,
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
        }
        print(f"{student} {arm} lr={learning_rate} seed={seed}: {measured}", flush=True)
        path.write_text(json.dumps(measured))
        return measured

    def arm(self, student: str, arm: str) -> dict[str, object]:
        """Best learning rate by validation accuracy with seed 0, then all seeds at it."""
        tried = {rate: self.cell(student, arm, rate, seed=0)["validation_accuracy"] for rate in STUDENTS[student]}
        best = max(tried, key=tried.get)
        cells = [self.cell(student, arm, best, seed) for seed in range(self.seeds)]
        summary = {"learning_rate": best, "validation_accuracy_by_rate": tried, "parameters": cells[0]["parameters"]}
        for name in ("validation_accuracy", "test_accuracy", "test_agreement", "test_kl"):
            values = [cell[name] for cell in cells]
            summary[name] = {"mean": statistics.mean(values), "sd": statistics.stdev(values), "values": values}
        return summary


def arguments(
    folder: Path, steps: int, learning_rate: float, seed: int, **more: float
) -> DistillationTrainingArguments:
    return DistillationTrainingArguments(
        str(folder), max_steps=steps, learning_rate=learning_rate, seed=seed, per_device_train_batch_size=32,
        per_device_eval_batch_size=128, warmup_steps=0.1, save_strategy="no", report_to="none", disable_tqdm=True,
        logging_steps=1000, dataloader_pin_memory=False, **more,
    )  # fmt: skip


def prepare(folder: Path, steps: int, seeds: int) -> tuple[Experiment, dict[str, float]]:
    tokenizer = AutoTokenizer.from_pretrained(minilm_path())

    def tokenized(dataset: datasets.Dataset) -> datasets.Dataset:
        dropped = [name for name in dataset.column_names if name != "label"]
        return dataset.map(
            lambda rows: tokenizer(rows["text"], truncation=True, max_length=128), batched=True, remove_columns=dropped
        )

    splits = {name: tokenized(split) for name, split in load_sentiment().items()}
    if not (folder / "teacher" / "metrics.json").exists():
        train_teacher(folder / "teacher", tokenizer, splits, steps)
    teacher = AutoModelForSequenceClassification.from_pretrained(folder / "teacher")
    labelled = folder / f"transfer-set-{weights_sha256(teacher)[:12]}"
    if not labelled.exists():
        collator = DataCollatorWithPadding(tokenizer)
        label_transfer_set(tokenized(load_transfer_set()), FrozenTeacher(teacher), collator).save_to_disk(labelled)
    transfer_set = datasets.load_from_disk(labelled)
    metrics = json.loads((folder / "teacher" / "metrics.json").read_text())
    return Experiment(folder, steps, seeds, teacher, tokenizer, splits, transfer_set), metrics


def train_teacher(folder: Path, tokenizer: transformers.PreTrainedTokenizerBase, splits: dict, steps: int) -> None:
    set_seed(0)
    names = dict(enumerate(LABELS))
    model = AutoModelForSequenceClassification.from_pretrained(
        minilm_path(), id2label=names, label2id={label: index for index, label in names.items()}
    )
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
    parser.add_argument("--steps", type=int, default=750, help="optimizer steps of every training, batch 32")
    parser.add_argument("--seeds", type=int, default=3, help="seeds per student and arm, at least 3")
    parser.add_argument("--students", nargs="+", default=list(STUDENTS), choices=list(STUDENTS), help="which students")
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    experiment, teacher = prepare(options.folder, options.steps, options.seeds)
    found = {student: {arm: experiment.arm(student, arm) for arm in ARMS} for student in options.students}
    if set(options.students) != set(STUDENTS):
        return  # a share of the work: whoever runs all students next finds its cells and writes the result
    content = {
        "teacher": teacher,
        "students": found,
        "conditions": {
            "steps": options.steps,
            "batch_size": 32,
            "seeds": options.seeds,
            "train_examples": len(experiment.splits["train"]),
            "transfer_set_examples": len(experiment.transfer_set),
            "test_examples": len(experiment.splits["test"]),
            "hardware": hardware_name("cuda" if torch.cuda.is_available() else "cpu"),
            "versions": package_versions(),
        },
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()

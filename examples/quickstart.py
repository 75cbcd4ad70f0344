"""Distill three small students with few labels and much text, on a CPU, without a model hub.

    python examples/quickstart.py

Fine-tunes all-MiniLM-L6-v2 on 500 labeled movie reviews and labels 8,445 review texts with it. Each student starts from
the same initial weights in every training: on the 500 labels alone (two lengths, of which the better one counts), and on
the teacher's soft labels. All models, and a classifier of word counts trained on the same 500 labels, are compared on
2,056 other reviews. Saves a folder per student with weights, run.json and model card, and results.json and a plot in
outputs/quickstart. An interrupted run is resumed by the same command.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
import transformers
from pretrained_distillation import load_classifier
from rich.console import Console
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding, PreTrainedModel
from transformers.trainer_utils import set_seed

from hf_distill import (
    DistillationTrainer,
    DistillationTrainingArguments,
    FrozenTeacher,
    create_student,
    encode_for_teacher,
    label_transfer_set,
)
from hf_distill.evaluation.comparison import DISTILLED, LABELS_ONLY, TEACHER, EvaluatedModel, LatencySettings, compare
from hf_distill.evaluation.plots import report_plot
from hf_distill.evaluation.predictions import Predictions
from hf_distill.evaluation.report import report_table
from hf_distill.evaluation.significance import difference_interval
from hf_distill.files import atomic_write
from hf_distill.pruning import trim_vocabulary
from hf_distill.publishing.model_card import add_evaluation
from hf_distill.publishing.run_record import RunRecord
from hf_distill.resources.minilm import minilm_path
from hf_distill.resources.sentiment import LABELS, load_sentiment, load_transfer_set
from hf_distill.scripts.arguments import ScriptParser
from hf_distill.scripts.run import first_rows, run_on_main_process
from hf_distill.scripts.user_errors import run_main
from hf_distill.trainers.checkpoints import last_complete_checkpoint

TEACHER_NAME, BASE_MODEL = "all-MiniLM-L6-v2, fine-tuned on movie reviews", "sentence-transformers/all-MiniLM-L6-v2"
INITIALIZATIONS = {
    "truncated": "the teacher's embeddings, bottom layers and head; of its tokens those that occur twice in the reviews",
    "embeddings": "the teacher's embeddings on their leading principal directions, of its tokens those that occur twice in "
    "the reviews; all other weights random",
}
LABELED, TEACHER_STEPS, TEACHER_RATE = 500, 150, 5e-5
MIN_COUNT = 2  # tokens that the reviews have less often are removed from the students' vocabulary
BATCH_SIZE, MAX_LENGTH = 32, 64
ON_LABELS = {"soft_label_weight": 0.0, "hard_label_weight": 1.0}
console = Console(quiet=int(os.environ.get("RANK", "0")) > 0)  # of several processes the first speaks


@dataclass(frozen=True)
class Student:
    """A student of the quickstart: its name, shape, initialization, and learning rate and lengths of training on labels."""

    name: str
    shape: str
    initialization: str
    label_rate: float
    label_steps: tuple[int, int]


STUDENTS = (
    Student("MiniLM-2-layers", "2/384", "truncated", 1e-4, (150, 300)),
    Student("BERT-Mini", "4/256", "embeddings", 5e-4, (100, 300)),
    Student("BERT-Tiny", "2/128", "embeddings", 5e-4, (100, 300)),
)


class Quickstart:
    """Runs the stages of the quickstart, and resumes where an earlier run stopped.

    Args:
        folder: The folder for all results.
        seed: The seed of the choice of labeled reviews, of initial weights and of training.
        steps: Optimizer steps of distillation per student, and the most that any other training takes.
        examples: Number of examples of each data set; None for all.
    """

    def __init__(self, folder: Path, seed: int, steps: int, examples: int | None):
        self.folder, self.seed, self.steps = folder, seed, steps
        self.settings = {"seed": seed, "steps": steps, "examples": examples}
        raw, texts = load_sentiment(), load_transfer_set(["movie_reviews"])
        self.labeled = first_rows(raw["train"].shuffle(seed=seed), min(examples or LABELED, LABELED))
        held_out = [first_rows(raw[name], examples) for name in ("validation", "test")]
        self.held_out = datasets.concatenate_datasets(held_out)
        self.texts = texts if examples is None else first_rows(texts.shuffle(seed=seed), examples)

    def run(self) -> None:
        """Run all stages and print the results."""
        run_on_main_process(self._require_same_settings)
        tokenizer = AutoTokenizer.from_pretrained(minilm_path(), trust_remote_code=False)
        args = self._arguments("teacher", TEACHER_STEPS, TEACHER_RATE, **ON_LABELS)
        rows = self._tokenized(args, self.labeled, tokenizer)
        teacher = self._trained(args, self._untrained_teacher, rows, tokenizer, "pre-trained")
        # Students need the embeddings of tokens that occur in the reviews; the teacher reads its own whole vocabulary.
        trimmed, small = trim_vocabulary(teacher, tokenizer, self.texts["text"], MIN_COUNT)
        rows = self._tokenized(args, self.labeled, small)
        transfer_set = self._labeled_by(teacher, tokenizer, self._tokenized(args, self.texts, small, keep=["text"]))
        models = [EvaluatedModel("MiniLM-6-layers", TEACHER, teacher, tokenizer)]
        for student in STUDENTS:
            on_labels = [(LABELS_ONLY, steps, student.label_rate, rows) for steps in student.label_steps]
            for training, steps, rate, dataset in [*on_labels, (DISTILLED, self.steps, None, transfer_set)]:
                name = f"{student.name}, {training}" + (f", {steps} steps" if training == LABELS_ONLY else "")
                weights = ON_LABELS if training == LABELS_ONLY else {}
                args = self._arguments(_folder_name(name), steps, rate, **weights)
                model = self._trained(
                    args, lambda student=student: create_student(student.shape, trimmed, student.initialization),
                    dataset, small, INITIALIZATIONS[student.initialization],
                )  # fmt: skip
                models.append(EvaluatedModel(name, training, model, small))
        run_on_main_process(lambda: self._report(models))

    def _require_same_settings(self) -> None:
        path, given = self.folder / "settings.json", self.settings
        found = None if (self.folder / "teacher").exists() else given  # of an earlier version of this script
        found = json.loads(path.read_text()) if path.exists() else found
        if found != given:
            raise ValueError(f"{self.folder} has results with settings {found}, got {given}: pass another --output_dir")
        _write_json(path, given)

    @staticmethod
    def _untrained_teacher() -> PreTrainedModel:
        names = dict(enumerate(LABELS))
        return AutoModelForSequenceClassification.from_pretrained(
            minilm_path(),
            id2label=names,
            label2id={label: index for index, label in names.items()},
            trust_remote_code=False,
        )

    def _tokenized(
        self, args: DistillationTrainingArguments, rows: datasets.Dataset, tokenizer: Any, keep: list[str] | None = None
    ) -> datasets.Dataset:
        dropped = [name for name in rows.column_names if name not in ["label", *(keep or [])]]
        with args.main_process_first(desc="tokenizing"):
            return rows.map(
                lambda batch: tokenizer(batch["text"], truncation=True, max_length=MAX_LENGTH),
                batched=True,
                remove_columns=dropped,
                desc="Tokenizing",
            )

    def _labeled_by(self, teacher: PreTrainedModel, tokenizer: Any, rows: datasets.Dataset) -> datasets.Dataset:
        """The students' inputs with precomputed logits of the teacher, which reads the same texts with its tokenizer."""
        both = encode_for_teacher(rows, tokenizer, "text", max_length=MAX_LENGTH)
        own = [name for name in both.column_names if name not in rows.column_names]
        labeled = label_transfer_set(
            both, FrozenTeacher(teacher, input_prefix="teacher_"), DataCollatorWithPadding(tokenizer),
            cache_folder=self.folder / "teacher-outputs",
        )  # fmt: skip
        return labeled.remove_columns([*own, "text"])

    def _trained(
        self,
        args: DistillationTrainingArguments,
        untrained: Callable[[], PreTrainedModel],
        rows: datasets.Dataset,
        tokenizer: Any,
        initialization: str,
    ) -> PreTrainedModel:
        """The finished model of an earlier run, or one trained now, resuming from its last checkpoint if there is one."""
        folder = Path(args.output_dir)
        if run_on_main_process((folder / "finished.json").exists):
            console.print(f"[bold]{folder.name}[/]: found in {folder}")
            return load_classifier(folder)
        console.print(f"[bold]{folder.name}[/]: {args.max_steps} steps")
        set_seed(self.seed)
        trainer = DistillationTrainer(untrained(), args, train_dataset=rows, processing_class=tokenizer)
        result = trainer.train(resume_from_checkpoint=run_on_main_process(lambda: last_complete_checkpoint(folder)))
        trainer.save_model()
        run_on_main_process(lambda: self._close(folder, initialization, result.metrics))
        return load_classifier(folder)

    @staticmethod
    def _close(folder: Path, initialization: str, metrics: Mapping[str, float]) -> None:
        """Mark a training as finished for later runs."""
        record = RunRecord.load(folder)
        record.student |= {"name": folder.name, "initialization": initialization}
        record.card |= {"base_model": BASE_MODEL, "license": "apache-2.0", "language": "en"}
        if record.teacher is not None:
            record.teacher["name"] = TEACHER_NAME
        record.save(folder)
        for checkpoint in folder.glob("checkpoint-*"):
            shutil.rmtree(checkpoint)
        _write_json(folder / "finished.json", metrics)

    def _arguments(self, name: str, steps: int, rate: float | None, **weights: float) -> DistillationTrainingArguments:
        """The training arguments; the learning rate None is the default of a distilled student."""
        return DistillationTrainingArguments(
            str(self.folder / name),
            max_steps=min(steps, self.steps),
            per_device_train_batch_size=BATCH_SIZE,
            learning_rate=rate,
            warmup_steps=0.1,
            seed=self.seed,
            logging_steps=50,
            save_steps=100,
            save_total_limit=1,
            report_to="none",
            use_cpu=not torch.accelerator.is_available(),  # several processes find each other on a CPU only when told
            dataloader_pin_memory=False,
            disable_tqdm=False,
            **weights,
        )

    def _report(self, models: list[EvaluatedModel]) -> None:
        """Write results.json, the plot and the card of every student, and print the tables."""
        predictions: dict[str, Predictions] = {}
        evaluation = compare(
            models, self.held_out, "movie_reviews", "validation and test",
            LatencySettings(batch_sizes=(1,), lengths=(32,)), max_length=MAX_LENGTH, kept=predictions,
        )  # fmt: skip
        students = gains(models, predictions)
        word_counts = word_counts_accuracy(self.labeled, self.held_out)
        more = {"settings": self.settings, "students": students, "word_counts": word_counts}
        _write_json(self.folder / "results.json", evaluation | more)
        report_plot(evaluation, self.folder / "comparison.png")
        for each in models[1:]:
            add_evaluation(self.folder / _folder_name(each.name), evaluation, each.name)
        # A log file counts as 80 columns, in which the table leaves some of its own out.
        Console(width=None if console.is_terminal else 170).print(report_table(evaluation))
        for row in students:
            interval = f"95 % interval {row['interval_low']:+.1f} to {row['interval_high']:+.1f}"
            better = f"{row['labels_only']:.1f} % on labels alone, {row['distilled']:.1f} % distilled"
            console.print(f"[bold]{row['name']}[/]: {better}, difference {row['difference']:+.1f} ({interval})")
        console.print(f"tf-idf and logistic regression on the same labels: {100 * word_counts:.1f} %")
        console.print(f"Students, cards, plot and results.json: {self.folder}")


def gains(models: list[EvaluatedModel], predictions: Mapping[str, Predictions]) -> list[dict[str, Any]]:
    """Accuracies of each student on labels alone and distilled, in percent, and their difference, in points."""
    found = []
    for student in STUDENTS:
        right: dict[str, list[np.ndarray]] = {LABELS_ONLY: [], DISTILLED: []}
        for each in [each for each in models if each.name.startswith(f"{student.name},")]:
            right[each.role].append(predictions[each.name].is_correct.astype(int))
        labels_only, distilled = (max(of_role, key=np.mean) for of_role in right.values())
        pairs = distilled - labels_only
        low, high = difference_interval(lambda chosen, pairs=pairs: pairs[chosen].mean(), len(pairs))
        values = {"labels_only": labels_only.mean(), "distilled": distilled.mean(), "difference": pairs.mean()}
        values |= {"interval_low": low, "interval_high": high}
        found.append(
            {"name": student.name, "parameters": each.model.num_parameters()}
            | {name: round(100 * float(value), 4) for name, value in values.items()}
            | {"pairs": pairs.tolist()}  # 1 where only the distilled one is right, -1 where only the other is
        )
    return found


def word_counts_accuracy(labeled: datasets.Dataset, held_out: datasets.Dataset) -> float:
    """The accuracy of logistic regression on tf-idf weights of words and pairs of words."""
    classifier = make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(C=10.0))
    return float(classifier.fit(labeled["text"], labeled["label"]).score(held_out["text"], held_out["label"]))


def _folder_name(name: str) -> str:
    return name.replace(", ", "-").replace(" ", "-")


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, json.dumps(content, indent=2) + "\n")


def main() -> None:
    parser = ScriptParser(description=__doc__)
    parser.add_argument("--output_dir", type=Path, default=Path("outputs/quickstart"), help="folder for all results")
    parser.add_argument("--seed", type=int, default=0, help="seed of labeled reviews, initial weights and training")
    parser.add_argument("--steps", type=int, default=600, help="optimizer steps of distillation per student")
    parser.add_argument("--examples", type=int, default=None, help="use this many examples of each data set; None: all")
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    Quickstart(options.output_dir, options.seed, options.steps, options.examples).run()


if __name__ == "__main__":
    run_main(main, trains_several=True)

"""Distill three small students from a real teacher on real data, on a CPU, without a model hub.

    python examples/quickstart.py

Fine-tunes all-MiniLM-L6-v2 on movie reviews and uses it as the teacher of labeled and unlabeled reviews. Each student is
trained twice from the same initial weights, for equally many steps: on the labeled reviews alone, and on the teacher's
soft labels. Saves a folder per student with weights, run.json and model card, and results.json and a plot in
outputs/quickstart. An interrupted run is resumed by the same command.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import datasets
import torch
import transformers
from pretrained_distillation import load_classifier
from rich.console import Console
from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding, PreTrainedModel
from transformers.trainer_utils import set_seed

from hf_distill import (
    DistillationTrainer,
    DistillationTrainingArguments,
    FrozenTeacher,
    create_student,
    label_transfer_set,
)
from hf_distill.evaluation.comparison import (
    DISTILLED,
    LABELS_ONLY,
    TEACHER,
    EvaluatedModel,
    LatencySettings,
    compare,
)
from hf_distill.evaluation.metrics import glue_metric
from hf_distill.evaluation.report import report_plot, report_table
from hf_distill.files import atomic_write
from hf_distill.publishing.model_card import add_evaluation
from hf_distill.publishing.run_record import RunRecord
from hf_distill.resources.minilm import minilm_path
from hf_distill.resources.sentiment import LABELS, load_sentiment, load_transfer_set
from hf_distill.scripts.arguments import ScriptParser
from hf_distill.scripts.run import run_on_main_process
from hf_distill.scripts.user_errors import run_main
from hf_distill.scripts.verbosity import default_deepspeed_to_cpu
from hf_distill.trainers.checkpoints import last_complete_checkpoint

TEACHER_NAME, BASE_MODEL = "all-MiniLM-L6-v2, fine-tuned on movie reviews", "sentence-transformers/all-MiniLM-L6-v2"
INITIALIZATIONS = {
    "truncated": "the teacher's embeddings, bottom layers and head",
    "embeddings": "the teacher's embeddings on their leading principal directions; all other weights random",
}
TEACHER_EPOCHS = 1.5
BATCH_SIZE = 32
SEED = 0
console = Console(quiet=int(os.environ.get("RANK", "0")) > 0)  # of several processes the first speaks


@dataclass(frozen=True)
class Student:
    """A student of the quickstart: its name, shape, initialization and learning rate."""

    name: str
    shape: str
    initialization: str
    learning_rate: float


STUDENTS = (
    Student("MiniLM-2-layers", "2/384", "truncated", 1e-4),
    Student("BERT-Mini", "4/256", "embeddings", 5e-4),
    Student("BERT-Tiny", "2/128", "embeddings", 5e-4),
)


class Quickstart:
    """Runs the stages of the quickstart, and resumes where an earlier run stopped.

    Args:
        folder: The folder for all results.
        steps: Optimizer steps per student.
        examples: Number of examples of each data set, drawn at random; None for all.
    """

    def __init__(self, folder: Path, steps: int, examples: int | None):
        self.folder, self.steps, self.examples = folder, steps, examples
        self.tokenizer = AutoTokenizer.from_pretrained(minilm_path(), trust_remote_code=False)
        self.splits: dict[str, datasets.Dataset] = {}

    def run(self) -> None:
        """Run all stages and print the table."""
        args = self._arguments("teacher", 5e-5, num_train_epochs=TEACHER_EPOCHS, max_steps=-1)
        with args.main_process_first(desc="tokenizing"):
            raw = load_sentiment()
            self.splits = {name: self._tokenized(raw[name]) for name in ("train", "validation")}
            texts = self._tokenized(load_transfer_set(["movie_reviews"]))
        teacher = self._trained("teacher", self._untrained_teacher, args, None)
        transfer_set = self._answered(texts, teacher)
        self.splits["validation"] = self._answered(self.splits["validation"], teacher)
        models = {("MiniLM-6-layers", TEACHER): teacher}
        for student in STUDENTS:
            for training, dataset in ((LABELS_ONLY, None), (DISTILLED, transfer_set)):
                models[student.name, training] = self._trained_student(student, training, dataset, teacher)
        run_on_main_process(lambda: self._report(models))

    def _trained_student(
        self, student: Student, training: str, transfer_set: datasets.Dataset | None, teacher: PreTrainedModel
    ) -> PreTrainedModel:
        name = f"{student.name}-{training.replace(' ', '-')}"
        weights = dict(soft_label_weight=0.0, hard_label_weight=1.0) if transfer_set is None else {}

        def untrained() -> PreTrainedModel:
            set_seed(SEED)
            return create_student(student.shape, teacher, student.initialization)

        args = self._arguments(name, student.learning_rate, **weights)
        return self._trained(name, untrained, args, teacher, transfer_set, INITIALIZATIONS[student.initialization])

    def _trained(
        self,
        name: str,
        untrained: Callable[[], PreTrainedModel],
        args: DistillationTrainingArguments,
        teacher: PreTrainedModel | None,
        transfer_set: datasets.Dataset | None = None,
        initialization: str = "pre-trained",
    ) -> PreTrainedModel:
        """The finished model of an earlier run, or one trained now, resuming from its last checkpoint if there is one."""
        folder = self.folder / name
        if run_on_main_process((folder / "finished.json").exists):
            console.print(f"[bold]{name}[/]: found in {folder}")
            return load_classifier(folder)
        length = f"{args.max_steps} steps" if args.max_steps > 0 else f"{args.num_train_epochs:g} epochs"
        console.print(f"[bold]{name}[/]: {length}")
        trainer = DistillationTrainer(
            untrained(),
            args,
            train_dataset=self.splits["train"] if transfer_set is None else transfer_set,
            eval_dataset=self.splits["validation"],
            processing_class=self.tokenizer,
            compute_metrics=glue_metric(None),
            teacher_model=teacher,
        )
        trainer.train(resume_from_checkpoint=run_on_main_process(lambda: last_complete_checkpoint(folder)))
        metrics = trainer.evaluate()
        trainer.save_model()
        run_on_main_process(lambda: self._close(folder, initialization, metrics))
        return load_classifier(folder)

    @staticmethod
    def _close(folder: Path, initialization: str, metrics: dict[str, float]) -> None:
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

    def _arguments(self, name: str, learning_rate: float, **more: float) -> DistillationTrainingArguments:
        return DistillationTrainingArguments(
            str(self.folder / name),
            per_device_train_batch_size=BATCH_SIZE,
            per_device_eval_batch_size=128,
            learning_rate=learning_rate,
            warmup_steps=0.1,
            seed=SEED,
            logging_steps=50,
            save_steps=100,
            save_total_limit=1,
            report_to="none",
            use_cpu=not torch.accelerator.is_available(),  # several processes find each other on a CPU only when told
            dataloader_pin_memory=False,
            disable_tqdm=False,
            **({"max_steps": self.steps} | more),
        )

    def _untrained_teacher(self) -> PreTrainedModel:
        set_seed(SEED)
        names = dict(enumerate(LABELS))
        return AutoModelForSequenceClassification.from_pretrained(
            minilm_path(),
            id2label=names,
            label2id={label: index for index, label in names.items()},
            trust_remote_code=False,
        )

    def _answered(self, texts: datasets.Dataset, teacher: PreTrainedModel) -> datasets.Dataset:
        """The texts with precomputed teacher logits."""
        collator = DataCollatorWithPadding(self.tokenizer)
        return label_transfer_set(texts, FrozenTeacher(teacher), collator, cache_folder=self.folder / "teacher-answers")

    def _tokenized(self, dataset: datasets.Dataset) -> datasets.Dataset:
        if self.examples is not None:  # at random: the data are sorted by label
            dataset = dataset.shuffle(seed=SEED).select(range(min(self.examples, len(dataset))))
        dropped, tokenizer = [name for name in dataset.column_names if name != "label"], self.tokenizer
        return dataset.map(
            lambda rows: tokenizer(rows["text"], truncation=True, max_length=128),
            batched=True,
            remove_columns=dropped,
        )

    def _report(self, models: dict[tuple[str, str], PreTrainedModel]) -> None:
        """Write the table, results.json, the plot, and the card of every student."""
        evaluated_models = [EvaluatedModel(f"{name}, {training}" if training != TEACHER else name, training, model, self.tokenizer)
                       for (name, training), model in models.items()]  # fmt: skip
        rows = load_sentiment()["test"]
        rows = rows if self.examples is None else rows.shuffle(seed=SEED).select(range(min(self.examples, len(rows))))
        evaluation = compare(
            evaluated_models, rows, "movie_reviews", "test", LatencySettings(batch_sizes=(1,), lengths=(32,))
        )
        _write_json(self.folder / "results.json", evaluation)
        report_plot(evaluation, self.folder / "comparison.png")
        for (name, training), evaluated in list(zip(models, evaluated_models, strict=True))[1:]:
            add_evaluation(self._folder_of(name, training), evaluation, evaluated.name)
        wide_enough = Console(width=max(console.width, 150))  # a log file counts as 80 columns, which cut the table
        wide_enough.print(report_table(evaluation))
        console.print(f"Students, cards, plot and results.json: {self.folder}")

    def _folder_of(self, name: str, training: str) -> Path:
        return self.folder / ("teacher" if training == TEACHER else f"{name}-{training.replace(' ', '-')}")


def _write_json(path: Path, content: dict) -> None:
    atomic_write(path, json.dumps(content, indent=2) + "\n")


def main() -> None:
    parser = ScriptParser(description=__doc__)
    parser.add_argument("--output_dir", type=Path, default=Path("outputs/quickstart"), help="folder for all results")
    parser.add_argument("--steps", type=int, default=300, help="optimizer steps per student")
    parser.add_argument(
        "--examples", type=int, default=None, help="use this many examples of each data set; all if not given"
    )
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    default_deepspeed_to_cpu()
    Quickstart(options.output_dir, options.steps, options.examples).run()


if __name__ == "__main__":
    run_main(main, trains_several=True)

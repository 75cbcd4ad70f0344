"""What asking the teacher once saves: python benchmarks/teacher_cache.py [--device cuda] [--shape 2/128 3/384]

An all-MiniLM-L6-v2 teacher fine-tuned on movie reviews, BERT-Tiny and 3x384 students.

1. Labeling the transfer set (four domains): sentences per second of `label_transfer_set`, files included, and of a loop
   in single precision over padded batches of 32 in the order of the texts; bytes of what is kept.
2. An epoch over the movie reviews, in rounds that take turns, on the same batches in the same precision: plain Trainer
   on labels, DistillationTrainer on recorded answers, DistillationTrainer with the live teacher, the 30-line recipe of
   transformers' documentation, and TextBrewer 0.2.1 (pip install textbrewer tensorboardX), when that is installed.
   Ratios are of the same round, their median is reported; and after which epoch labeling has paid for itself.
3. A whole run as a user gets it: labeling and all epochs with DistillationTrainingArguments' defaults, for a student with all
   tokens and for one with the reviews' alone (trimming included), against as many epochs of the recipe with
   TrainingArguments' defaults and a live teacher. Batches, learning rate and steps are equal; accuracy on held-out reviews.
"""

from __future__ import annotations

import argparse
import copy
import json
import shutil
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import torch
import transformers
from torch import nn
from trainer_overhead import (
    BATCH_SIZE,
    DocumentationRecipe,
    StepClock,
    fresh,
    now,
    quiet,
    textbrewer_available,
    textbrewer_steps,
)
from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding, Trainer
from transformers import TrainingArguments as Arguments
from transformers.trainer_utils import set_seed

from hf_distill import (
    DistillationTrainer,
    DistillationTrainingArguments,
    FrozenTeacher,
    create_student,
    label_transfer_set,
)
from hf_distill.compute.precision import fast_bfloat16
from hf_distill.fingerprints import package_versions
from hf_distill.hardware import hardware_name
from hf_distill.pruning import trim_vocabulary
from hf_distill.resources.sentiment import load_sentiment, load_transfer_set
from hf_distill.teachers.column_names import precomputed_columns
from hf_distill.text.privacy import public_name

RESULTS = Path(__file__).with_name("results")


class World:
    """Teacher, students, texts and scratch folder of all measurements."""

    def __init__(self, options: argparse.Namespace):
        self.device, self.folder, self.source = options.device, options.folder, options.teacher
        self.tokenizer = AutoTokenizer.from_pretrained(options.teacher)
        self.collate = DataCollatorWithPadding(self.tokenizer)
        reviews = load_sentiment().remove_columns("rating").rename_column("label", "labels")
        self.reviews = self._encoded(reviews["train"], options.rows)
        self.held_out = self._encoded(reviews["validation"], options.rows)
        self.transfer_set = self._encoded(load_transfer_set().shuffle(seed=0), options.rows)

    def _encoded(self, texts: datasets.Dataset, limit: int | None) -> datasets.Dataset:
        tokenizer = self.tokenizer  # what the function reads is hashed
        return texts.select(range(len(texts))[:limit]).map(
            lambda rows: tokenizer(rows["text"], truncation=True, max_length=128), batched=True
        )

    def trimmed(self) -> World:
        """The same with the tokens of the reviews alone, for which the teacher's answers stay the same."""
        small = copy.copy(self)
        model, small.tokenizer = trim_vocabulary(self.teacher().cpu(), self.tokenizer, self.reviews["text"])
        small.source, small.collate = self.folder / "trimmed_teacher", DataCollatorWithPadding(small.tokenizer)
        model.save_pretrained(small.source)
        small.reviews, small.held_out = (
            small._encoded(rows.select_columns(["text", "labels"]), None) for rows in (self.reviews, self.held_out)
        )
        return small

    def teacher(self) -> nn.Module:
        return AutoModelForSequenceClassification.from_pretrained(self.source).to(self.device).eval()

    def student(self, shape: str) -> Callable[[], nn.Module]:
        teacher = self.teacher()
        initialization = "truncated" if shape.endswith(f"/{teacher.config.hidden_size}") else "embeddings"
        return lambda: create_student(shape, teacher, initialization)

    def labeled(self, rows: datasets.Dataset, name: str) -> tuple[datasets.Dataset, float]:
        """With the teacher's answers, and the seconds they took, files and everything."""
        folder = self.folder / name
        shutil.rmtree(folder, ignore_errors=True)
        teacher, begin = self.teacher(), now(self.device)
        labeled = label_transfer_set(rows, FrozenTeacher(teacher), self.tokenizer, folder, disable_tqdm=True)
        return labeled, now(self.device) - begin


def labeling(world: World, rounds: int, naive_rows: int) -> dict[str, Any]:
    """Sentences per second of both ways, in turn, and what is kept."""
    rows, ours, theirs = world.transfer_set, [], []
    sample = rows.select(range(min(naive_rows, len(rows))))
    for _ in range(rounds):
        labeled, seconds = world.labeled(rows, "transfer_set")
        ours.append(len(rows) / seconds)
        theirs.append(len(sample) / naive_seconds(world, sample))
        print(f"labeling: {ours[-1]:.0f} sentences/s, naive loop: {theirs[-1]:.0f}", flush=True)
    tokens = sum(map(len, labeled["input_ids"]))
    answers = labeled.select_columns(precomputed_columns(labeled.column_names)).data.nbytes
    files = sum(file.stat().st_size for file in (world.folder / "transfer_set").iterdir())
    ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
    return {
        "sentences": len(rows),
        "tokens": tokens,
        "sentences_per_second": {"label_transfer_set": ours, "naive_loop": theirs},
        "speedup": {"median": statistics.median(ratios), "rounds": ratios},
        "bytes_per_example": {"answers": answers / len(rows), "files": files / len(rows)},
        "bytes_per_token": {"answers": answers / tokens, "files": files / tokens},
    }


def naive_seconds(world: World, rows: datasets.Dataset) -> float:
    teacher, readable = world.teacher(), rows.select_columns(["input_ids", "attention_mask"])
    begin, logits = now(world.device), []
    with torch.no_grad():
        for start in range(0, len(rows), BATCH_SIZE):
            batch = world.collate(readable.select(range(start, min(start + BATCH_SIZE, len(rows)))).to_list())
            logits.append(teacher(**batch.to(world.device)).logits.cpu())
    assert len(torch.cat(logits)) == len(rows)
    return now(world.device) - begin


def epochs_in_turn(world: World, shape: str, rounds: int) -> dict[str, Any]:
    """Seconds of an epoch, from the first step to the last, of every way on the same batches."""
    labeled, label_seconds = world.labeled(world.reviews, "reviews")
    rows, student, device = world.reviews.remove_columns("text"), world.student(shape), world.device
    bf16 = fast_bfloat16(device)
    same = dict(
        num_train_epochs=1, bf16=bf16, train_sampling_strategy="sequential", use_cpu=device == "cpu",
        per_device_train_batch_size=BATCH_SIZE,
    )  # fmt: skip
    alone = world.teacher().to(torch.bfloat16 if bf16 else torch.float32)
    plain = Arguments(**quiet(world.folder, **same))
    ours = DistillationTrainingArguments(**quiet(world.folder, length_bucketing=False, **same))

    def seconds_of(make: Callable[..., Trainer], args: Arguments, dataset: datasets.Dataset, **more: Any) -> float:
        clock = StepClock(device)
        given = dict(train_dataset=dataset, data_collator=world.collate, callbacks=[clock])
        make(fresh(student, device), args, **given, **more).train()
        return clock.seconds

    ways: dict[str, Callable[[], float]] = {
        "plain_trainer": lambda: seconds_of(Trainer, plain, rows),
        "recorded_answers": lambda: seconds_of(DistillationTrainer, ours, labeled),
        "live_teacher": lambda: seconds_of(DistillationTrainer, ours, rows, teacher_model=alone),
        "documentation_recipe": lambda: seconds_of(DocumentationRecipe, plain, rows, teacher=alone),
    }
    if textbrewer_available():
        inputs = rows.remove_columns("labels")
        batches = [
            {name: value.to(device) for name, value in world.collate(inputs[start : start + BATCH_SIZE]).items()}
            for start in range(0, len(rows), BATCH_SIZE)
        ]
        ways["textbrewer"] = lambda: textbrewer_steps(fresh(student, device), alone, batches, world.folder, device)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, run in ways.items():
            seconds[name].append(run())
            if turn == 0:
                seconds[name].clear()  # warm-up
    plain_seconds = seconds["plain_trainer"]
    ratios = {
        name: [own / alone for own, alone in zip(found, plain_seconds, strict=True)] for name, found in seconds.items()
    }
    medians = {name: statistics.median(found) for name, found in seconds.items()}
    saved = medians["live_teacher"] - medians["recorded_answers"]
    return {
        "precision": "bfloat16" if bf16 else "float32",
        "rows": len(rows),
        "seconds_per_epoch": seconds,
        "ratio_to_plain": {
            name: {"median": statistics.median(found), "rounds": found} for name, found in ratios.items()
        },
        "labeling_seconds": label_seconds,
        "break_even_epoch": label_seconds / saved if saved > 0 else None,
    }


def whole_runs(world: World, shape: str, epochs: int) -> dict[str, Any]:
    """Seconds of labeling and all epochs with our defaults, and of the recipe with its own; accuracies of the students."""
    settings = dict(use_cpu=world.device == "cpu", num_train_epochs=epochs)

    def cached(whole: World) -> tuple[float, float, float]:
        labeled, label_seconds = whole.labeled(whole.reviews, "reviews")
        student = whole.student(shape)
        set_seed(0)
        args = DistillationTrainingArguments(**quiet(whole.folder, **settings))
        trainer = DistillationTrainer(student(), args, train_dataset=labeled, processing_class=whole.tokenizer)
        begin = now(whole.device)
        trainer.train()
        return label_seconds, label_seconds + now(whole.device) - begin, accuracy(trainer, whole.held_out)

    def recipe() -> tuple[float, float]:
        student = world.student(shape)
        set_seed(0)
        args, rows = Arguments(**quiet(world.folder, **settings)), world.reviews.remove_columns("text")
        trainer = DocumentationRecipe(
            student(), args, train_dataset=rows, teacher=world.teacher(), data_collator=world.collate
        )
        begin = now(world.device)
        trainer.train()
        return now(world.device) - begin, accuracy(trainer, world.held_out)

    begin = now(world.device)
    few_tokens = world.trimmed()
    trim_seconds = now(world.device) - begin
    label_seconds, ours, own_accuracy = cached(world)
    _, smaller, smaller_accuracy = cached(few_tokens)
    theirs, their_accuracy = recipe()
    return {
        "epochs": epochs,
        "labeling_seconds": label_seconds,
        "trimming_seconds": trim_seconds,
        "recorded_answers_seconds": ours,
        "trimmed_seconds": trim_seconds + smaller,
        "documentation_recipe_seconds": theirs,
        "speedup": theirs / ours,
        "speedup_trimmed": theirs / (trim_seconds + smaller),
        "accuracy": {
            "recorded_answers": own_accuracy, "trimmed": smaller_accuracy, "documentation_recipe": their_accuracy,
        },
    }  # fmt: skip


def accuracy(trainer: Trainer, rows: datasets.Dataset) -> float:
    """The share of rows whose label a trained student predicts."""
    predictor = Trainer(trainer.model, trainer.args, data_collator=trainer.data_collator)
    found = predictor.predict(rows.remove_columns("text"))
    return float((found.predictions.argmax(-1) == found.label_ids).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="where all models run")
    parser.add_argument("--teacher", type=Path, default=Path("outputs/all-MiniLM-L6-v2-movie-reviews"),
                        help="fine-tuned on the movie reviews, such as quality_movie_reviews.py leaves")  # fmt: skip
    parser.add_argument("--shape", nargs="+", default=["2/128", "3/384"], help="students, layers/hidden size")
    parser.add_argument("--rows", type=int, default=None, help="texts of either set; unset: all")
    parser.add_argument("--naive-rows", type=int, default=4000, help="texts that the naive loop is timed on")
    parser.add_argument("--rounds", type=int, default=3, help="rounds, of epochs after one warm-up")
    parser.add_argument("--epochs", type=int, default=10, help="epochs of the whole runs; 0 skips them")
    parser.add_argument("--folder", type=Path, default=Path("outputs/teacher_cache"), help="scratch folder")
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    world = World(options)
    content: dict[str, Any] = {
        "hardware": hardware_name(options.device),
        "versions": package_versions(),
        "teacher": public_name(options.teacher),
        "labeling": labeling(world, options.rounds, options.naive_rows),
    }
    for shape in options.shape:
        content[shape] = {"epoch": epochs_in_turn(world, shape, options.rounds)}
        print(shape, json.dumps(content[shape]["epoch"]["ratio_to_plain"]), flush=True)
        if options.epochs:
            content[shape]["whole_run"] = whole_runs(world, shape, options.epochs)
            print(shape, json.dumps(content[shape]["whole_run"]), flush=True)
        (RESULTS / f"teacher_cache_{options.device}.json").write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()

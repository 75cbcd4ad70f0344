"""Texts and a teacher for quality_trajectories.py: few labels, many texts, and the checkpoints of a teacher of 12 layers.

The teacher is an encoder without the tokens that the texts do not use, fine-tuned on the labeled rows, with 8 evenly spaced
checkpoints. Their outputs for the transfer set are computed once, for all ways of training and all seeds.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from quality_movie_reviews import arguments
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    PreTrainedModel,
)
from transformers.trainer_utils import set_seed

from hf_distill import (
    DistillationTrainer,
    DistillationTrainingArguments,
    FrozenTeacher,
    ProgressiveTrainer,
    ProgressiveTrainingArguments,
    label_transfer_set,
    label_with_trajectory,
)
from hf_distill.files import atomic_write
from hf_distill.pruning import trim_vocabulary
from hf_distill.resources.e5 import e5_path
from hf_distill.resources.minilm import minilm_path
from hf_distill.resources.sentiment import load_sentiment, load_transfer_set
from hf_distill.resources.wordnet import load_wordnet
from hf_distill.scripts.run import first_rows
from hf_distill.teachers.checkpoints import Checkpoint, find_checkpoints
from hf_distill.teachers.column_names import TEACHER_LOGITS, TEACHER_PROVENANCE, checkpoint_column, precomputed_columns

ENCODERS: dict[str, tuple[Callable[[], Any], str]] = {"e5": (e5_path, "query: "), "minilm": (minilm_path, "")}
CHECKPOINTS = 8
MIN_COUNT = 2  # tokens that the texts have less often are removed
ON_LABELS = {"soft_label_weight": 0.0, "hard_label_weight": 1.0}


@dataclass(frozen=True)
class TextTask:
    """Texts with labels by split, and a transfer set without labels.

    Attributes:
        load: Function that returns the splits and the transfer set, each in an order that may be cut anywhere.
        labeled: The number of labeled rows that teacher and students are trained on.
        texts: The number of texts of the transfer set.
        held_out: The most rows of the validation and of the test split.
        max_length: The length in tokens that texts are cut to.
        teacher_steps: Optimizer steps of the teacher.
        rates: The learning rates of the student to choose from.
    """

    load: Callable[[], tuple[datasets.DatasetDict, datasets.Dataset]]
    labeled: int
    texts: int
    held_out: int
    max_length: int
    teacher_steps: int
    teacher_rate: float = 5e-5
    rates: tuple[float, ...] = (1e-4, 3e-4)


def _reviews() -> tuple[datasets.DatasetDict, datasets.Dataset]:
    return load_sentiment(), load_transfer_set(["movie_reviews"]).shuffle(seed=0)


def _definitions() -> tuple[datasets.DatasetDict, datasets.Dataset]:
    splits = load_wordnet()
    return splits, splits["train"].select_columns("text")


TEXT_TASKS = {
    "reviews": TextTask(_reviews, labeled=500, texts=8445, held_out=2000, max_length=64, teacher_steps=160),
    "definitions": TextTask(_definitions, labeled=3000, texts=30000, held_out=3000, max_length=48, teacher_steps=400),
}


def starting_encoder(name: str, texts: Iterable[str], folder: Path) -> Path:
    """The folder of a pretrained encoder and its tokenizer without the tokens that the texts do not use."""
    if not (folder / "tokenizer.json").exists():
        source, _ = ENCODERS[name]
        path = source()
        model, tokenizer = AutoModel.from_pretrained(path), AutoTokenizer.from_pretrained(path)
        for part in trim_vocabulary(model, tokenizer, texts, MIN_COUNT):
            part.save_pretrained(folder)
    return folder


def answers_of(rows: datasets.Dataset, checkpoints: Sequence[int]) -> datasets.Dataset:
    """The rows with the precomputed outputs of these checkpoints alone, in the columns that the trainers read."""
    renamed = {}
    for place, index in enumerate(checkpoints):
        for of in (TEACHER_LOGITS, TEACHER_PROVENANCE):
            renamed[checkpoint_column(index, of)] = of if len(checkpoints) == 1 else checkpoint_column(place, of)
    dropped = [name for name in precomputed_columns(rows.column_names) if name not in renamed]
    moved = {old: new for old, new in renamed.items() if old != new}
    return rows.remove_columns(dropped).rename_columns(moved)


class TaughtTexts:
    """Rows, teacher and teacher outputs of a task, kept in a folder.

    Args:
        task: The task.
        folder: The folder.
        encoder: A key of `ENCODERS`, from which the teacher starts.

    Attributes:
        rows: Model inputs with labels by split; train are the labeled rows alone.
        texts: Model inputs of the transfer set.
    """

    def __init__(self, task: TextTask, folder: Path, encoder: str):
        self.task, self.folder, self.encoder = task, folder, encoder
        self.teacher_folder = folder / "teacher"
        raw, texts = task.load()
        self.names = raw["train"].features["label"].names
        texts = first_rows(texts, self.task.texts)
        prefix = ENCODERS[encoder][1]
        start = starting_encoder(encoder, (prefix + text for text in texts["text"]), self.folder / "start")
        self.start, self.tokenizer = start, AutoTokenizer.from_pretrained(start)
        limits = {"train": self.task.labeled, "validation": self.task.held_out, "test": self.task.held_out}
        self.rows = {name: self._tokenized(first_rows(raw[name], limit)) for name, limit in limits.items()}
        self.texts = self._tokenized(texts)

    def _tokenized(self, rows: datasets.Dataset) -> datasets.Dataset:
        prefix, length = ENCODERS[self.encoder][1], self.task.max_length
        return rows.map(
            lambda batch: self.tokenizer(
                [prefix + text for text in batch["text"]],
                truncation=True,
                max_length=length,
                return_token_type_ids=False,
            ),
            batched=True,
            remove_columns=[name for name in rows.column_names if name != "label"],
        )

    def trained(
        self, model: PreTrainedModel, rows: datasets.Dataset, steps: int, rate: float, seed: int, **more: Any
    ) -> None:
        """Train a model in place."""
        follows = "teacher_checkpoints" in more
        kind = ProgressiveTrainingArguments if follows else DistillationTrainingArguments
        args = arguments(self.folder / "run", steps, rate, seed, kind, **more)
        trainer = ProgressiveTrainer if follows else DistillationTrainer
        trainer(model, args, train_dataset=rows, processing_class=self.tokenizer).train()

    def is_right(self, model: PreTrainedModel, split: str) -> np.ndarray:
        """Whether the prediction for each row of a split is correct, bool (rows,)."""
        args = arguments(self.folder / "run", 1, 1e-4, 0, **ON_LABELS)
        trainer = DistillationTrainer(model, args, processing_class=self.tokenizer)
        found = trainer.predict(self.rows[split])
        return found.predictions.argmax(-1) == found.label_ids

    @cached_property
    def teacher(self) -> dict[str, Any]:
        """Steps, training losses and accuracies of the teacher's checkpoints; trains it unless it is there."""
        path = self.folder / "teacher.json"
        if not path.exists():
            shutil.rmtree(self.teacher_folder, ignore_errors=True)
            atomic_write(path, json.dumps(self._teach()))
        return json.loads(path.read_text())

    def _teach(self) -> dict[str, Any]:
        set_seed(0)
        names = dict(enumerate(self.names))
        model = AutoModelForSequenceClassification.from_pretrained(
            self.start, id2label=names, label2id={label: index for index, label in names.items()}
        )
        model.get_input_embeddings().requires_grad_(False)  # few labels move the few words that they have
        steps, every = self.task.teacher_steps, self.task.teacher_steps // CHECKPOINTS
        args = arguments(
            self.teacher_folder, steps, self.task.teacher_rate, 0, save_strategy="steps", save_steps=every,
            save_only_model=True, logging_steps=every, logging_first_step=True, **ON_LABELS,
        )  # fmt: skip
        trainer = DistillationTrainer(model, args, train_dataset=self.rows["train"], processing_class=self.tokenizer)
        trainer.train()
        losses = {entry["step"]: entry["loss"] for entry in trainer.state.log_history if "loss" in entry}
        validation = [
            float(self.is_right(self.checkpoint_model(index), "validation").mean()) for index in range(CHECKPOINTS)
        ]
        return {
            "steps": [checkpoint.step for checkpoint in self.checkpoints],
            "training_losses": list(losses.values()),  # of the first step, then the means up to each checkpoint
            "validation": validation,
            "test": float(self.is_right(model, "test").mean()),
            "parameters": model.num_parameters(),
        }

    @cached_property
    def checkpoints(self) -> list[Checkpoint]:
        """The teacher's checkpoints, oldest first."""
        return find_checkpoints(str(self.teacher_folder))

    def checkpoint_model(self, index: int) -> PreTrainedModel:
        return AutoModelForSequenceClassification.from_pretrained(self.checkpoints[index].folder)

    def labeled_by(self, model: PreTrainedModel) -> datasets.Dataset:
        """The transfer set with the outputs of one model."""
        return label_transfer_set(self.texts, FrozenTeacher(model), **self._labeling)

    @cached_property
    def labeled_by_checkpoints(self) -> datasets.Dataset:
        """The transfer set with the outputs of every checkpoint."""
        whole = self.folder / "labeled_by_checkpoints"
        if not whole.exists():
            teachers = (FrozenTeacher(self.checkpoint_model(index)) for index in range(CHECKPOINTS))
            labeled = label_with_trajectory(self.texts, teachers, **self._labeling)
            labeled.save_to_disk(partial := whole.with_suffix(".partial"))
            partial.rename(whole)
        return datasets.load_from_disk(whole)

    @property
    def _labeling(self) -> dict[str, Any]:
        collator = DataCollatorWithPadding(self.tokenizer)
        return {"data_collator": collator, "cache_folder": self.folder / "teacher_outputs", "disable_tqdm": True}

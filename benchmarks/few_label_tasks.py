"""Tasks with few labels and much text, each with a teacher, its outputs and three kinds of students.

reviews      movie reviews, 2 classes: 500 labeled, 8,445 texts
definitions  WordNet, 45 classes: 3,000 labeled, 10,000 texts
words        Brown corpus, 12 parts of speech: 200 labeled sentences, 10,000 sentences
digits       handwritten digits, 10 classes: 150 labeled, all training images
reviews_e5, definitions_e5, words_e5, digits_12   the same with a teacher of 12 layers

The teacher of texts and words is all-MiniLM-L6-v2 (6 layers of 384), or multilingual-e5-small (12 layers of 384), both
without the tokens that the texts do not have; of digits a ViT of 4 layers of 128 or 12 layers of 64 from random weights.
All are fine-tuned on the labeled rows, which are part of the transfer set.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from quality_movie_reviews import arguments
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
    DefaultDataCollator,
    EvalPrediction,
    PreTrainedModel,
    ViTConfig,
    ViTForImageClassification,
)
from transformers.trainer_utils import set_seed

from hf_distill import DistillationTrainer, FrozenTeacher, create_student, label_transfer_set
from hf_distill.pruning import trim_vocabulary
from hf_distill.resources.brown import load_brown
from hf_distill.resources.digits import load_digits_dataset
from hf_distill.resources.e5 import e5_path
from hf_distill.resources.minilm import minilm_path
from hf_distill.resources.sentiment import load_sentiment, load_transfer_set
from hf_distill.resources.wordnet import load_wordnet

MAX_LENGTH = 64
ON_LABELS = {"soft_label_weight": 0.0, "hard_label_weight": 1.0}
NO_LABEL = -100
LABELED, TRANSFER, EVALUATION = "labeled", "transfer", ("validation", "test")


def accuracy(prediction: EvalPrediction) -> dict[str, float]:
    """Share of right labels, positions without one left out."""
    predicted, labels = prediction.predictions.argmax(-1), prediction.label_ids
    return {"accuracy": float(np.mean((predicted == labels)[labels != NO_LABEL]))}


class Task(ABC):
    """A task: its splits as model inputs, a teacher and students.

    Attributes:
        kinds: Shape and initialization of each kind of student.
        marks_words: Whether labels of the transfer set are no classes, but mark the words.
        splits: Model inputs of labeled, transfer, validation and test rows.
    """

    kinds: dict[str, tuple[str, str]]
    teacher_class: type
    teacher_steps: int
    teacher_rate: float
    marks_words = False
    splits: dict[str, datasets.Dataset]
    shared: dict[str, Any]  # collator and processing class, for teacher and students

    def __init__(self, folder: Path):
        self.folder = folder

    @abstractmethod
    def untrained_teacher(self) -> PreTrainedModel:
        """The teacher before it is fine-tuned."""

    def student(self, kind: str, layers: str = "bottom") -> PreTrainedModel:
        """A student before training."""
        shape, initialization = self.kinds[kind]
        return create_student(shape, self.teacher, initialization, layers=layers)

    @cached_property
    def teacher(self) -> PreTrainedModel:
        """The teacher, fine-tuned on the labeled rows unless that was done before."""
        folder = self.folder / "teacher"
        if not (folder / "config.json").exists():
            set_seed(0)
            trainer = self.trainer(
                self.untrained_teacher(), self.splits[LABELED], self.teacher_steps, self.teacher_rate, 0, **ON_LABELS
            )
            trainer.train()
            trainer.save_model(folder)
        return self.teacher_class.from_pretrained(folder)

    @cached_property
    def transfer_set(self) -> datasets.Dataset:
        """The transfer set with the teacher's outputs."""
        return self.with_outputs(self.splits[TRANSFER])

    @cached_property
    def with_labels(self) -> datasets.Dataset:
        """The labeled rows with their labels, and the transfer set without, all with the teacher's outputs."""
        labeled, others = self.splits[LABELED], self.splits[TRANSFER]
        (name,) = {"label", "labels"} & set(labeled.column_names)
        labeled = labeled.cast_column(name, datasets.Value("int64"))
        others = others.add_column(name, [NO_LABEL] * len(others), feature=datasets.Value("int64"))
        return self.with_outputs(datasets.concatenate_datasets([labeled, others]))

    def with_outputs(self, rows: datasets.Dataset) -> datasets.Dataset:
        """Model inputs with the teacher's outputs, which are computed once."""
        return label_transfer_set(
            rows, FrozenTeacher(self.teacher), self.shared["data_collator"], cache_folder=self.folder / "labeled",
            disable_tqdm=True,
        )  # fmt: skip

    def trainer(
        self, model: PreTrainedModel, rows: Any, steps: int, rate: float, seed: int, **more: Any
    ) -> DistillationTrainer:
        """A trainer of a teacher or student."""
        args = arguments(self.folder / "run", steps, rate, seed, **more)
        return DistillationTrainer(model, args, train_dataset=rows, compute_metrics=accuracy, **self.shared)

    def scores(self, trainer: DistillationTrainer) -> dict[str, float]:
        """Accuracy by split."""
        return {split: trainer.evaluate(self.splits[split])["eval_accuracy"] for split in EVALUATION}

    def teacher_scores(self) -> dict[str, float]:
        """Accuracy of the teacher by split."""
        return self.scores(self.trainer(self.teacher, None, 1, 1e-4, 0, **ON_LABELS))


class Texts(Task):
    """A task for an encoder of texts.

    Attributes:
        encoder_path: The function that returns the encoder's folder.
        prefix: What every text begins with.
        raw: The splits before tokenization.
        classes: The number of classes.
    """

    kinds = {"truncated": ("2/384", "truncated"), "embeddings": ("2/128", "embeddings"), "random": ("2/128", "random")}
    teacher_class = AutoModelForSequenceClassification
    teacher_rate = 5e-5
    encoder_path: Callable[[], Path] = staticmethod(minilm_path)
    prefix = ""
    collator: type = DataCollatorWithPadding
    raw: dict[str, datasets.Dataset]
    classes: int

    def __init__(self, folder: Path):
        super().__init__(folder)
        self.encoder = folder / "encoder"
        if not (self.encoder / "config.json").exists():
            path = self.encoder_path()
            whole = AutoModel.from_pretrained(path), AutoTokenizer.from_pretrained(path)
            for part in trim_vocabulary(*whole, chain.from_iterable(map(self.texts, self.raw.values()))):
                part.save_pretrained(self.encoder)
        self.tokenizer = AutoTokenizer.from_pretrained(self.encoder)
        self.shared = {"processing_class": self.tokenizer, "data_collator": self.collator(self.tokenizer)}
        self.splits = {split: self.encoded(rows) for split, rows in self.raw.items()}

    def texts(self, rows: Mapping[str, Any]) -> list[str]:
        """The texts of a split, as the encoder reads them."""
        return [self.prefix + text for text in rows["text"]]

    def encoded(self, rows: datasets.Dataset) -> datasets.Dataset:
        """Model inputs of a split."""
        return rows.map(
            lambda batch: self.tokenizer(self.texts(batch), truncation=True, max_length=MAX_LENGTH), batched=True,
            remove_columns=[name for name in rows.column_names if name != "label"],
        )  # fmt: skip

    def untrained_teacher(self) -> PreTrainedModel:
        return self.teacher_class.from_pretrained(self.encoder, num_labels=self.classes)


class Reviews(Texts):
    teacher_steps, classes = 150, 2

    def __init__(self, folder: Path):
        raw = load_sentiment()
        self.raw = {
            LABELED: raw["train"].shuffle(seed=0).select(range(500)),
            TRANSFER: load_transfer_set(["movie_reviews"]),
        }
        self.raw |= {split: raw[split] for split in EVALUATION}
        super().__init__(folder)


class Definitions(Texts):
    teacher_steps, teacher_rate, classes = 600, 1e-4, 45

    def __init__(self, folder: Path):
        raw = load_wordnet()
        self.raw = {LABELED: raw["train"].select(range(3000)), TRANSFER: raw["train"].select(range(10000))}
        self.raw[TRANSFER] = self.raw[TRANSFER].remove_columns("label")
        self.raw |= {split: raw[split].select(range(5000)) for split in EVALUATION}
        super().__init__(folder)


class Words(Texts):
    teacher_class = AutoModelForTokenClassification
    teacher_steps, teacher_rate, classes = 300, 1e-4, 12
    collator = DataCollatorForTokenClassification
    marks_words = True

    def __init__(self, folder: Path):
        raw = load_brown()
        self.raw = {LABELED: raw["train"].select(range(200)), TRANSFER: raw["train"].select(range(10000))}
        self.raw[TRANSFER] = self.raw[TRANSFER].remove_columns("tags")
        self.raw |= {split: raw[split].select(range(1000)) for split in EVALUATION}
        super().__init__(folder)

    def texts(self, rows: Mapping[str, Any]) -> list[str]:
        return [" ".join(words) for words in rows["words"]]

    def encoded(self, rows: datasets.Dataset) -> datasets.Dataset:
        def encode(batch: dict[str, Any]) -> Any:
            inputs = self.tokenizer(batch["words"], is_split_into_words=True, truncation=True, max_length=MAX_LENGTH)
            words = [inputs.word_ids(index) for index in range(len(batch["words"]))]
            first = [
                [now is not None and now != before for before, now in zip([None, *ids], ids, strict=False)]
                for ids in words
            ]
            tags = batch.get("tags") or [[0] * len(each) for each in batch["words"]]  # marks positions to distill at
            inputs["labels"] = [
                [of_row[word] if is_first else NO_LABEL for word, is_first in zip(ids, firsts, strict=True)]
                for of_row, ids, firsts in zip(tags, words, first, strict=True)
            ]
            return inputs

        return rows.map(encode, batched=True, remove_columns=rows.column_names)


class OfE5(Texts):
    """A task whose teacher is multilingual-e5-small."""

    kinds = {
        "6 layers": ("6/384", "truncated"),
        "4 layers": ("4/384", "truncated"),
        "2 layers": ("2/384", "truncated"),
        "embeddings": ("2/128", "embeddings"),
    }
    encoder_path = staticmethod(e5_path)
    prefix = "query: "

    def untrained_teacher(self) -> PreTrainedModel:
        model = super().untrained_teacher()
        model.get_input_embeddings().requires_grad_(False)  # the labeled rows have few of the words
        return model


class ReviewsOfE5(OfE5, Reviews):
    teacher_steps = 200


class DefinitionsOfE5(OfE5, Definitions):
    pass


class WordsOfE5(OfE5, Words):
    prefix = ""


class Digits(Task):
    kinds = {"truncated": ("1/128", "truncated"), "width": ("2/64", "width"), "random": ("2/64", "random")}
    teacher_class = ViTForImageClassification
    teacher_steps, teacher_rate = 600, 1e-3
    teacher_shape = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 4}

    def __init__(self, folder: Path):
        super().__init__(folder)
        raw = load_digits_dataset()
        raw = {name: split.rename_column("label", "labels").with_format("torch") for name, split in raw.items()}
        self.splits = {LABELED: raw["train"].shuffle(seed=0).select(range(150))}
        self.splits |= {TRANSFER: raw["train"].remove_columns("labels")} | {name: raw[name] for name in EVALUATION}
        self.shared = {"data_collator": DefaultDataCollator()}

    def untrained_teacher(self) -> PreTrainedModel:
        config = ViTConfig(
            image_size=8, patch_size=2, num_channels=1, num_labels=10, num_attention_heads=4, **self.teacher_shape
        )  # fmt: skip
        return ViTForImageClassification(config)


class DigitsOf12Layers(Digits):
    kinds = {"truncated": ("2/64", "truncated"), "random": ("2/64", "random")}
    teacher_shape = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 12}


TASKS: dict[str, type[Task]] = {
    "reviews": Reviews,
    "definitions": Definitions,
    "words": Words,
    "digits": Digits,
    "reviews_e5": ReviewsOfE5,
    "definitions_e5": DefinitionsOfE5,
    "words_e5": WordsOfE5,
    "digits_12": DigitsOf12Layers,
}

"""What the training of a student is made of: rows, the model that it starts from, and its teacher."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from datasets import Dataset
from transformers import PreTrainedModel


@dataclass(frozen=True)
class TrainingMaterial:
    """The rows and models of a training.

    Attributes:
        splits: The raw rows by split, for comparisons and for the control on labels.
        held_out: A sentence that says which rows were held out for evaluation; None: no rows were.
        trained_on: The rows by split that the trainer's data sets are made of, raw or encoded.
        source: The model that the student is created from.
        processing_class: The tokenizer or image processor of that model and of the student.
        teacher: The teacher. None: its outputs are in the rows.
    """

    splits: Mapping[str, Dataset]
    held_out: str | None
    trained_on: Mapping[str, Dataset]
    source: PreTrainedModel
    processing_class: Any
    teacher: PreTrainedModel | None

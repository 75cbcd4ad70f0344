"""Inputs for a teacher with a tokenizer of its own: each example is encoded once per model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import datasets
import torch

from hf_distill.teachers.column_names import precomputed_columns

TEACHER_PREFIX = "teacher_"


def teacher_prefix(index: int, teachers: int) -> str:
    """Prefix of the columns that hold a teacher's own inputs: "teacher_" for a single teacher, else "teacher0_", ..."""
    return TEACHER_PREFIX if teachers == 1 else f"teacher{index}_"


def encode_for_teacher(
    dataset: datasets.Dataset,
    processing_class: Callable,
    columns: str | Sequence[str],
    prefix: str = TEACHER_PREFIX,
    **options: Any,
) -> datasets.Dataset:
    """Add the teacher's own encoding of raw columns, which `DistillationTrainer(teacher_processing_class=...)` reads.

    Args:
        dataset: Rows with the raw columns: texts, or images for an image processor.
        processing_class: The teacher's tokenizer or image processor.
        columns: One raw column, or two for pairs of texts; a missing text counts as an empty one.
        prefix: The prefix of the new columns' names, as in `teacher_input_ids`; "teacher0_", "teacher1_", ... for several
            teachers.
        **options: Keyword arguments of the processing class; of a tokenizer `truncation=True` unless given.

    Returns:
        The rows with more columns.

    Raises:
        ValueError: A column does not exist.
    """
    columns = [columns] if isinstance(columns, str) else list(columns)
    missing = sorted(set(columns) - set(dataset.column_names))
    if missing:
        raise ValueError(f"the dataset has no columns {missing}, it has {dataset.column_names}")
    for_texts = hasattr(processing_class, "pad")
    if for_texts:
        options = {"truncation": True} | options

    def encode(rows: dict[str, list]) -> dict[str, list]:
        raw = (rows[column] for column in columns)
        encoded = processing_class(*([text or "" for text in texts] for texts in raw) if for_texts else raw, **options)
        return {prefix + name: list(values) for name, values in encoded.items()}

    bar = {"desc": "Tokenizing"} if isinstance(dataset, datasets.Dataset) else {}  # streams have none
    return dataset.map(encode, batched=True, **bar)


class SeparateEncodings:
    """A data collator that adds each teacher's own inputs to the student's.

    Args:
        data_collator: The collator of the student's inputs.
        processing_classes: Each teacher's tokenizer, which pads its inputs, or image processor, whose inputs are stacked, by
            the prefix of the teacher's columns.
    """

    def __init__(self, data_collator: Callable[[list[dict]], dict], processing_classes: Mapping[str, Any]):
        self.data_collator, self.processing_classes = data_collator, dict(processing_classes)

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        """Make one batch of model inputs.

        Args:
            examples: The rows of the batch.

        Returns:
            The student's inputs, and each teacher's with the prefix of its columns.

        Raises:
            ValueError: The examples lack a teacher's encoding.
        """
        batch: dict[str, Any] = {}
        rest = [dict(example) for example in examples]
        for prefix, processing_class in self.processing_classes.items():
            outputs = precomputed_columns(rest[0])
            names = [name for name in rest[0] if name.startswith(prefix) and name not in outputs]
            if not names:
                raise ValueError(
                    f"teacher_processing_class was given, but the examples have no columns that start with {prefix!r} "
                    f"(they have {sorted(examples[0])}); add them with encode_for_teacher"
                )
            own = [{name.removeprefix(prefix): example.pop(name) for name in names} for example in rest]
            if hasattr(processing_class, "pad") and "input_ids" in own[0]:
                encoded = processing_class.pad(own, return_tensors="pt")
            else:
                encoded = {name: torch.stack([torch.as_tensor(row[name]) for row in own]) for name in own[0]}
            batch |= {prefix + name: values for name, values in encoded.items()}
        return dict(self.data_collator(rest)) | batch

"""Checks of columns: labels and precomputed teacher outputs for the student's own classes and vocabulary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from torch import nn

from hf_distill.data.arrow_columns import lists_of_numbers
from hf_distill.objectives.reduction import IGNORE_INDEX
from hf_distill.precomputed.provenance import provenances
from hf_distill.tasks import Task, class_of, unwrapped
from hf_distill.teachers.column_names import TEACHER_CLASSES, TEACHER_LOGITS, precomputed_columns


def require_precomputed_vocabulary(named_sets: Mapping[str, Any], student: nn.Module) -> None:
    """Refuse precomputed teacher outputs for token ids beyond the student's vocabulary.

    Args:
        named_sets: The data sets, by name.
        student: The student, or its wrapper.

    Raises:
        ValueError: A token id is too large; names the row, the token id and the vocabulary's size.
    """
    words = getattr(getattr(unwrapped(student), "config", None), "vocab_size", None)
    for name, dataset in named_sets.items() if words else ():
        for number_of, classes in lists_of_numbers(dataset, TEACHER_CLASSES, depth=2):
            by_item = pc.list_flatten(classes)
            highest = pc.max(pc.list_flatten(by_item)).as_py()
            if highest is not None and highest >= words:
                item = pc.list_parent_indices(by_item)[pc.index(pc.list_flatten(by_item), highest).as_py()].as_py()
                row = number_of(pc.list_parent_indices(classes)[item].as_py())
                raise ValueError(
                    f"the precomputed teacher outputs of row {row} of {name} hold token id {highest}, but the student has {words} tokens: label "
                    "the rows with processing_class given, which leaves out ids that stand for no token, or with a teacher "
                    "of the student's vocabulary"
                )


def require_precomputed_classes(named_sets: Mapping[str, Any], student: nn.Module, task: Task | None) -> None:
    """Refuse precomputed logits of a classifier that are not one per class of the student in every row.

    Args:
        named_sets: The data sets, by name; those with a provenance are not checked here.
        student: The student, or its wrapper.
        task: The task of its head; other tasks than classification of texts and images are not checked.

    Raises:
        ValueError: A row has another number of logits; names the row, its number and the number of classes.
    """
    config = getattr(unwrapped(student), "config", None)
    if task not in (Task.SEQUENCE_CLASSIFICATION, Task.IMAGE_CLASSIFICATION) or config is None:
        return
    for name, dataset in named_sets.items():
        if provenances(dataset):  # which name the teacher's labels, and are checked first
            continue
        columns = [each for each in precomputed_columns(columns_of({name: dataset})) if each.startswith(TEACHER_LOGITS)]
        for column in columns:
            for number_of, logits in lists_of_numbers(dataset, column, of=pa.types.is_floating):
                sizes = pc.fill_null(pc.list_value_length(logits), 0).to_numpy()
                for row in np.flatnonzero(sizes != config.num_labels)[:1]:
                    raise ValueError(
                        f"row {number_of(row)} of {name} has {sizes[row]} numbers in its column {column!r}, but the student "
                        f"has {config.num_labels} classes; every row needs one logit per class"
                    )


def require_known_classes(named_sets: Mapping[str, Any], model: nn.Module, task: Task | None) -> None:
    """Refuse labels that are no class of a classifier; only columns of integers are checked.

    Args:
        named_sets: The data sets, by name.
        model: The classifier, or its wrapper.
        task: The task of its head; other tasks than classification are not checked.

    Raises:
        ValueError: A label is no class; names the data set, the label and the range of classes.
    """
    config = getattr(unwrapped(model), "config", None)
    kinds = (Task.SEQUENCE_CLASSIFICATION, Task.IMAGE_CLASSIFICATION, Task.TOKEN_CLASSIFICATION)
    if task not in kinds or config is None or config.num_labels < 2:
        return
    depth = 1 if task is Task.TOKEN_CLASSIFICATION else 0
    for name, dataset in named_sets.items():
        for column in sorted({"labels", "label"} & set(columns_of({name: dataset}))):
            if depth == 0 and getattr((dataset.features or {}).get(column), "dtype", None) == "string":
                raise ValueError(
                    f"{name} has strings in its column {column!r}, a model learns from the numbers of classes: encode them, "
                    f"for example with dataset.class_encode_column({column!r})"
                )
            for number_of, labels in lists_of_numbers(dataset, column, depth):
                if labels.null_count:
                    row = number_of(labels.is_null().index(True).as_py())
                    raise ValueError(
                        f"row {row} of {name} has no value in its column {column!r}; give it {IGNORE_INDEX}"
                    )
                values = pc.list_flatten(labels) if depth else labels
                counted = pc.min_max(values.filter(pc.not_equal(values, IGNORE_INDEX))).as_py()
                if counted["min"] is not None and not 0 <= counted["min"] <= counted["max"] < config.num_labels:
                    wrong = counted["min"] if counted["min"] < 0 else counted["max"]
                    raise ValueError(
                        f"{name} has the label {wrong} in its column {column!r}, but the {class_of(model).__name__} has the "
                        f"classes 0 to {config.num_labels - 1}; {IGNORE_INDEX} is not counted. Create the model with "
                        "num_labels of the data, or encode the labels anew."
                    )


def columns_of(named_sets: Mapping[str, Any]) -> set[str]:
    """The names of all columns of the data sets, as far as they are known."""
    return {name for dataset in named_sets.values() for name in getattr(dataset, "column_names", None) or ()}

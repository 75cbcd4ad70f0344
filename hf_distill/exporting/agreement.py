"""How far the predictions of an exported model equal those of the model it was exported from."""

from __future__ import annotations

from typing import Any

import numpy as np
from datasets import Dataset, Value
from transformers import PreTrainedModel

from hf_distill.data.class_names import label_names
from hf_distill.data.sequences import text_columns
from hf_distill.evaluation.embeddings import normalized
from hf_distill.evaluation.predictions import Predictions
from hf_distill.tasks import Task, problem_type_of, task_of


class AgreementError(ValueError):
    """An export whose predictions differ too often from the model's."""


def agreement(reference: Predictions, found: Predictions, task: Task | None) -> float:
    """The agreement of two models' predictions of the same rows.

    Args:
        reference: The predictions of the model in single precision.
        found: The predictions of the export.
        task: The task of the models.

    Returns:
        The share of equal predictions (of examples, words or answers); for regression the coefficient of determination
        of the export's numbers, 1 where they are equal; for embeddings their mean cosine similarity.
    """
    if task is Task.SENTENCE_EMBEDDING and reference.logits is not None and found.logits is not None:
        return float((normalized(reference.logits) * normalized(found.logits)).sum(axis=1).mean())
    if found.is_correct is not None:
        return float((reference.predictions == found.predictions).mean())
    residual = np.mean((found.predictions - reference.predictions) ** 2)
    return float(1 - residual / max(np.var(reference.predictions), np.finfo(np.float32).tiny))


def largest_difference(reference: Predictions, found: Predictions) -> float | None:
    """The largest absolute difference of two models' logits; None for question answering."""
    if reference.logits is None or found.logits is None:
        return None
    return float(np.abs(reference.logits - found.logits).max())


def with_labels(rows: Dataset, model: PreTrainedModel) -> tuple[Dataset, bool]:
    """Rows that can be predicted, of texts or images without labels too.

    Args:
        rows: The raw rows.
        model: The model that predicts them.

    Returns:
        The rows, with a placeholder as label if a classifier's rows have none, and whether they can be scored; single texts of
        a sentence encoder cannot.
    """
    task = task_of(model)
    if task is Task.SENTENCE_EMBEDDING:
        return rows, len(text_columns(rows.features)) == 2
    if task not in (Task.SEQUENCE_CLASSIFICATION, Task.IMAGE_CLASSIFICATION) or {"label", "labels"} & {*rows.features}:
        return rows, True
    label: Any = 0.0 if problem_type_of(model.config) == "regression" else label_names(model.config)[0]
    feature = Value("float32" if isinstance(label, float) else "string")
    return rows.add_column("label", [label] * len(rows), feature=feature), False

"""The F1 of each class, or type of entity: where a model is weak, and where a student loses to its teacher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_distill.extras import require_extra
from hf_distill.tasks import Task

if TYPE_CHECKING:
    from rich.table import Table

_MOST = 100  # classes; the scores of more are not kept
NO_CLASSES = f"No F1 of each class: it is that of classifiers with 3 to {_MOST} classes, and of taggers of entities."


def class_scores(labels: np.ndarray, predictions: np.ndarray, names: Sequence[str]) -> list[dict[str, Any]]:
    """The F1 of each class.

    Args:
        labels: The correct classes, (items,).
        predictions: The predicted classes, (items,).
        names: The names of the classes.

    Returns:
        For each class that is a label of some item, its `name`, the number of its `examples`, and its `f1`, in [0, 1]; empty
        for two classes, whose errors are each other's, and for more than 100.
    """
    if not 2 < len(names) <= _MOST:
        return []
    require_extra("sklearn", "eval", "the F1 of each class")
    from sklearn.metrics import precision_recall_fscore_support

    every = range(len(names))
    *_, f1, examples = precision_recall_fscore_support(labels, predictions, labels=every, zero_division=0)
    return [{"name": names[i], "examples": int(examples[i]), "f1": float(f1[i])} for i in every if examples[i]]


def rows_of_classes(evaluation: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """The cells of a table with the F1 of each class in percent, one column per model.

    Args:
        evaluation: The comparison, see `compare`.
        rows: The rows of the comparison that are the columns of the table.

    Returns:
        The headings, and the cells of each class: its name, the number of its examples, and the F1 of each model. Empty if some
        model has no scores of classes.
    """
    scores = [{each["name"]: each for each in row.get("by_class", ())} for row in rows]
    if not all(scores):
        return []
    is_of_words = evaluation["task"] == Task.TOKEN_CLASSIFICATION.value
    of_what, items = (
        ("type", "entities") if evaluation["metric"] == "f1" else ("class", "words" if is_of_words else "examples")
    )
    headings = [of_what, items, *(row["name"] for row in rows)]
    return [
        headings,
        *([name, f"{each['examples']:,}", *_percentages(name, scores)] for name, each in scores[0].items()),
    ]


def _percentages(name: str, scores: Sequence[Mapping[str, Any]]) -> list[str]:
    return [f"{100 * of_model[name]['f1']:.1f}" if name in of_model else "" for of_model in scores]


def class_table(evaluation: Mapping[str, Any]) -> Table | None:
    """The table of the F1 of each class by each model of a comparison, for a terminal; None if there are no scores of classes."""
    from hf_distill.evaluation.fitted_table import FittedColumn, FittedTable

    cells = rows_of_classes(evaluation, evaluation["rows"])
    if not cells:
        return None
    columns = [
        FittedColumn(heading, values, "left" if index == 0 else "right")
        for index, (heading, *values) in enumerate(zip(*cells, strict=True))
    ]
    return FittedTable(columns, f"F1 % of each {cells[0][0]}")

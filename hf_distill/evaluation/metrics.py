"""The metrics of the GLUE tasks, computed locally: nothing is downloaded from the Hub."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache

import numpy as np
from transformers import EvalPrediction

from hf_distill.extras import require_extra
from hf_distill.objectives.reduction import IGNORE_INDEX

# The metrics of `hf-distill evaluate`, for which no GLUE task is given; models are compared by the first one.
CLASSIFICATION_METRICS = ("accuracy", "f1_macro", "matthews_correlation")
REGRESSION_METRICS = ("pearson", "spearmanr", "mse")
_OF_TASK = {
    "cola": ("matthews_correlation",),
    "mnli": ("accuracy",),
    "mnli_matched": ("accuracy",),
    "mnli_mismatched": ("accuracy",),
    "mrpc": ("accuracy", "f1"),
    "qnli": ("accuracy",),
    "qqp": ("accuracy", "f1"),
    "rte": ("accuracy",),
    "sst2": ("accuracy",),
    "stsb": ("pearson", "spearmanr"),
    "wnli": ("accuracy",),
}


@cache
def _functions() -> dict[str, Callable[[np.ndarray, np.ndarray], float]]:
    """Metrics of labels and predictions, by name."""
    require_extra("sklearn", "eval", "a metric of an evaluation")  # which brings SciPy
    from scipy.stats import pearsonr, spearmanr
    from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef, mean_squared_error

    return {
        "accuracy": accuracy_score,
        "f1": f1_score,
        "f1_macro": lambda labels, predicted: f1_score(labels, predicted, average="macro"),
        "matthews_correlation": matthews_corrcoef,
        "mse": mean_squared_error,
        "pearson": lambda labels, predicted: pearsonr(labels, predicted).statistic,
        "spearmanr": lambda labels, predicted: spearmanr(labels, predicted).statistic,
    }


def perplexity(metrics: Mapping[str, float], prefix: str = "eval") -> float:
    """The perplexity over predicted tokens: e to the loss on the labels, or to the whole loss where there is no other term.

    Args:
        metrics: The metrics of an evaluation of a language model.
        prefix: The beginning of their names.

    Returns:
        The perplexity, infinite where it is too large for a float.
    """
    own = f"{prefix}_hard_label_loss"
    loss = metrics[own if own in metrics else f"{prefix}_loss"]
    return math.exp(loss) if loss < 700 else math.inf


def compute_metrics(names: Sequence[str], labels: np.ndarray, predictions: np.ndarray) -> dict[str, float]:
    """Compute metrics by name.

    Args:
        names: The metrics: accuracy, f1 (of class 1), f1_macro (mean over classes), matthews_correlation, mse, pearson or
            spearmanr.
        labels: The correct classes or numbers, (examples,).
        predictions: The predicted classes or numbers, (examples,).

    Returns:
        The values by name.
    """
    return {name: float(_functions()[name](labels, predictions)) for name in names}


def metrics_of_task(task_name: str | None) -> tuple[str, ...]:
    """The metrics of a GLUE task.

    Args:
        task_name: The task's name in the datasets library, such as "sst2".

    Returns:
        The names of the metrics, as `compute_metrics` takes them.

    Raises:
        ValueError: There is no such task.
    """
    if task_name not in _OF_TASK:
        raise ValueError(f"task_name must be one of {sorted(_OF_TASK)}, got {task_name!r}")
    return _OF_TASK[task_name]


def glue_metric(task_name: str | None) -> Callable[[EvalPrediction], dict[str, float]]:
    """The metric of a GLUE task, to be passed to a trainer as `compute_metrics`.

    Args:
        task_name: The name of a GLUE task in the datasets library. None: any other task, evaluated by accuracy, or by
            mean squared error if the model has one output.

    Returns:
        A function of an evaluation's predictions (examples, classes), or (examples,) for regression, and labels
        (examples,). The keys of its result are those of the Hub's "glue" metric. Class labels of -100 are ignored; the
        result is empty if there are no others.

    Raises:
        ValueError: There is no such task.
        ImportError: scikit-learn is not installed.

    Source:
        Wang et al. 2019, arXiv 1804.07461, table 1.
    """
    of_task = None if task_name is None else metrics_of_task(task_name)
    _functions()  # a missing package is reported here, before a training rather than after it

    def compute(evaluation: EvalPrediction) -> dict[str, float]:
        # Models that also return hidden states or attentions give a tuple, logits first.
        first = evaluation.predictions[0] if isinstance(evaluation.predictions, tuple) else evaluation.predictions
        logits, labels = np.asarray(first), np.asarray(evaluation.label_ids)
        is_regression = logits.ndim == 1 or logits.shape[-1] == 1
        if is_regression:
            predicted, labels = logits.reshape(-1), labels.reshape(-1)
        else:
            counted = labels != IGNORE_INDEX
            predicted, labels = logits.argmax(axis=-1)[counted], labels[counted]
        if not len(labels):
            return {}
        return compute_metrics(of_task or ("mse" if is_regression else "accuracy",), labels, predicted)

    return compute

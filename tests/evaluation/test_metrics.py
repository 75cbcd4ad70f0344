"""GLUE metrics against values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from transformers import EvalPrediction

from hf_distill.evaluation.metrics import glue_metric

# Predicted classes 1, 1, 0, 0: one true positive, one false positive, two true negatives.
LOGITS = np.array([[0.0, 1.0], [-1.0, 2.0], [3.0, 1.0], [0.5, 0.0]])
LABELS = np.array([1, 0, 0, 0])
# Deviations from the mean: -1.75, 0.25, -0.75, 2.25 and -1.5, -0.5, 0.5, 1.5; ranks 1, 3, 2, 4 and 1, 2, 3, 4.
SCORES = np.array([[1.0], [3.0], [2.0], [5.0]])
RATINGS = np.array([1.0, 2.0, 3.0, 4.0])


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ("cola", {"matthews_correlation": 2 / math.sqrt(2 * 1 * 3 * 2)}),
        ("mnli", {"accuracy": 0.75}),
        ("mnli_matched", {"accuracy": 0.75}),
        ("mnli_mismatched", {"accuracy": 0.75}),
        ("mrpc", {"accuracy": 0.75, "f1": 2 / 3}),
        ("qnli", {"accuracy": 0.75}),
        ("qqp", {"accuracy": 0.75, "f1": 2 / 3}),
        ("rte", {"accuracy": 0.75}),
        ("sst2", {"accuracy": 0.75}),
        ("wnli", {"accuracy": 0.75}),
        (None, {"accuracy": 0.75}),
    ],
)
def test_classification(task, expected):
    metrics = glue_metric(task)(EvalPrediction(LOGITS, LABELS))
    assert metrics == pytest.approx(expected)
    assert all(type(value) is float for value in metrics.values())


@pytest.mark.parametrize("scores", [SCORES, SCORES[:, 0]], ids=["column", "flat"])
def test_regression(scores):
    correlations = {"pearson": 5.5 / math.sqrt(8.75 * 5), "spearmanr": 1 - 6 * 2 / (4 * 15)}
    assert glue_metric("stsb")(EvalPrediction(scores, RATINGS)) == pytest.approx(correlations)
    assert glue_metric(None)(EvalPrediction(scores, RATINGS)) == pytest.approx({"mse": (0 + 1 + 1 + 1) / 4})


def test_further_outputs_of_the_model_are_passed_over():
    evaluation = EvalPrediction((LOGITS, np.zeros((4, 3, 8))), LABELS)
    assert glue_metric("sst2")(evaluation) == {"accuracy": 0.75}


def test_labels_of_minus_100_do_not_count():
    assert glue_metric("mrpc")(EvalPrediction(LOGITS, np.array([1, -100, 0, -100]))) == {"accuracy": 1.0, "f1": 1.0}
    assert glue_metric(None)(EvalPrediction(LOGITS, np.full(4, -100))) == {}
    # A rating may be -100; only classes have a label that is ignored.
    assert glue_metric(None)(EvalPrediction(SCORES[:1], np.array([-100.0]))) == {"mse": 101.0**2}


def test_unknown_task_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"one of \['cola', .*'wnli'\], got 'imdb'"):
        glue_metric("imdb")

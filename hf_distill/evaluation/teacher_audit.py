"""The audit of a teacher on a few labeled rows: how good it is, where it errs, and which of its outputs to trust."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from hf_distill.evaluation.against_teacher import paired_difference
from hf_distill.evaluation.labels_alone import FOLDS, cross_validated_predictions
from hf_distill.evaluation.predictions import Predictions, predictions_of_logits
from hf_distill.evaluation.significance import mcnemar, share_interval
from hf_distill.extras import require_extra
from hf_distill.precomputed.distributions import LabelDistributions

COVERAGES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)
_SIGNIFICANT = 0.05


@dataclass(frozen=True)
class GoldRows:
    """Labeled rows and a teacher's outputs for them.

    Attributes:
        texts: The texts, of a pair both in one string.
        classes: The correct class of each, an index of the outputs' labels, (rows,).
        outputs: The teacher's distributions for the rows.
        further_texts: Texts of other labeled rows, from which a student could learn without the teacher.
        further_classes: The correct class of each of them.
    """

    texts: Sequence[str]
    classes: np.ndarray
    outputs: LabelDistributions
    further_texts: Sequence[str] = ()
    further_classes: Sequence[int] | np.ndarray = ()

    @property
    def is_correct(self) -> np.ndarray:
        """Whether the most probable label is the correct one, bool (rows,)."""
        return self.outputs.logits.argmax(dim=-1).numpy() == self.classes


def audit_teacher(gold: GoldRows, measure: str = "confidence", required_accuracy: float = 0.9) -> dict[str, Any]:
    """Examine a teacher on labeled rows.

    Args:
        gold: The rows, at least two.
        measure: What rows are ordered by, to trust the first of them: "confidence" or "entropy".
        required_accuracy: The accuracy that the rows to trust must have, in (0, 1).

    Returns:
        JSON-serializable: `metrics`, `interval` (95 %, of accuracy), `confusion`, `confused` and `not_told_apart` labels,
        `coverage` against accuracy, `trusted` rows, `templates`, `labels_alone` (what a student can expect to gain) and
        `disagreements`.

    Raises:
        ValueError: There are fewer than two rows, or an argument is not allowed.
    """
    if len(gold.classes) < 2:
        raise ValueError(f"an audit needs at least 2 labeled rows, got {len(gold.classes)}")
    if measure not in ("confidence", "entropy"):
        raise ValueError(f"measure must be 'confidence' or 'entropy', got {measure!r}")
    if not 0 < required_accuracy < 1:
        raise ValueError(f"required_accuracy must be between 0 and 1, got {required_accuracy}")
    predictions = predictions_of_logits(gold.outputs.logits.numpy(), gold.classes)
    confusion = _confusion(gold, predictions)
    return {
        "labels": gold.outputs.labels,
        "examples": len(gold.classes),
        "metrics": predictions.metrics,
        "interval": _interval(gold.is_correct),
        "mean_confidence": float(gold.outputs.confidence.mean()),
        "confusion": confusion,
        "confused": _confused(gold.outputs.labels, np.array(confusion)),
        "not_told_apart": [pair for pair in _pairs(gold) if not pair["p"] < _SIGNIFICANT],
        "coverage": _coverage(gold, measure),
        "trusted": _trusted(gold, measure, required_accuracy),
        "templates": _templates(gold),
        "labels_alone": _against_labels_alone(gold, predictions),
        "disagreements": _disagreements(gold),
    }


def _interval(is_correct: np.ndarray) -> dict[str, float]:
    low, high = share_interval(int(is_correct.sum()), len(is_correct))
    return {"low": low, "high": high}


def _confusion(gold: GoldRows, predictions: Predictions) -> list[list[int]]:
    """The number of rows by correct and predicted class, (classes, classes)."""
    require_extra("sklearn", "eval", "a confusion matrix")
    from sklearn.metrics import confusion_matrix

    return confusion_matrix(gold.classes, predictions.predictions, labels=range(len(gold.outputs.labels))).tolist()


def _confused(names: Sequence[str], matrix: np.ndarray) -> list[dict[str, Any]]:
    """Pairs of a correct and another, predicted class, the most frequent first."""
    np.fill_diagonal(matrix, 0)
    pairs = sorted(zip(*matrix.nonzero(), strict=True), key=lambda pair: -matrix[pair])
    return [
        {"label": names[row], "taken_for": names[column], "rows": int(matrix[row, column])} for row, column in pairs
    ]


def _pairs(gold: GoldRows) -> Iterator[dict[str, Any]]:
    """How well the teacher ranks one label above another on rows of these two, for each pair that the rows have.

    The area under the ROC curve of the difference of two logits does not depend on a preference for one of the labels, which
    calibration could remove. The p-value is that of the Mann-Whitney test that it is 1/2.
    """
    require_extra("scipy", "eval", "a test of two labels")
    from scipy.stats import mannwhitneyu

    names, logits = gold.outputs.labels, gold.outputs.logits.numpy()
    for first, second in combinations(range(len(names)), 2):
        score = logits[:, first] - logits[:, second]
        own, others = score[gold.classes == first], score[gold.classes == second]
        if not len(own) or not len(others):
            continue
        found = mannwhitneyu(own, others, alternative="greater")
        area = float(found.statistic) / (len(own) * len(others))
        yield {
            "labels": [names[first], names[second]],
            "auc": area,
            "p": float(found.pvalue),
            "rows": len(own) + len(others),
        }


def _order(gold: GoldRows, measure: str) -> tuple[np.ndarray, np.ndarray]:
    """The rows from the most to the least trusted, and the measure of each in that order."""
    values = getattr(gold.outputs, measure).numpy()
    order = np.argsort(values if measure == "entropy" else -values, kind="stable")
    return order, values[order]


def _coverage(gold: GoldRows, measure: str) -> list[dict[str, float]]:
    """Accuracy and its interval on the most trusted rows, for shares of all rows; with the threshold of the measure."""
    order, values = _order(gold, measure)
    is_correct, found = gold.is_correct[order], []
    for coverage in COVERAGES:
        count = max(1, round(coverage * len(order)))
        accuracy = float(is_correct[:count].mean())
        part = {"coverage": coverage, "rows": count, measure: float(values[count - 1]), "accuracy": accuracy}
        found.append(part | _interval(is_correct[:count]))
    return found


def _trusted(gold: GoldRows, measure: str, required: float) -> dict[str, Any]:
    """The most rows whose accuracy is at least the required one by the lower end of its 95 % interval.

    Rows of the same value of the measure are trusted together. The threshold is chosen on the rows that it is judged by, for
    which the lower end of the interval makes up in part.
    """
    order, values = _order(gold, measure)
    right = gold.is_correct[order].cumsum()
    ends = [*(np.flatnonzero(np.diff(values)) + 1).tolist(), len(values)]
    passing = [end for end in ends if share_interval(int(right[end - 1]), end)[0] >= required]
    if not passing:
        return {"required_accuracy": required, "rows": 0, "coverage": 0.0}
    rows = max(passing)
    found = {
        "required_accuracy": required,
        "rows": rows,
        "coverage": rows / len(order),
        measure: float(values[rows - 1]),
    }
    return found | {"accuracy": float(right[rows - 1] / rows)} | _interval(gold.is_correct[order][:rows])


def _templates(gold: GoldRows) -> list[dict[str, float]]:
    """The accuracy of each template alone, in their order; empty without several."""
    if gold.outputs.template_logits is None:
        return []
    by_template = gold.outputs.template_logits.argmax(dim=-1).numpy() == gold.classes[:, None]
    return [{"accuracy": float(each.mean())} | _interval(each) for each in by_template.T]


def _against_labels_alone(gold: GoldRows, teacher: Predictions) -> dict[str, Any]:
    """The teacher compared with a classifier that learned from the labels of the other rows, on the same rows."""
    try:
        baseline = cross_validated_predictions(
            gold.texts, gold.classes, further_texts=gold.further_texts, further_classes=gold.further_classes
        )
    except ValueError as error:
        return {"expected_gain": "unknown", "reason": str(error)}
    difference = paired_difference(baseline, teacher)
    gain = "yes" if difference["low"] > 0 else "no" if difference["high"] < 0 else "undecided"
    assert baseline.is_correct is not None and teacher.is_correct is not None  # of classifiers
    return {
        "expected_gain": gain,
        "method": f"tf-idf and logistic regression on {_learned_from(gold)}",
        "accuracy": baseline.metrics["accuracy"],
        **difference,
        "mcnemar_p": mcnemar(baseline.is_correct, teacher.is_correct),
    }


def _learned_from(gold: GoldRows) -> str:
    """What a classifier on labels alone learned from."""
    own = f"{len(gold.texts):,} of these rows, in {FOLDS}-fold cross-validation"
    return (
        f"the {len(gold.further_texts):,} labeled rows of train and the {own}" if gold.further_texts else f"the {own}"
    )


def _disagreements(gold: GoldRows) -> list[dict[str, Any]]:
    """The rows on which teacher and label differ, the most confident first: errors of the teacher, or of the label."""
    outputs, (order, _) = gold.outputs, _order(gold, "confidence")
    predicted, agreement = outputs.logits.argmax(dim=-1), outputs.agreement
    found = []
    for row in order[~gold.is_correct[order]].tolist():
        entry = {
            "row": row,
            "text": gold.texts[row],
            "label": outputs.labels[gold.classes[row]],
            "teacher": outputs.labels[int(predicted[row])],
            "confidence": float(outputs.confidence[row]),
            "entropy": float(outputs.entropy[row]),
        }
        found.append(entry if agreement is None else entry | {"agreement": float(agreement[row])})
    return found

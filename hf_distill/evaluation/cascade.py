"""A cascade: the student answers where it is confident, and the teacher answers the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from datasets import Dataset

from hf_distill.evaluation.comparison import TEACHER, EvaluatedModel, LatencySettings, compare
from hf_distill.evaluation.metric_text import difference_text, value_text
from hf_distill.evaluation.predictions import Predictions
from hf_distill.evaluation.row_values import latency_of
from hf_distill.evaluation.significance import difference_interval
from hf_distill.extras import require_extra
from hf_distill.tasks import REGRESSION, Task, problem_type_of, task_of

if TYPE_CHECKING:
    from rich.table import Table

SHARES = np.arange(20, 0, -1) / 20  # of the items that the student answers, tried from the smallest
_ONE_SIDED_95 = 0.9  # confidence of the two-sided interval whose lower end is the one-sided 95 % bound
_TASKS = (Task.SEQUENCE_CLASSIFICATION, Task.IMAGE_CLASSIFICATION)
_TEMPERATURES = (0.05, 20.0)
_HEADINGS = (
    *("student", "confidence from", "temperature", "answered by it %", "accuracy %", "against teacher", "ms", "faster"),
)


@dataclass(frozen=True)
class Cascade:
    """When the student's prediction is taken.

    Attributes:
        temperature: What the student's logits are divided by before the softmax.
        threshold: The smallest probability of the predicted class at which the student answers; above 1 for a student
            that answers nothing.
    """

    temperature: float
    threshold: float

    def answered(self, logits: np.ndarray) -> np.ndarray:
        """Which items the student answers, bool (items,), from its logits (items, classes)."""
        return confidence(logits, self.temperature) >= self.threshold


def require_cascade(evaluated_models: Sequence[EvaluatedModel], margin: float) -> None:
    """Check that students can form cascades with their teacher.

    Args:
        evaluated_models: The models of the comparison.
        margin: The accuracy that may be lost.

    Raises:
        ValueError: There is no teacher or no student, the models are not classifiers of whole texts or images, or the
            margin is not in [0, 1).
    """
    if not 0 <= margin < 1:
        raise ValueError(f"a cascade may lose from 0 to less than 100 points of accuracy, got {100 * margin:g}")
    if len(evaluated_models) < 2 or evaluated_models[0].role != TEACHER:
        raise ValueError("a cascade needs a teacher and a student, got no --teacher")
    model = evaluated_models[0].model
    task = task_of(model)
    if task not in _TASKS or problem_type_of(model.config) == REGRESSION:
        raise ValueError(f"a cascade needs classifiers of whole texts or images, got a {type(model).__name__}")


def confidence(logits: np.ndarray, temperature: float) -> np.ndarray:
    """The probability of the predicted class, (items,), from logits (items, classes)."""
    return _probabilities(logits, temperature).max(axis=-1)


def _probabilities(logits: np.ndarray, temperature: float) -> np.ndarray:
    require_extra("scipy", "eval", "a cascade")
    from scipy.special import softmax

    return softmax(logits.astype(np.float64) / temperature, axis=-1)


def fitted_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature at which a classifier's probabilities fit labels best.

    Args:
        logits: The logits, (items, classes).
        labels: The correct class of each item, (items,).

    Returns:
        The temperature between 0.05 and 20 with the smallest cross-entropy.

    Source:
        Guo et al. 2017, arXiv 1706.04599, section 4.2 (temperature scaling).
    """
    for module in ("scipy", "sklearn"):
        require_extra(module, "eval", "a fitted temperature")
    from scipy.optimize import minimize_scalar
    from sklearn.metrics import log_loss

    classes = np.arange(logits.shape[-1])

    def cross_entropy(log_temperature: float) -> float:
        return log_loss(labels, _probabilities(logits, np.exp(log_temperature)), labels=classes)

    bounds = tuple(np.log(_TEMPERATURES))
    return float(np.exp(minimize_scalar(cross_entropy, bounds=bounds, method="bounded").x))


def fitted_cascade(teacher: Predictions, student: Predictions, margin: float) -> Cascade:
    """The cascade in which the student answers as much as the margin allows.

    Shares of the items are tried from 5 % upwards, the most confident items first, until the lower 95 % bound of the
    cascade's accuracy less the teacher's falls below minus the margin. Stopping at the first failure keeps the probability
    of a promise that does not hold at about 5 %, however many shares were tried.

    Args:
        teacher: The teacher's predictions of labeled items that the accuracy is not reported on.
        student: The student's predictions of the same items.
        margin: The accuracy that may be lost, in [0, 1].

    Returns:
        Temperature and threshold.

    Raises:
        ValueError: There are fewer than 20 items, or teacher and student read different ones.

    Source:
        Fixed-sequence testing: Angelopoulos et al. 2021, arXiv 2110.01052, section 2.3.
    """
    logits, labels, gains = _gains(teacher, student)
    _require_enough(len(gains))
    temperature = fitted_temperature(logits, labels)
    certain = confidence(logits, temperature)
    found = Cascade(temperature, np.inf)
    for share in sorted(SHARES):
        tried = Cascade(temperature, float(np.quantile(certain, 1 - share, method="lower")))
        low, _ = _interval(np.where(tried.answered(logits), gains, 0.0), _ONE_SIDED_95)
        if low < -margin:
            break
        found = tried
    return found


def cascade_row(teacher: Predictions, student: Predictions, cascade: Cascade) -> dict[str, Any]:
    """What a cascade gives on labeled items that it was not fitted on.

    Args:
        teacher: The teacher's predictions.
        student: The student's predictions of the same items.
        cascade: Temperature and threshold.

    Returns:
        Temperature, threshold, the share of the items that the student answers, the accuracy, and its difference from
        the teacher's with the 95 % paired bootstrap interval, `low` to `high`.
    """
    logits, _, gains = _gains(teacher, student)
    answered = cascade.answered(logits)
    changed = np.where(answered, gains, 0.0)
    low, high = _interval(changed, 0.95)
    return {
        "temperature": cascade.temperature,
        "threshold": min(cascade.threshold, 1.0) if answered.any() else None,
        "share": float(answered.mean()),
        "accuracy": teacher.metrics["accuracy"] + float(changed.mean()),
        "difference": float(changed.mean()),
        "low": low,
        "high": high,
    }


def compare_with_cascades(
    evaluated_models: Sequence[EvaluatedModel],
    splits: Mapping[str, Dataset],
    name: str,
    margin: float,
    latency: LatencySettings | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Compare models, and evaluate a cascade of each student with the teacher.

    Args:
        evaluated_models: The models, the teacher first; classifiers of whole texts or images.
        splits: Raw labeled rows by the name of their split: those to evaluate on first, then those that temperature and
            threshold are fitted on.
        name: The name of the data set.
        margin: The accuracy that may be lost, in [0, 1).
        latency: The settings of latency measurements. None: latency is not measured.
        **options: Further arguments of `compare`.

    Returns:
        The comparison, as `compare` returns it, with `cascade` in the rows of students.

    Raises:
        ValueError: See `compare`; or there is no teacher or no student, the models are of another kind, the margin is out
            of range, or there are fewer than 20 rows to fit on.
    """
    require_cascade(evaluated_models, margin)
    (split, rows), (fitting_split, fitting_rows) = splits.items()
    _require_enough(len(fitting_rows))
    reported: dict[str, Predictions] = {}
    fitted: dict[str, Predictions] = {}
    found = compare(evaluated_models, rows, name, split, latency, kept=reported, **options)
    compare(evaluated_models, fitting_rows, name, fitting_split, None, kept=fitted, **options)
    teacher, *students = found["rows"]
    taught = teacher["name"]
    for row in students:
        cascade = fitted_cascade(fitted[taught], fitted[row["name"]], margin)
        row["cascade"] = {"margin": margin, "fitted_on": fitting_split}
        row["cascade"] |= cascade_row(reported[taught], reported[row["name"]], cascade)
        times = latency_of(teacher), latency_of(row)
        if times[0] and times[1]:
            row["cascade"]["mean_ms"] = times[1] + (1 - row["cascade"]["share"]) * times[0]
    return found


def cascade_table(evaluation: Mapping[str, Any]) -> Table:
    """A table of the cascades of a comparison."""
    require_extra("rich", "eval", "the table of a cascade")
    from hf_distill.evaluation.fitted_table import FittedColumn, FittedTable

    teacher, *students = evaluation["rows"]
    margin, split = students[0]["cascade"]["margin"], students[0]["cascade"]["fitted_on"]
    lines = zip(*(_cells(evaluation, teacher, row) for row in students), strict=True)
    columns = [FittedColumn(heading, cells) for heading, cells in zip(_HEADINGS, lines, strict=True)]
    return FittedTable(
        [replace(columns[0], justify="left"), *columns[1:]],
        title=f"the student where it is confident, else {teacher['name']}",
        caption=f"fitted on {split} to lose at most {100 * margin:g} points, with a probability of 95 %",
        least_use=[_HEADINGS.index("temperature")],
    )


def _cells(evaluation: Mapping[str, Any], teacher: Mapping[str, Any], row: Mapping[str, Any]) -> list[str]:
    found = row["cascade"]
    mean = found.get("mean_ms")
    return [
        row["name"],
        "never" if found["threshold"] is None else f"{found['threshold']:.3f}",
        f"{found['temperature']:.2f}",
        f"{100 * found['share']:.1f}",
        value_text(evaluation, found["accuracy"]),
        difference_text(evaluation, found),
        "" if mean is None else f"{mean:.2f}",
        "" if mean is None else f"{latency_of(teacher) / mean:.1f}x",
    ]


def _require_enough(rows: int) -> None:
    if rows < len(SHARES):
        raise ValueError(f"a cascade is fitted on at least {len(SHARES)} labeled rows, got {rows}")


def _gains(teacher: Predictions, student: Predictions) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The student's logits, the labels, and 1 where the student alone is correct, -1 where the teacher alone is, (items,)."""
    right, taught = student.is_correct, teacher.is_correct
    if student.logits is None or student.labels is None or right is None or taught is None:
        raise ValueError("a cascade needs the predictions of classifiers, got those of models for another task")
    if len(taught) != len(right):
        raise ValueError(f"teacher and student must read the same rows, got {len(taught)} and {len(right)}")
    return student.logits, student.labels, right.astype(float) - taught.astype(float)


def _interval(changes: np.ndarray, level: float) -> tuple[float, float]:
    if not changes.any():
        return 0.0, 0.0
    return difference_interval(lambda chosen: float(changes[chosen].mean()), len(changes), confidence=level)

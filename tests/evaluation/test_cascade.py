"""Temperature, threshold and promise of a cascade of a student and its teacher."""

import numpy as np
import pytest
from scipy.special import log_softmax

from hf_distill.evaluation.cascade import (
    Cascade,
    cascade_row,
    compare_with_cascades,
    confidence,
    fitted_cascade,
    fitted_temperature,
)
from hf_distill.evaluation.predictions import Predictions


def predictions(logits, labels):
    predicted = logits.argmax(-1)
    right = predicted == labels
    accuracy = {"accuracy": float(right.mean())}
    return Predictions(
        accuracy, "accuracy", len(labels), lambda chosen: right[chosen].mean(), predicted, right, logits, labels
    )


def pair(seed, rows=600, skill=1.0):
    """A teacher that is right in 90 % of the rows, and a student that is right where its logits are far apart."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 3, rows)
    signs = np.where(np.arange(3) == labels[:, None], 1.0, 0.0)
    strength = generator.exponential(2.0, rows)[:, None]
    student = skill * strength * signs + generator.normal(size=(rows, 3))
    wrong = generator.uniform(size=rows) < 0.1
    teacher = np.where(np.arange(3) == ((labels + wrong) % 3)[:, None], 5.0, 0.0)
    return predictions(teacher, labels), predictions(student, labels)


def test_the_fitted_temperature_undoes_a_scale():
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(20_000, 4))
    cumulated = np.exp(log_softmax(logits, -1)).cumsum(-1)
    labels = (generator.uniform(size=(len(logits), 1)) > cumulated).sum(-1).clip(max=3)
    assert fitted_temperature(logits, labels) == pytest.approx(1, abs=0.05)
    assert fitted_temperature(logits * 3, labels) == pytest.approx(3, abs=0.15)


def test_confidence_by_hand():
    logits = np.array([[0.0, np.log(3.0)], [0.0, 0.0]])
    assert confidence(logits, 1.0) == pytest.approx([0.75, 0.5])
    assert confidence(logits * 2, 2.0) == pytest.approx([0.75, 0.5])
    assert Cascade(1.0, 0.75).answered(logits * 1.001).tolist() == [True, False]


@pytest.mark.parametrize("margin", [0.0, 0.02])
def test_the_promise_holds_on_other_rows(margin):
    for seed in range(4):
        teacher, student = pair(seed)
        cascade = fitted_cascade(teacher, student, margin)
        found = cascade_row(*pair(seed + 100, rows=20_000), cascade)
        assert found["difference"] >= -margin - 0.003, seed
        if margin:
            assert 0.1 < found["share"] < 1
    assert found["low"] <= found["difference"] <= found["high"]


def test_more_may_be_lost_more_is_answered():
    teacher, student = pair(7)
    shares = [student_share(teacher, student, margin) for margin in (0.0, 0.02, 0.1, 0.9)]
    assert shares == sorted(shares) and shares[-1] == 1


def student_share(teacher, student, margin):
    return cascade_row(teacher, student, fitted_cascade(teacher, student, margin))["share"]


def test_a_student_that_knows_nothing_answers_nothing():
    teacher, student = pair(1, skill=0.0)
    cascade = fitted_cascade(teacher, student, 0.0)
    assert cascade.threshold == np.inf
    found = cascade_row(teacher, student, cascade)
    assert found["threshold"] is None and found["share"] == 0
    assert found["accuracy"] == teacher.metrics["accuracy"] and found["low"] == found["high"] == 0


def test_a_student_equal_to_its_teacher_answers_all():
    teacher, _ = pair(2)
    assert student_share(teacher, teacher, 0.0) == 1


def test_few_or_other_rows_are_refused():
    teacher, student = pair(3, rows=19)
    with pytest.raises(ValueError, match="at least 20 labeled rows, got 19"):
        fitted_cascade(teacher, student, 0.1)
    with pytest.raises(ValueError, match="same rows, got 19 and 30"):
        fitted_cascade(teacher, pair(3, rows=30)[1], 0.1)


def test_too_few_rows_are_refused_before_any_model_runs(monkeypatch):
    monkeypatch.setattr("hf_distill.evaluation.cascade.require_cascade", lambda models, margin: None)
    with pytest.raises(ValueError, match="at least 20 labeled rows, got 19"):
        compare_with_cascades([None, None], {"test": range(40), "validation": range(19)}, "data", 0.01)

"""Calibration, McNemar's test and the bootstrap give the values of textbooks."""

import numpy as np
import pytest
from scipy.stats import binom

from hf_distill.evaluation.calibration import expected_calibration_error
from hf_distill.evaluation.significance import difference_interval, mcnemar


def test_calibration_by_hand():
    # Confidence 0.9 and right twice in four; 0.6 and right once in two: (4 * |0.9 - 0.5| + 2 * |0.6 - 0.5|) / 6.
    probabilities = np.array([[0.9, 0.1]] * 4 + [[0.4, 0.6]] * 2)
    labels = np.array([0, 0, 1, 1, 1, 0])
    assert expected_calibration_error(probabilities, labels) == pytest.approx((4 * 0.4 + 2 * 0.1) / 6)


def test_a_model_that_says_what_it_knows_is_calibrated():
    generator = np.random.default_rng(0)
    right = generator.uniform(0.5, 1, 200_000)
    labels = (generator.uniform(size=right.size) > right).astype(int)
    assert expected_calibration_error(np.stack([right, 1 - right], 1), labels) < 0.01
    overconfident = np.stack([np.full(right.size, 0.99), np.full(right.size, 0.01)], 1)
    assert expected_calibration_error(overconfident, labels) == pytest.approx(0.99 - 0.75, abs=0.01)


def test_calibration_needs_labels_for_all():
    with pytest.raises(ValueError, match="got 2 and 1"):
        expected_calibration_error(np.ones((2, 2)) / 2, np.array([0]))
    with pytest.raises(ValueError, match="got 0 and 0"):
        expected_calibration_error(np.ones((0, 2)), np.array([]))


def test_mcnemar_counts_the_examples_that_one_alone_gets_right():
    first = np.array([True] * 9 + [False] * 2 + [True] * 20)
    second = np.array([False] * 9 + [True] * 2 + [True] * 20)
    assert mcnemar(first, second) == pytest.approx(2 * binom.cdf(2, 11, 0.5)) == mcnemar(second, first)
    assert mcnemar(first, first) == 1


def test_the_interval_covers_the_difference_and_is_the_same_twice():
    generator = np.random.default_rng(1)
    better, worse = generator.uniform(size=400) < 0.9, generator.uniform(size=400) < 0.7
    low, high = difference_interval(lambda chosen: float(worse[chosen].mean() - better[chosen].mean()), 400)
    assert low < worse.mean() - better.mean() < high < 0
    # Standard error of a paired difference of shares.
    error = (worse.astype(float) - better).std() / 20
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.1)
    assert (low, high) == difference_interval(lambda chosen: float(worse[chosen].mean() - better[chosen].mean()), 400)

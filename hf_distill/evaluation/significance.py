"""Whether a student differs from its teacher by more than the choice of test examples explains."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hf_distill.extras import require_extra


def mcnemar(first_right: np.ndarray, second_right: np.ndarray) -> float:
    """The exact McNemar test of two models on the same examples.

    Args:
        first_right: Whether the first model is right, bool (examples,).
        second_right: Whether the second is, bool (examples,).

    Returns:
        Probability, were both equally good, of a difference at least as large; 1 where they never differ.

    Source:
        McNemar 1947, Psychometrika 12; exact, by the binomial distribution of the examples that one of them gets right.
    """
    only_first = int(np.sum(first_right & ~second_right))
    only_second = int(np.sum(second_right & ~first_right))
    total = only_first + only_second
    require_extra("scipy", "eval", "a significance test")
    from scipy.stats import binomtest

    return float(binomtest(only_first, total).pvalue) if total else 1.0


def difference_interval(
    difference: Callable[[np.ndarray], float], num_examples: int, resamples: int = 1000, confidence: float = 0.95
) -> tuple[float, float]:
    """A paired bootstrap interval of a difference between two models.

    Args:
        difference: From examples, by index and with repetitions, (examples,), to the difference of the metric on them.
        num_examples: How many there are; at least 2.
        resamples: Draws with replacement.
        confidence: Of the interval.

    Returns:
        Its lower and its upper end, the same in every call.

    Source:
        Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13 (percentile interval).
    """
    require_extra("scipy", "eval", "a bootstrap interval")
    from scipy.stats import bootstrap

    result = bootstrap(
        (np.arange(num_examples),), difference, vectorized=False, n_resamples=resamples,
        confidence_level=confidence, method="percentile", rng=np.random.default_rng(0),
    )  # fmt: skip
    return float(result.confidence_interval.low), float(result.confidence_interval.high)

"""Statistical significance of the difference between two models on the same test examples."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hf_distill.extras import require_extra


def mcnemar(first_right: np.ndarray, second_right: np.ndarray) -> float:
    """The exact McNemar test of two models on the same examples.

    Args:
        first_right: Whether the first model's prediction is correct, bool (examples,).
        second_right: Whether the second model's prediction is correct, bool (examples,).

    Returns:
        The p-value: the probability of a difference at least as large if both models were equally good; 1 if they are
        correct on the same examples.

    Source:
        McNemar 1947, Psychometrika 12; exact, by the binomial distribution of the examples on which one is correct.
    """
    only_first = int(np.sum(first_right & ~second_right))
    only_second = int(np.sum(second_right & ~first_right))
    total = only_first + only_second
    require_extra("scipy", "eval", "a significance test")
    from scipy.stats import binomtest

    return float(binomtest(only_first, total).pvalue) if total else 1.0


def share_interval(count: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """A confidence interval of a share, such as accuracy.

    Args:
        count: The number of examples that count, such as those predicted correctly.
        total: The number of examples, at least 1.
        confidence: The confidence level of the interval, in (0, 1).

    Returns:
        The lower and the upper end.

    Source:
        Wilson 1927, Journal of the American Statistical Association 22.
    """
    require_extra("scipy", "eval", "an interval of a share")
    from scipy.stats import binomtest

    found = binomtest(count, total).proportion_ci(confidence, method="wilson")
    return float(found.low), float(found.high)


def difference_interval(
    difference: Callable[[np.ndarray], float], num_examples: int, resamples: int = 1000, confidence: float = 0.95
) -> tuple[float, float]:
    """A paired bootstrap confidence interval of the difference between two models.

    Args:
        difference: A function from indices of examples, with repetitions, (examples,), to the difference of the metric.
        num_examples: The number of examples, at least 2.
        resamples: The number of bootstrap samples.
        confidence: The confidence level of the interval, in (0, 1).

    Returns:
        The lower and the upper end; the seed is fixed, so that they are the same in every call.

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

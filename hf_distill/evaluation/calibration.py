"""Calibration: whether a classifier's confidence matches its accuracy."""

from __future__ import annotations

import numpy as np


def expected_calibration_error(probabilities: np.ndarray, labels: np.ndarray, num_bins: int = 15) -> float:
    """The mean distance between confidence and accuracy, over bins of equal width of the confidence.

    Args:
        probabilities: The predicted probabilities, (items, classes), each row with the sum 1.
        labels: The correct class of each item, (items,).
        num_bins: The number of bins that (0, 1] is divided into.

    Returns:
        The error in [0, 1]; 0 for a model that is correct in a share p of its predictions of probability p.

    Raises:
        ValueError: There are no items, or the numbers of probabilities and labels differ.

    Source:
        Guo et al. 2017, arXiv 1706.04599, equation 3.
    """
    if len(probabilities) != len(labels) or not len(labels):
        raise ValueError(f"each of one or more items needs a label, got {len(probabilities)} and {len(labels)}")
    confidence, is_correct = probabilities.max(axis=-1), probabilities.argmax(axis=-1) == labels
    bins = np.clip(np.ceil(confidence * num_bins).astype(int) - 1, 0, num_bins - 1)
    # A bin's share of the items times its mean distance is the distance of its sums, divided by the number of items.
    distances = np.bincount(bins, weights=confidence - is_correct, minlength=num_bins)
    return float(np.abs(distances).sum() / len(labels))

"""Whether a model is right as often as it says."""

from __future__ import annotations

import numpy as np


def expected_calibration_error(probabilities: np.ndarray, labels: np.ndarray, num_bins: int = 15) -> float:
    """Mean distance between confidence and accuracy, over bins of equal width of the confidence.

    Args:
        probabilities: (items, classes), rows add up to 1.
        labels: The right class of each item, (items,).
        num_bins: Bins of (0, 1].

    Returns:
        In [0, 1]; 0 for a model that is right in a share p of the answers it gives a probability of p.

    Raises:
        ValueError: There are no items, or probabilities and labels are not equally many.

    Source:
        Guo et al. 2017, arXiv 1706.04599, equation 3.
    """
    if len(probabilities) != len(labels) or not len(labels):
        raise ValueError(f"each of one or more items needs a label, got {len(probabilities)} and {len(labels)}")
    confidence, is_right = probabilities.max(axis=-1), probabilities.argmax(axis=-1) == labels
    bins = np.clip(np.ceil(confidence * num_bins).astype(int) - 1, 0, num_bins - 1)
    # A bin's share times its mean distance is the distance of its sums.
    distances = np.bincount(bins, weights=confidence - is_right, minlength=num_bins)
    return float(np.abs(distances).sum() / len(labels))

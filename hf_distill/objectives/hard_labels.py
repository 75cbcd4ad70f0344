"""The loss on labels where some of them do not count, which a model's own loss on float labels cannot leave out."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss

from hf_distill.objectives.reduction import mean_over_items, widened


def float_label_loss(logits: Tensor, labels: Tensor, counted: Tensor, multi_label: bool) -> Tensor:
    """Mean over the labels that count of binary cross-entropy, or for regression of the squared error.

    Args:
        logits: (batch, labels).
        labels: Float, (batch, labels), or (batch,) for a single output; finite everywhere.
        counted: Bool of the labels' shape.
        multi_label: The logits are those of independent yes/no labels.

    Returns:
        Nats, or squared units of the labels, scalar; 0 where no label counts.
    """
    logits, labels = widened(logits).reshape(labels.shape), widened(labels)
    loss = binary_cross_entropy_with_logits if multi_label else mse_loss
    return mean_over_items(loss(logits, labels, reduction="none"), counted)


def zero_where_ignored(labels: Tensor, counted: Tensor) -> Tensor:
    """The labels with 0 in place of those that do not count, so that no loss or gradient of them is NaN."""
    return torch.where(counted, labels, torch.zeros_like(labels))

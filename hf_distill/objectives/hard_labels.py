"""Loss on float labels, some of them ignored: the loss inside a transformers model has no ignore index for these."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss

from hf_distill.objectives.reduction import mean_over_items, widened


def float_label_loss(logits: Tensor, labels: Tensor, counted: Tensor, multi_label: bool) -> Tensor:
    """Binary cross-entropy, or for regression the squared error, averaged over the labels that count.

    Args:
        logits: The model's logits, (batch, labels).
        labels: Float labels, (batch, labels), or (batch,) for a single output; finite everywhere, also where ignored.
        counted: True at the labels that count, bool of the labels' shape.
        multi_label: Whether the logits are of independent yes/no labels (binary cross-entropy), else of a regression
            (squared error).

    Returns:
        Nats, or squared units of the labels, scalar; 0 where no label counts.
    """
    logits, labels = widened(logits).reshape(labels.shape), widened(labels)
    loss = binary_cross_entropy_with_logits if multi_label else mse_loss
    return mean_over_items(loss(logits, labels, reduction="none"), counted)


def zero_where_ignored(labels: Tensor, counted: Tensor) -> Tensor:
    """The labels with 0 in place of the ignored ones, so that neither loss nor gradient at them is NaN."""
    return torch.where(counted, labels, torch.zeros_like(labels))

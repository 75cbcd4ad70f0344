"""Distances between the attention of two models, from queries and keys: one value per query position."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from hf_distill.objectives.logits import kl_of_log_probabilities
from hf_distill.objectives.reduction import widened


class AttentionLoss(str, Enum):
    """How attention is compared; the values name functions of `objectives.attention`."""

    SCORE_MSE = "score_mse"
    DISTRIBUTION_KL = "distribution_kl"


def attention_scores(query: Tensor, key: Tensor) -> Tensor:
    """Attention scores Q Kᵀ / √(head size), before the softmax and without a mask.

    Args:
        query: Query vectors, (batch, heads, sequence, head size).
        key: Key vectors, (batch, key heads, sequence, head size); with fewer key heads than heads, neighboring query
            heads share one (grouped-query attention).

    Returns:
        Scores of every query position (third dimension) for every key position, (batch, heads, sequence, sequence).
    """
    query, key = widened(query), widened(key)
    key = key.repeat_interleave(query.shape[1] // key.shape[1], dim=1)  # (batch, heads, sequence, head size)
    return query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5


def score_mse(student_scores: Tensor, teacher_scores: Tensor, valid: Tensor | None = None) -> Tensor:
    """Mean squared error of attention scores over heads and valid keys.

    Args:
        student_scores: The student's attention scores, (batch, heads, sequence, sequence).
        teacher_scores: The teacher's attention scores, of the same shape.
        valid: True at positions that are not padding, bool (batch, sequence). None: there is no padding.

    Returns:
        Squared score units per query position, (batch, sequence); the values at padding are to be ignored.

    Source:
        Jiao et al. 2020 (TinyBERT), arXiv 1909.10351, equation 7.
    """
    squares = (student_scores - teacher_scores).square().mean(dim=1)  # (batch, sequence, sequence)
    if valid is None:
        return squares.mean(dim=-1)
    keys = valid[:, None, :]
    return torch.where(keys, squares, 0).sum(dim=-1) / keys.sum(dim=-1).clamp(min=1)


def distribution_kl(student_scores: Tensor, teacher_scores: Tensor, valid: Tensor | None = None) -> Tensor:
    """KL(softmax(A_T) ‖ softmax(A_S)) over valid keys, mean over heads.

    Args:
        student_scores: The student's attention scores, (batch, heads, sequence, sequence).
        teacher_scores: The teacher's attention scores, of the same shape.
        valid: True at positions that are not padding, bool (batch, sequence). None: there is no padding.

    Returns:
        Nats per query position, (batch, sequence); the values at padding are to be ignored.

    Source:
        Wang et al. 2020 (MiniLM), arXiv 2002.10957, equation 2.
    """
    log_teacher, log_student = (_log_attention(scores, valid) for scores in (teacher_scores, student_scores))
    return kl_of_log_probabilities(log_teacher, log_student).mean(dim=1)


def _log_attention(scores: Tensor, valid: Tensor | None) -> Tensor:
    if valid is not None:
        # Not minus infinity: its difference from itself is NaN, in the value or in the gradient.
        scores = scores.masked_fill(~valid[:, None, None, :], torch.finfo(scores.dtype).min / 2)
    return log_softmax(scores, dim=-1)


ATTENTION_LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor | None], Tensor]] = {
    "score_mse": score_mse,
    "distribution_kl": distribution_kl,
}

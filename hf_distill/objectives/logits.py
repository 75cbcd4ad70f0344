"""Divergences between the student's and the teacher's logits: one value per position.

In nats and 0 where they agree, unless a function says otherwise.

Every softened divergence is multiplied by temperature squared, so that its gradient keeps its size when the
temperature changes (Hinton et al. 2015, arXiv 1503.02531, section 2.1).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from enum import Enum

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from hf_distill.objectives.reduction import widened

# The logit of a class that cannot be: probability 0 in every precision and at any temperature, far from overflow.
MASKED_LOGIT = -1e4


class SoftLabelLoss(str, Enum):
    """How the student's class distribution is compared with the teacher's; functions of `objectives.logits`."""

    FORWARD_KL = "forward_kl"
    REVERSE_KL = "reverse_kl"
    JENSEN_SHANNON = "jensen_shannon"
    SOFT_CROSS_ENTROPY = "soft_cross_entropy"
    LOGIT_MSE = "logit_mse"


def is_masked_logit(logits: Tensor) -> Tensor:
    """Where a class cannot be, bool (..., classes); half of `MASKED_LOGIT` is the limit, because bfloat16 rounds it."""
    return logits <= MASKED_LOGIT / 2


def forward_kl(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Forward Kullback-Leibler divergence T² · Σ_y p_T(y) · (log p_T(y) - log p_S(y)).

    Its gradient is that of the soft cross-entropy of Pre-trained Distillation; only the teacher's entropy, a
    constant, is taken off.

    Args:
        student_logits: (..., classes).
        teacher_logits: (..., classes).
        temperature: T > 0, softens both distributions.

    Returns:
        Nats, (...).

    Source:
        Hinton et al. 2015, arXiv 1503.02531; Turc et al. 2019, arXiv 1908.08962, section 2.
    """
    log_student, log_teacher = _log_probabilities(student_logits, teacher_logits, temperature)
    return temperature**2 * kl_of_log_probabilities(log_teacher, log_student)


def reverse_kl(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Reverse Kullback-Leibler divergence T² · Σ_y p_S(y) · (log p_S(y) - log p_T(y)): mode-seeking.

    Args:
        student_logits: (..., classes).
        teacher_logits: (..., classes).
        temperature: T > 0, softens both distributions.

    Returns:
        Nats, (...).

    Source:
        Gu et al. 2024, arXiv 2306.08543, equation 2 (there over sequences; here per position).
    """
    log_student, log_teacher = _log_probabilities(student_logits, teacher_logits, temperature)
    return temperature**2 * kl_of_log_probabilities(log_student, log_teacher)


def jensen_shannon(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Jensen-Shannon divergence T² · ½ [KL(p_T ‖ m) + KL(p_S ‖ m)] with m = ½ (p_T + p_S); at most T² · ln 2.

    Args:
        student_logits: (..., classes).
        teacher_logits: (..., classes).
        temperature: T > 0, softens both distributions.

    Returns:
        Nats, (...).

    Source:
        Lin 1991, IEEE Transactions on Information Theory 37(1), with equal weights.
    """
    log_student, log_teacher = _log_probabilities(student_logits, teacher_logits, temperature)
    log_mixture = torch.logaddexp(log_student, log_teacher) - torch.log(log_student.new_tensor(2.0))
    return (
        temperature**2
        * 0.5
        * (kl_of_log_probabilities(log_teacher, log_mixture) + kl_of_log_probabilities(log_student, log_mixture))
    )


def soft_cross_entropy(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Soft cross-entropy -T² · Σ_y p_T(y) · log p_S(y): forward KL plus the teacher's entropy, so not 0 at agreement.

    Args:
        student_logits: (..., classes).
        teacher_logits: (..., classes).
        temperature: T > 0, softens both distributions.

    Returns:
        Nats, (...).

    Source:
        Turc et al. 2019, arXiv 1908.08962, section 2 (T = 1).
    """
    log_student, log_teacher = _log_probabilities(student_logits, teacher_logits, temperature)
    return -(temperature**2) * (log_teacher.exp() * log_student).sum(dim=-1)


def logit_mse(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Mean squared error of the logits, mean over classes.

    Twice the limit of the softened KL as the temperature grows, for logits whose means over the classes agree.

    Args:
        student_logits: (..., classes); classes that both sides rule out (`is_masked_logit`) do not count.
        teacher_logits: (..., classes).
        temperature: Without effect: T² · (z_S / T - z_T / T)² does not depend on T.

    Returns:
        Squared logit units, (...).

    Source:
        Ba and Caruana 2014, arXiv 1312.6184, equation 1 (there half the sum over classes); the limit: Hinton et al. 2015,
        arXiv 1503.02531, section 2.1.
    """
    student_logits, teacher_logits = widened(student_logits), widened(teacher_logits)
    counted = ~(is_masked_logit(student_logits) & is_masked_logit(teacher_logits))
    # The inner where keeps the gradient finite where the difference of two infinities is none.
    differences = torch.where(counted, student_logits, 0) - torch.where(counted, teacher_logits, 0)
    return differences.square().sum(dim=-1) / counted.sum(dim=-1).clamp(min=1)


def average_probabilities(logits: Sequence[Tensor], weights: Sequence[float], temperature: float = 1.0) -> Tensor:
    """Logits T · log Σ_i w_i softmax(z_i / T), whose softmax at temperature T is the mean of the softened probabilities.

    Args:
        logits: One per teacher, (..., classes).
        weights: One per teacher, summing to 1.
        temperature: T > 0.

    Returns:
        (..., classes).
    """
    weighted = [
        log_softmax(widened(z) / temperature, dim=-1) + math.log(weight)
        for z, weight in zip(logits, weights, strict=True)
    ]
    return temperature * torch.logsumexp(torch.stack(weighted), dim=0)


def as_binary(logits: Tensor) -> Tensor:
    """Logits of independent yes/no labels as two-class logits (0, z), whose softmax is (1 - sigmoid(z), sigmoid(z)).

    With it every divergence of this module serves multi-label heads, one value per label.

    Args:
        logits: (..., labels).

    Returns:
        (..., labels, 2).
    """
    return torch.stack([torch.zeros_like(logits), logits], dim=-1)


SOFT_LABEL_LOSSES: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "forward_kl": forward_kl,
    "reverse_kl": reverse_kl,
    "jensen_shannon": jensen_shannon,
    "soft_cross_entropy": soft_cross_entropy,
    "logit_mse": logit_mse,
}


def _log_probabilities(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    return tuple(log_softmax(widened(z) / temperature, dim=-1) for z in (student_logits, teacher_logits))


def kl_of_log_probabilities(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Σ p (log p - log q) over the last dimension; a class of probability zero contributes nothing.

    Args:
        log_p: (..., classes).
        log_q: (..., classes).

    Returns:
        Nats, (...).
    """
    p = log_p.exp()
    difference = torch.where(p > 0, log_p - log_q, 0)
    return (p * difference).sum(dim=-1)

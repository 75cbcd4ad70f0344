"""Divergences between the student's and the teacher's logits: one value per position.

They are in nats and 0 where both models agree, unless a function says otherwise.

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

from hf_distill.objectives.hidden_states import cosine
from hf_distill.objectives.reduction import widened

# The logit of a masked class: probability 0 in every precision and at any temperature, far from overflow.
MASKED_LOGIT = -1e4


class SoftLabelLoss(str, Enum):
    """How the student's logits, or embeddings, are compared with the teacher's.

    The last two compare the scores of a query's candidates, and are functions of `objectives.ranking`; the others are the keys
    of `SOFT_LABEL_LOSSES`.
    """

    FORWARD_KL = "forward_kl"
    REVERSE_KL = "reverse_kl"
    JENSEN_SHANNON = "jensen_shannon"
    SOFT_CROSS_ENTROPY = "soft_cross_entropy"
    LOGIT_MSE = "logit_mse"
    COSINE = "cosine"
    MARGIN_MSE = "margin_mse"
    LISTWISE_KL = "listwise_kl"


def is_masked_logit(logits: Tensor) -> Tensor:
    """Where a class is masked, bool (..., classes); half of `MASKED_LOGIT` is the limit, because bfloat16 rounds it."""
    return logits <= MASKED_LOGIT / 2


def forward_kl(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Forward Kullback-Leibler divergence T² · Σ_y p_T(y) · (log p_T(y) - log p_S(y)).

    Its gradient is that of the soft cross-entropy of Pre-trained Distillation, from which it differs by the teacher's
    entropy, a constant.

    Args:
        student_logits: The student's logits, (..., classes).
        teacher_logits: The teacher's logits, (..., classes).
        temperature: Temperature T > 0 that softens both distributions.

    Returns:
        Nats per position, (...).

    Source:
        Hinton et al. 2015, arXiv 1503.02531; Turc et al. 2019, arXiv 1908.08962, section 2.
    """
    log_student, log_teacher = _log_probabilities(student_logits, teacher_logits, temperature)
    return temperature**2 * kl_of_log_probabilities(log_teacher, log_student)


def reverse_kl(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Reverse Kullback-Leibler divergence T² · Σ_y p_S(y) · (log p_S(y) - log p_T(y)): mode-seeking.

    Args:
        student_logits: The student's logits, (..., classes).
        teacher_logits: The teacher's logits, (..., classes).
        temperature: Temperature T > 0 that softens both distributions.

    Returns:
        Nats per position, (...).

    Source:
        Gu et al. 2024, arXiv 2306.08543, equation 2 (there over sequences; here per position).
    """
    log_student, log_teacher = _log_probabilities(student_logits, teacher_logits, temperature)
    return temperature**2 * kl_of_log_probabilities(log_student, log_teacher)


def jensen_shannon(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Jensen-Shannon divergence T² · ½ [KL(p_T ‖ m) + KL(p_S ‖ m)] with m = ½ (p_T + p_S); at most T² · ln 2.

    Args:
        student_logits: The student's logits, (..., classes).
        teacher_logits: The teacher's logits, (..., classes).
        temperature: Temperature T > 0 that softens both distributions.

    Returns:
        Nats per position, (...).

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
        student_logits: The student's logits, (..., classes).
        teacher_logits: The teacher's logits, (..., classes).
        temperature: Temperature T > 0 that softens both distributions.

    Returns:
        Nats per position, (...).

    Source:
        Turc et al. 2019, arXiv 1908.08962, section 2 (T = 1).
    """
    log_student, log_teacher = _log_probabilities(student_logits, teacher_logits, temperature)
    return -(temperature**2) * (log_teacher.exp() * log_student).sum(dim=-1)


def logit_mse(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Mean squared error of the logits, mean over classes.

    Twice the limit of the softened KL as the temperature grows, for logits whose means over the classes agree.

    Args:
        student_logits: The student's logits, (..., classes); classes masked on both sides (`is_masked_logit`) do not
            count.
        teacher_logits: The teacher's logits, (..., classes).
        temperature: Accepted for a common signature, without effect: T² · (z_S / T - z_T / T)² does not depend on T.

    Returns:
        Squared logit units per position, (...).

    Source:
        Ba and Caruana 2014, arXiv 1312.6184, equation 1 (there half the sum over classes); the limit: Hinton et al.
        2015, arXiv 1503.02531, section 2.1.
    """
    student_logits, teacher_logits = widened(student_logits), widened(teacher_logits)
    counted = ~(is_masked_logit(student_logits) & is_masked_logit(teacher_logits))
    # Masked before the subtraction: the difference of two infinities has no finite gradient.
    differences = torch.where(counted, student_logits, 0) - torch.where(counted, teacher_logits, 0)
    return differences.square().sum(dim=-1) / counted.sum(dim=-1).clamp(min=1)


def average_probabilities(logits: Sequence[Tensor], weights: Sequence[float], temperature: float = 1.0) -> Tensor:
    """Logits T · log Σ_i w_i softmax(z_i / T), whose softmax at temperature T is the mean of softened probabilities.

    Args:
        logits: The logits of each teacher, (..., classes).
        weights: The weight of each teacher; they sum to 1.
        temperature: Temperature T > 0 of the softened probabilities.

    Returns:
        The logits of the mean distribution, (..., classes).
    """
    weighted = [
        log_softmax(widened(z) / temperature, dim=-1) + math.log(weight)
        for z, weight in zip(logits, weights, strict=True)
    ]
    return temperature * torch.logsumexp(torch.stack(weighted), dim=0)


def as_binary(logits: Tensor) -> Tensor:
    """Logits of independent yes/no labels as two-class logits (0, z), whose softmax is (1 - sigmoid(z), sigmoid(z)).

    On these every divergence of this module works for multi-label heads and gives one value per label.

    Args:
        logits: Logits of independent yes/no labels, (..., labels).

    Returns:
        Two-class logits, (..., labels, 2).
    """
    return torch.stack([torch.zeros_like(logits), logits], dim=-1)


def logits_of_probabilities(probabilities: Tensor, multi_label: bool = False) -> Tensor:
    """Logits of given probabilities: their logarithms, or for independent labels log p - log (1 - p), the inverse of sigmoid.

    Args:
        probabilities: Probabilities, (..., classes).
        multi_label: Whether the classes are independent yes/no labels.

    Returns:
        Logits, (..., classes), at least `MASKED_LOGIT`; of independent labels at most -`MASKED_LOGIT`.
    """
    logits = probabilities.logit() if multi_label else probabilities.log()
    return logits.clamp(min=MASKED_LOGIT, max=-MASKED_LOGIT)


SOFT_LABEL_LOSSES: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "forward_kl": forward_kl,
    "reverse_kl": reverse_kl,
    "jensen_shannon": jensen_shannon,
    "soft_cross_entropy": soft_cross_entropy,
    "logit_mse": logit_mse,
    "cosine": lambda student, teacher, temperature: cosine(student, teacher),  # of embeddings, without a temperature
}


def _log_probabilities(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    log_student = log_softmax(widened(student_logits) / temperature, dim=-1)
    return log_student, log_softmax(widened(teacher_logits) / temperature, dim=-1)


def normalized_entropy(logits: Tensor) -> Tensor:
    """Entropy -Σ_y p(y) · log p(y) / log n of softmax(z) over n classes: 0 for one certain class, 1 where all are equal.

    Args:
        logits: Logits, (..., classes), of two classes at least.

    Returns:
        Values in [0, 1], (...).
    """
    log_probabilities = log_softmax(widened(logits), dim=-1)
    uniform = torch.full_like(log_probabilities, -math.log(logits.shape[-1]))
    return (1 - kl_of_log_probabilities(log_probabilities, uniform) / math.log(logits.shape[-1])).clamp(0, 1)


def kl_of_log_probabilities(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Σ p (log p - log q) over the last dimension; a class of probability zero contributes nothing.

    Args:
        log_p: Log-probabilities of the distribution p, (..., classes).
        log_q: Log-probabilities of the distribution q, (..., classes).

    Returns:
        KL(p ‖ q) in nats, (...).
    """
    p = log_p.exp()
    difference = torch.where(p > 0, log_p - log_q, 0)
    return (p * difference).sum(dim=-1)

"""Class distributions cut to k classes and one bucket for all others: by probability, or drawn at random."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from hf_distill.objectives.logits import MASKED_LOGIT, kl_of_log_probabilities
from hf_distill.objectives.reduction import widened


def top_k_with_tail(logits: Tensor, k: int, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    """The k most probable classes and one bucket for the rest.

    The k probabilities and the rest's sum are the teacher's, where k of them scaled up to sum to 1 would all be too large.
    Of how the rest is shared out nothing is taught, so the gradient is not that of `forward_kl`, which `sampled_classes` gives
    on average.

    Args:
        logits: (..., classes).
        k: Between 1 and classes - 1.
        temperature: T > 0, softens the distribution before it is cut.

    Returns:
        Class indices (..., k), and log-probabilities of these classes and of all others together, (..., k + 1).

    Raises:
        ValueError: k is out of range.

    Source:
        Anshumann et al. 2025, arXiv 2503.16870, section 3, on top-k without the rest; the bucket is ours.
    """
    if not 1 <= k < logits.shape[-1]:
        raise ValueError(f"k must be between 1 and {logits.shape[-1] - 1} (classes - 1), got {k}")
    log_probabilities = log_softmax(widened(logits) / temperature, dim=-1)
    indices = log_probabilities.topk(k, dim=-1).indices
    return indices, _with_tail(log_probabilities, indices)


def top_k_kl(student_logits: Tensor, indices: Tensor, log_teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """Forward KL over the buckets of `top_k_with_tail`: T² · Σ_b p_T(b) · (log p_T(b) - log p_S(b)).

    A lower bound of `forward_kl`, equal to it where the teacher spreads the tail as the student does. Of `sampled_classes` it
    is the divergence between the share of the draws that every class got and the student, 0 where the student has these
    shares; where it equals the teacher it is above 0, by what the draws missed.

    Args:
        student_logits: (..., classes).
        indices: The teacher's top classes, (..., k); one that comes n times has n times the probability given.
        log_teacher: Its log-probabilities of these and of the rest, (..., k + 1), softened by the same temperature; equal ones
            for a class that comes several times.
        temperature: T > 0.

    Returns:
        Nats, at least 0, (...).

    Source:
        Anshumann et al. 2025, arXiv 2503.16870, section 3; the tail bucket is ours.
    """
    log_teacher = widened(log_teacher)
    times = (indices[..., None] == indices[..., None, :]).sum(dim=-1)  # (..., k)
    repeated = (log_teacher[..., :-1].exp() * times.log()).sum(dim=-1)
    log_student = _with_tail(log_softmax(widened(student_logits) / temperature, dim=-1), indices)
    return temperature**2 * (kl_of_log_probabilities(log_teacher, log_student) + repeated)


def sampled_classes(logits: Tensor, draws: Tensor, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    """Classes drawn from a distribution, with replacement, each standing for an equal part of it.

    With them `top_k_kl` has the gradient of `forward_kl` on average, which the k most probable classes alone have not.

    Args:
        logits: (..., classes).
        draws: Uniform in [0, 1), (..., k).
        temperature: T > 0, softens the distribution before it is drawn from.

    Returns:
        Class indices (..., k), and log-probabilities of these, -log k, and of all others together, none, (..., k + 1).

    Source:
        Anshumann et al. 2025, arXiv 2503.16870, section 4, with the distribution itself as proposal.
    """
    cumulated = log_softmax(logits.double() / temperature, dim=-1).exp().cumsum(dim=-1)
    indices = torch.searchsorted(cumulated, draws.double() * cumulated[..., -1:], right=True)
    log_probabilities = torch.full((*draws.shape[:-1], draws.shape[-1] + 1), MASKED_LOGIT, device=logits.device)
    log_probabilities[..., :-1] = -math.log(draws.shape[-1])
    return indices.clamp(max=logits.shape[-1] - 1), log_probabilities


def spread_tail(indices: Tensor, log_probabilities: Tensor, classes: int) -> Tensor:
    """Logits of all classes from the buckets of `top_k_with_tail` or `sampled_classes`, the rest spread evenly.

    Args:
        indices: (..., k); repeated ones add up.
        log_probabilities: (..., k + 1).
        classes: How many there are, above k.

    Returns:
        (..., classes).
    """
    probabilities = log_probabilities.exp()
    named = probabilities.new_zeros((*indices.shape[:-1], classes)).scatter_add(-1, indices, probabilities[..., :-1])
    tail = (log_probabilities[..., -1:] - math.log(classes - indices.shape[-1])).clamp(min=MASKED_LOGIT)
    return torch.where(named > 0, named.log(), tail)


def _with_tail(log_probabilities: Tensor, indices: Tensor) -> Tensor:
    """Log-probabilities of the classes at the indices, (..., k), and of all others together: (..., k + 1)."""
    # Not minus infinity: where the rest is ruled out altogether, its gradient would be NaN.
    others = log_probabilities.scatter(-1, indices, torch.finfo(log_probabilities.dtype).min / 2)
    return torch.cat([log_probabilities.gather(-1, indices), others.logsumexp(dim=-1, keepdim=True)], dim=-1)

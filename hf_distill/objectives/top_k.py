"""Class distributions cut to k classes and one bucket for all others: by probability, or drawn at random."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from hf_distill.objectives.logits import MASKED_LOGIT, kl_of_log_probabilities
from hf_distill.objectives.reduction import widened


def top_k_with_tail(logits: Tensor, k: int, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    """The k most probable classes, and all other classes summed in one tail bucket.

    The k + 1 probabilities are exact, whereas k of them rescaled to sum to 1 would all be too large. How the tail is
    distributed over its classes is lost, so `top_k_kl` does not have the gradient of `forward_kl`; with
    `sampled_classes` it has, on average.

    Args:
        logits: Logits of all classes, (..., classes).
        k: Number of classes kept, between 1 and classes - 1.
        temperature: Temperature T > 0 that softens the distribution before it is truncated.

    Returns:
        Class indices (..., k), and log-probabilities of these classes and of all others together, (..., k + 1).

    Raises:
        ValueError: k is out of range.

    Source:
        Anshumann et al. 2025, arXiv 2503.16870, section 3, on top-k without a tail; the tail bucket is ours.
    """
    if not 1 <= k < logits.shape[-1]:
        raise ValueError(f"k must be between 1 and {logits.shape[-1] - 1} (classes - 1), got {k}")
    log_probabilities = log_softmax(widened(logits) / temperature, dim=-1)
    indices = log_probabilities.topk(k, dim=-1).indices
    return indices, _with_tail(log_probabilities, indices)


def top_k_kl(student_logits: Tensor, indices: Tensor, log_teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """Forward KL over the buckets of `top_k_with_tail`: T² · Σ_b p_T(b) · (log p_T(b) - log p_S(b)).

    A lower bound of `forward_kl`, equal to it where teacher and student distribute the tail alike. With
    `sampled_classes` it is the divergence of the student from the empirical distribution of the draws: 0 where the
    student has each class's share of the draws, and above 0, by the sampling error, where the student equals the
    teacher.

    Args:
        student_logits: The student's logits of all classes, (..., classes).
        indices: The teacher's classes, (..., k); one that occurs n times has n times the given probability.
        log_teacher: The teacher's log-probabilities of these classes and of all others together, (..., k + 1), softened
            by the same temperature; equal for repetitions of a class.
        temperature: Temperature T > 0 that softens both distributions.

    Returns:
        Nats per position, at least 0, (...).

    Source:
        Anshumann et al. 2025, arXiv 2503.16870, section 3; the tail bucket is ours.
    """
    log_teacher = widened(log_teacher)
    times = (indices[..., None] == indices[..., None, :]).sum(dim=-1)  # (..., k)
    repeated = (log_teacher[..., :-1].exp() * times.log()).sum(dim=-1)
    log_student = _with_tail(log_softmax(widened(student_logits) / temperature, dim=-1), indices)
    return temperature**2 * (kl_of_log_probabilities(log_teacher, log_student) + repeated)


def sampled_classes(logits: Tensor, draws: Tensor, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    """A sample of k classes, drawn with replacement, each with the weight 1 / k.

    With them `top_k_kl` has the gradient of `forward_kl` on average, which it does not have with the k most probable
    classes.

    Args:
        logits: Logits of all classes, (..., classes).
        draws: Random numbers, uniform in [0, 1), (..., k).
        temperature: Temperature T > 0 that softens the distribution before the draws.

    Returns:
        Class indices (..., k), and log-probabilities (..., k + 1): -log k for each draw, `MASKED_LOGIT` for all other
        classes.

    Source:
        Anshumann et al. 2025, arXiv 2503.16870, section 4, with the distribution itself as proposal.
    """
    cumulated = log_softmax(logits.double() / temperature, dim=-1).exp().cumsum(dim=-1)
    indices = torch.searchsorted(cumulated, draws.double() * cumulated[..., -1:], right=True)
    log_probabilities = torch.full((*draws.shape[:-1], draws.shape[-1] + 1), MASKED_LOGIT, device=logits.device)
    log_probabilities[..., :-1] = -math.log(draws.shape[-1])
    return indices.clamp(max=logits.shape[-1] - 1), log_probabilities


def spread_tail(indices: Tensor, log_probabilities: Tensor, classes: int) -> Tensor:
    """Logits of all classes from the result of `top_k_with_tail` or `sampled_classes`, the tail distributed evenly.

    Args:
        indices: Class indices, (..., k); the probabilities of a repeated class add up.
        log_probabilities: Log-probabilities of these classes and of all others together, (..., k + 1).
        classes: Number of all classes, above k.

    Returns:
        Log-probabilities, (..., classes).
    """
    probabilities = log_probabilities.exp()
    named = probabilities.new_zeros((*indices.shape[:-1], classes)).scatter_add(-1, indices, probabilities[..., :-1])
    is_named = torch.zeros_like(named, dtype=torch.bool).scatter(-1, indices, True)
    others = (~is_named).sum(dim=-1, keepdim=True).clamp(min=1)
    tail = (log_probabilities[..., -1:] - others.log()).clamp(min=MASKED_LOGIT)
    return torch.where(is_named, named.log().clamp(min=MASKED_LOGIT), tail)


def named_with_tail(probabilities: Tensor, named: Tensor) -> tuple[Tensor, Tensor]:
    """Distributions of which some classes are known, and all other classes together, as `top_k_kl` takes them.

    A class that is alone in the tail is as good as named. Rows with fewer named classes than others repeat their first one
    n times, each time with 1 / n of its probability, which leaves every bucket as it is.

    Args:
        probabilities: Probabilities, (rows, classes), of which those of the named classes are read.
        named: The classes whose probability is known, bool (rows, classes); at least one per row, and two classes.

    Returns:
        Class indices (rows, k), where k is the largest number of named classes, at most classes - 1; and log-probabilities
        of these classes and of all others together, (rows, k + 1).
    """
    most = probabilities.shape[-1] - 1
    order = torch.where(named, probabilities, -1).argsort(dim=-1, descending=True, stable=True)
    counts = named.sum(dim=-1, keepdim=True).clamp(max=most)
    width = int(counts.max())
    is_own = torch.arange(width) < counts
    indices = torch.where(is_own, order[:, :width], order[:, :1])
    kept = probabilities.gather(-1, indices)
    tail = (1 - torch.where(is_own, kept, 0).sum(dim=-1, keepdim=True)).clamp(min=0)
    times = (indices[..., None] == indices[..., None, :]).sum(dim=-1)
    return indices, torch.cat([kept / times, tail], dim=-1).log().clamp(min=MASKED_LOGIT)


def _with_tail(log_probabilities: Tensor, indices: Tensor) -> Tensor:
    """Log-probabilities of the classes at the indices, (..., k), and of all others together: (..., k + 1)."""
    # Not minus infinity: where every class of the tail is masked, its gradient would be NaN.
    others = log_probabilities.scatter(-1, indices, torch.finfo(log_probabilities.dtype).min / 2)
    return torch.cat([log_probabilities.gather(-1, indices), others.logsumexp(dim=-1, keepdim=True)], dim=-1)

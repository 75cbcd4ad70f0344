"""Sentence embeddings: pooling of hidden states, and the similarities of a batch's texts with each other."""

from __future__ import annotations

from enum import Enum

import torch
from torch import Tensor
from torch.nn.functional import normalize

from hf_distill.objectives.logits import MASKED_LOGIT, forward_kl
from hf_distill.objectives.reduction import widened


class Pooling(str, Enum):
    """How the hidden states of a text's tokens become one embedding."""

    MEAN = "mean"
    CLS = "cls"
    LAST = "last"


def pooled(states: Tensor, valid: Tensor | None, pooling: Pooling) -> Tensor:
    """The embedding of each text, in at least single precision.

    Args:
        states: Hidden states, (batch, sequence, hidden).
        valid: True at positions that are not padding, which may be on either side, bool (batch, sequence). None: there
            is no padding.
        pooling: The mean of all tokens, or the first or last token.

    Returns:
        The embeddings, (batch, hidden); 0 for the mean of no token.
    """
    states = widened(states)
    valid = torch.ones(states.shape[:2], dtype=torch.bool, device=states.device) if valid is None else valid.bool()
    if pooling is Pooling.MEAN:
        weights = valid.unsqueeze(-1).to(states.dtype)
        return (states * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)
    first = valid.int().argmax(dim=1)
    last = valid.shape[1] - 1 - valid.flip(1).int().argmax(dim=1)
    chosen = first if pooling is Pooling.CLS else last
    return states[torch.arange(len(states), device=states.device), chosen]


def similarities(embeddings: Tensor) -> Tensor:
    """Cosine similarities of the embeddings with each other.

    Args:
        embeddings: Embeddings of any length, (batch, width).

    Returns:
        Similarities in [-1, 1], (batch, batch).
    """
    directions = normalize(widened(embeddings), dim=-1)
    return directions @ directions.T


def similarity_kl(student_embeddings: Tensor, teacher_embeddings: Tensor, temperature: float) -> Tensor:
    """T² · KL(softmax(c_T / T) ‖ softmax(c_S / T)), c the cosine similarities of a text with the others in the batch.

    Student and teacher may differ in width. The similarity of a text with itself does not count.

    Args:
        student_embeddings: The student's embeddings, (batch, student width).
        teacher_embeddings: The teacher's embeddings of the same texts, (batch, teacher width).
        temperature: Temperature T > 0 that softens both distributions.

    Returns:
        Nats per text, (batch,); 0 where the batch has fewer than three texts, since one other text has probability 1.

    Source:
        Lin et al. 2020, arXiv 2010.11386, equation 4 (there between queries and passages); SEED, Fang et al. 2021, arXiv
        2101.04731, equation 4 (there with a queue of embeddings of earlier batches, and without T²).
    """
    with torch.autocast(student_embeddings.device.type, enabled=False):
        itself = torch.eye(len(student_embeddings), dtype=torch.bool, device=student_embeddings.device)
        student, teacher = (
            similarities(each).masked_fill(itself, MASKED_LOGIT) for each in (student_embeddings, teacher_embeddings)
        )
        return forward_kl(student, teacher, temperature)

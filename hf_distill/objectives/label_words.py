"""Distributions over labels, from the probabilities that a language model gives to the words of each label."""

from __future__ import annotations

from enum import Enum

from torch import Tensor
from torch.nn.functional import log_softmax

from hf_distill.objectives.reduction import widened


class LabelScore(str, Enum):
    """How the log-probabilities of a label's tokens become its score."""

    SUM = "sum"
    MEAN = "mean"


def token_log_probabilities(logits: Tensor, tokens: Tensor) -> Tensor:
    """Log-probabilities of given tokens.

    Args:
        logits: Logits of the next token, (..., vocabulary).
        tokens: Token ids, (..., n), all read from the same distribution.

    Returns:
        Nats, (..., n), in single precision at least.
    """
    return log_softmax(widened(logits), dim=-1).gather(-1, tokens)


def label_log_probabilities(
    token_scores: Tensor,
    is_token: Tensor,
    score: LabelScore = LabelScore.SUM,
    content_free: Tensor | None = None,
) -> Tensor:
    """Log-probabilities of labels: log softmax_y s(y), with s(y) = Σ_i log p(token i of y | prompt, tokens before i), or its mean.

    With contextual calibration log softmax_y (s(y) - log p_cf(y)), where p_cf is what the model says of texts without content:
    each label's probability is divided by p_cf(y), and the results are normalized.

    Args:
        token_scores: Log-probabilities of the labels' tokens, (..., labels, tokens).
        is_token: Which of them are tokens and not padding, bool, broadcast to the same shape; at least one per label.
        score: The sum of a label's log-probabilities, or their mean, which does not favor labels of few tokens.
        content_free: Log-probabilities of the labels for texts without content, broadcast to (..., labels). None: no
            calibration.

    Returns:
        Log-probabilities, (..., labels).

    Source:
        Brown et al. 2020, arXiv 2005.14165, section 2.4 (the likelihood of a completion, and per token); Zhao et al. 2021,
        arXiv 2102.09690, section 5, with W = diag(p_cf)^-1 and b = 0, normalized to a sum of 1 in place of a softmax of W p,
        which has the same order of labels.
    """
    scores = token_scores.masked_fill(~is_token, 0).sum(dim=-1)
    if score is LabelScore.MEAN:
        scores = scores / is_token.sum(dim=-1)
    log_probabilities = log_softmax(scores, dim=-1)
    return log_probabilities if content_free is None else log_softmax(log_probabilities - content_free, dim=-1)

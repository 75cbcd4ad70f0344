"""Losses on the scores of a query's candidates: margins between two documents, and the distribution over all of them.

Every row of a batch is a pair of a query and a document with one score. All candidates of a query are in one batch, so the
losses are the same for every split of a batch over accumulation steps and processes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from hf_distill.objectives.logits import forward_kl
from hf_distill.objectives.reduction import widened


def margin_mse(student_scores: Tensor, teacher_scores: Tensor, queries: Tensor, temperature: float = 1.0) -> Tensor:
    """MarginMSE ((s_i - s_j) - (t_i - t_j))² of two documents i and j, which are of one query where `document_pairs` says so.

    Args:
        student_scores: The student's score of each row, (batch,).
        teacher_scores: The teacher's score of each row, (batch,).
        queries: The query of each row, for a common signature; without effect.
        temperature: Accepted for a common signature, without effect: T² · (margin / T)² does not depend on T.

    Returns:
        Squared score units per pair of rows, (batch, batch).

    Source:
        Hofstätter et al. 2020, arXiv 2010.02666, equation 2, there of a relevant and an irrelevant document; here of any two.
    """
    differences = widened(student_scores) - widened(teacher_scores)
    return (differences[:, None] - differences[None, :]).square()


def listwise_kl(student_scores: Tensor, teacher_scores: Tensor, queries: Tensor, temperature: float = 1.0) -> Tensor:
    """KL divergence T² · Σ_i p_T(i) · (log p_T(i) - log p_S(i)), where p is the softmax of scores / T over a query's candidates.

    Args:
        student_scores: The student's score of each row, (batch,).
        teacher_scores: The teacher's score of each row, (batch,).
        queries: The query of each row, integers (batch,).
        temperature: Temperature T > 0 that softens both distributions.

    Returns:
        Nats of the query of each row, (batch,): the same for all of its rows.

    Source:
        Cao et al. 2007, ICML, with the teacher's top-one probabilities as the target; T² as in `forward_kl`.
    """
    is_other = ~of_same_query(queries)
    student, teacher = (
        widened(scores).expand(len(scores), -1).masked_fill(is_other, -torch.inf)
        for scores in (student_scores, teacher_scores)
    )
    return forward_kl(student, teacher, temperature)


def of_same_query(queries: Tensor) -> Tensor:
    """Which rows are candidates of the same query, bool (batch, batch)."""
    return queries[:, None] == queries[None, :]


def document_pairs(inputs: Mapping[str, Any], query_column: str) -> Tensor:
    """The items of MarginMSE: two documents of one query, every pair once.

    Args:
        inputs: Model inputs.
        query_column: The name of the input that holds the query of each row.

    Returns:
        True above the diagonal where both rows are of one query, bool (batch, batch).

    Raises:
        ValueError: The inputs have no queries.
    """
    return of_same_query(query_ids(inputs, query_column)).triu(1)


def first_candidates(inputs: Mapping[str, Any], query_column: str) -> Tensor:
    """The items of listwise losses: queries, each at its first row.

    Args:
        inputs: Model inputs.
        query_column: The name of the input that holds the query of each row.

    Returns:
        True at the first row of every query, bool (batch,).

    Raises:
        ValueError: The inputs have no queries.
    """
    return ~of_same_query(query_ids(inputs, query_column)).tril(-1).any(dim=1)


def query_ids(inputs: Mapping[str, Any], query_column: str) -> Tensor:
    """The query of each row.

    Args:
        inputs: Model inputs.
        query_column: The name of the input that holds the queries.

    Returns:
        Numbers of queries, integers (batch,).

    Raises:
        ValueError: There is no such input, or it is not one integer per row; names what there is.
    """
    queries = inputs.get(query_column)
    if not isinstance(queries, Tensor):
        raise ValueError(
            f"the losses margin_mse and listwise_kl compare the candidates of a query, which query_column {query_column!r} "
            f"names, but the batch has {sorted(inputs)}: keep that column, of integers, in the data set, and in what the data "
            "collator makes"
        )
    if queries.dim() != 1 or queries.is_floating_point():
        raise ValueError(
            f"query_column {query_column!r} must hold one integer per row, got {str(queries.dtype).removeprefix('torch.')} of "
            f"shape {tuple(queries.shape)}"
        )
    return queries


RANKING_LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor, float], Tensor]] = {
    "margin_mse": margin_mse,
    "listwise_kl": listwise_kl,
}
RANKED_ITEMS: dict[str, Callable[[Mapping[str, Any], str], Tensor]] = {
    "margin_mse": document_pairs,
    "listwise_kl": first_candidates,
}

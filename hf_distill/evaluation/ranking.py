"""Metrics of rerankers: how well the candidates of each query are ordered."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from transformers import EvalPrediction

from hf_distill.extras import require_extra


def ranking_values(
    queries: Sequence[int], labels: np.ndarray, scores: np.ndarray, cutoff: int = 10
) -> dict[str, np.ndarray]:
    """NDCG at a cutoff and the reciprocal rank of each query that has a relevant candidate.

    nDCG is scikit-learn's `ndcg_score`: the gain of a document is its label, as in trec_eval, discounted by log2(1 + rank),
    and documents of equal scores share their ranks. The reciprocal rank, 1 / rank of the first relevant document, which is behind
    every other document of the same score, is its `label_ranking_average_precision_score`.

    Args:
        queries: The query of each row, (rows,).
        labels: The relevance of each row, at least 0, (rows,); above 0 is relevant.
        scores: The score of each row, (rows,).
        cutoff: Number of documents at the top that nDCG looks at, at least 1.

    Returns:
        `ndcg@<cutoff>` and `mrr`, each (queries with a relevant candidate,), queries in the order of their numbers.

    Raises:
        ValueError: The numbers of rows differ, a label is negative or no finite number, or the cutoff is below 1.
        ImportError: scikit-learn is not installed.
    """
    numbers, labels, scores = (np.asarray(values).reshape(-1) for values in (queries, labels, scores))
    _require_rankable(numbers, labels, scores, cutoff)
    ndcg, reciprocal = [], []
    for query in np.unique(numbers[labels > 0]):
        of_query = numbers == query
        ndcg.append(_ndcg(labels[of_query], scores[of_query], cutoff))
        reciprocal.append(_reciprocal_rank(labels[of_query] > 0, scores[of_query]))
    return {f"ndcg@{cutoff}": np.array(ndcg), "mrr": np.array(reciprocal)}


def ranking_metric(queries: Sequence[int], cutoff: int = 10) -> Callable[[EvalPrediction], dict[str, float]]:
    """The metrics of a reranker, to be passed to a trainer as `compute_metrics`.

    Args:
        queries: The query of each row of the evaluation set, such as `dataset["query_id"]`.
        cutoff: Number of documents at the top that nDCG looks at, at least 1.

    Returns:
        A function of an evaluation's predictions (rows, 1) and labels (rows,), whose result has the means of
        `ranking_values` over queries; it is empty if no candidate is relevant.

    Raises:
        ImportError: scikit-learn is not installed.
    """
    require_extra("sklearn", "eval", "nDCG")  # reported before a training rather than after it

    def compute(evaluation: EvalPrediction) -> dict[str, float]:
        first = evaluation.predictions[0] if isinstance(evaluation.predictions, tuple) else evaluation.predictions
        values = ranking_values(queries, np.asarray(evaluation.label_ids), np.asarray(first), cutoff)
        return {name: float(of_queries.mean()) for name, of_queries in values.items() if len(of_queries)}

    return compute


def _require_rankable(queries: np.ndarray, labels: np.ndarray, scores: np.ndarray, cutoff: int) -> None:
    if not len(queries) == len(labels) == len(scores):
        raise ValueError(
            f"a reranker gives every row one score and needs its query and label: got {len(scores)} scores, {len(queries)} "
            f"queries and {len(labels)} labels"
        )
    if not np.isfinite(labels).all() or (labels < 0).any():
        raise ValueError(
            f"relevance must be a finite number of at least 0, got {labels[~np.isfinite(labels) | (labels < 0)][:3].tolist()}"
        )
    if cutoff < 1:
        raise ValueError(f"cutoff must be at least 1, got {cutoff}")


def _ndcg(labels: np.ndarray, scores: np.ndarray, cutoff: int) -> float:
    require_extra("sklearn", "eval", "nDCG")
    from sklearn.metrics import ndcg_score

    return 1.0 if len(labels) == 1 else float(ndcg_score(labels[None], scores[None], k=cutoff))


def _reciprocal_rank(is_relevant: np.ndarray, scores: np.ndarray) -> float:
    from sklearn.metrics import label_ranking_average_precision_score

    others = scores[~is_relevant]
    # The average precision of a single relevant document is its reciprocal rank.
    first = np.append(others, scores[is_relevant].max())
    return float(label_ranking_average_precision_score(np.arange(len(first))[None] == len(others), first[None]))

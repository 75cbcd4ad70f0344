"""What sentence encoders are compared by: pairs of texts with their similarity as label, or pairs that belong together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from hf_distill.evaluation.embeddings import (
    evenly_spaced,
    normalized,
    pair_scores,
    retrieval_agreement,
    similarity_spearman,
    target_ranks,
)
from hf_distill.evaluation.metrics import compute_metrics

SIMILARITY_METRICS = ("spearmanr", "pearson")
_NEAREST = 10


@dataclass(frozen=True)
class PairScores:
    """A sentence encoder's similarities of the texts of each pair, and how good they are.

    Attributes:
        cosines: The cosine similarity of each pair, (pairs,).
        metrics: The metrics by name.
        main_metric: The key of `metrics` that models are compared by.
        score: A function from indices of pairs, with repetitions, (pairs,), to the main metric on them.
    """

    cosines: np.ndarray
    metrics: dict[str, float]
    main_metric: str
    score: Callable[[np.ndarray], float]


def scores_of_pairs(first: np.ndarray, second: np.ndarray, labels: np.ndarray | None) -> PairScores:
    """The scores of a sentence encoder on pairs of texts.

    Args:
        first: The embeddings of the first texts, (pairs, width).
        second: The embeddings of the second texts, (pairs, width).
        labels: How similar the texts are, on any scale, (pairs,). None: they belong together, and the second text is to
            be found among all second texts.

    Returns:
        The scores: `SIMILARITY_METRICS` of cosine and label; without labels those of `pair_scores`, and the mean
        reciprocal rank as the main one.
    """
    cosines = (normalized(first) * normalized(second)).sum(axis=1)
    if labels is None:
        reciprocal = 1 / target_ranks(first, second)
        score = lambda pairs: float(reciprocal[pairs].mean())  # noqa: E731
        return PairScores(cosines, pair_scores(first, second), "mrr", score)
    metrics, (main, *_) = partial(compute_metrics, SIMILARITY_METRICS), SIMILARITY_METRICS
    return PairScores(
        cosines, metrics(labels, cosines), main, lambda pairs: metrics(labels[pairs], cosines[pairs])[main]
    )


def pair_fidelity(student: np.ndarray, teacher: np.ndarray) -> dict[str, float]:
    """How far a student's similarities are the teacher's, on at most 500 pairs, evenly spaced.

    Args:
        student: The student's embeddings of the first texts, then of the second, (2 · pairs, student width).
        teacher: The teacher's embeddings of the same texts, (2 · pairs, teacher width).

    Returns:
        `similarity_spearman` and `retrieval_agreement_at_10`, see `hf_distill.evaluation.embeddings`; the latter with fewer
        than 10 pairs of as many documents as there are.
    """
    pairs = len(student) // 2
    chosen = evenly_spaced(pairs)
    own, theirs = ((each[chosen], each[pairs + chosen]) for each in (student, teacher))
    nearest = min(_NEAREST, len(chosen))
    return {
        "similarity_spearman": similarity_spearman(*map(np.concatenate, (own, theirs))),
        f"retrieval_agreement_at_{nearest}": retrieval_agreement(own, theirs, nearest),
    }

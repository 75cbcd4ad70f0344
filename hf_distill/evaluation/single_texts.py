"""What sentence encoders are compared by on single texts: how far a student's similarities are the teacher's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from datasets import Dataset

from hf_distill.data.sequences import text_columns
from hf_distill.evaluation.embeddings import evenly_spaced, neighbor_agreement, pair_cosines, similarity_spearman
from hf_distill.evaluation.metric_text import SIMILARITY

FEWEST_TEXTS = 3  # whose pairs have an order
_FEWEST_RESAMPLED = 20  # of which hardly a bootstrap sample has fewer than FEWEST_TEXTS different ones
_NEAREST = 10


@dataclass(frozen=True)
class TextScores:
    """How far a sentence encoder's similarities of single texts are the teacher's.

    Attributes:
        metrics: `similarity_spearman`, see `hf_distill.evaluation.embeddings`; the teacher's own is 1 by definition.
        num_texts: The number of texts that were compared with each other.
        score: A function from indices of these texts, with repetitions, (samples,), to the metric on them.
    """

    metrics: dict[str, float]
    num_texts: int
    score: Callable[[np.ndarray], float]

    @property
    def has_interval(self) -> bool:
        """Whether there are enough texts for a bootstrap interval."""
        return self.num_texts >= _FEWEST_RESAMPLED


def require_comparable_texts(rows: Dataset, has_teacher: bool) -> None:
    """Check that sentence encoders can be compared on these rows.

    Args:
        rows: The raw rows.
        has_teacher: Whether a teacher is compared with the students.

    Raises:
        ValueError: There is no column of texts, or one column, but no teacher or fewer than three texts.
    """
    columns = text_columns(rows.features)
    if not columns:
        raise ValueError(f"sentence encoders need one or two columns of texts, got {rows.column_names}")
    if len(columns) == 2:
        return
    if not has_teacher:
        raise ValueError(
            f"on texts of one column, {columns[0]}, students are compared with their teacher's similarities: pass the teacher "
            "(--teacher), or rows with two columns of texts that belong together or have their similarity as label"
        )
    if len(rows) < FEWEST_TEXTS:
        raise ValueError(f"similarities are compared on at least {FEWEST_TEXTS} texts, got {len(rows)}")


def scores_of_texts(student: np.ndarray, teacher: np.ndarray | None) -> TextScores:
    """How far a student's similarities are the teacher's, on at most 500 texts, evenly spaced.

    Args:
        student: The student's embeddings, (texts, student width).
        teacher: The teacher's embeddings of the same texts, (texts, teacher width). None: the student is the teacher.

    Returns:
        The scores.
    """
    count = len(evenly_spaced(len(student)))
    if teacher is None:
        return TextScores({SIMILARITY: 1.0}, count, lambda texts: 1.0)
    metrics = {SIMILARITY: similarity_spearman(*_compared(student, teacher))}
    return TextScores(metrics, count, similarity_score(student, teacher))


def neighbor_fidelity(student: np.ndarray, teacher: np.ndarray) -> dict[str, float]:
    """`neighbor_agreement_at_10` of the same texts as `scores_of_texts`; with up to ten texts, of as many others as there are."""
    own, theirs = _compared(student, teacher)
    nearest = min(_NEAREST, len(own) - 1)
    return {f"neighbor_agreement_at_{nearest}": neighbor_agreement(own, theirs, nearest)}


def similarity_score(student: np.ndarray, teacher: np.ndarray) -> Callable[[np.ndarray], float]:
    """A function that computes the metric on a bootstrap sample of the texts.

    Args:
        student: The student's embeddings, (texts, student width).
        teacher: The teacher's embeddings of the same texts, (texts, teacher width).

    Returns:
        A function from indices of the compared texts, with repetitions, (samples,), to `similarity_spearman` over all pairs
        of different texts among them; NaN where these have no order.
    """
    embeddings = _compared(student, teacher)
    count = len(embeddings[0])
    cosines = np.stack([pair_cosines(each) for each in embeddings])  # (2, pairs)
    by_teacher = np.argsort(cosines[1], kind="stable")  # memory is then read in order, which is twice as fast
    pairs = np.ravel_multi_index(np.triu_indices(count, k=1), (count, count))[by_teacher]
    orders = [_Order.of(each) for each in cosines[:, by_teacher]]

    def score(texts: np.ndarray) -> float:
        counts = np.bincount(texts, minlength=count).astype(float)
        weights = np.outer(counts, counts).ravel()[pairs]
        own, theirs = (order.centered_ranks(weights) for order in orders)
        scale = np.sqrt((weights @ own**2) * (weights @ theirs**2))
        return float((weights * own) @ theirs / scale) if scale > 0 else float("nan")

    return score


@dataclass(frozen=True)
class _Order:
    """The order of pairs by their cosine.

    Attributes:
        ascending: The indices of the pairs, the smallest cosine first, (pairs,).
        below: The number of pairs with a smaller cosine than each pair, (pairs,).
        up_to: The number of pairs with at most its cosine, (pairs,).
    """

    ascending: np.ndarray
    below: np.ndarray
    up_to: np.ndarray

    @classmethod
    def of(cls, cosines: np.ndarray) -> _Order:
        ascending = np.argsort(cosines, kind="stable")
        found = (np.searchsorted(cosines[ascending], cosines, side) for side in ("left", "right"))
        return cls(ascending, *found)

    def centered_ranks(self, weights: np.ndarray) -> np.ndarray:
        """Twice the mean rank of each pair less the mean of all, (pairs,), where pairs count as often as their weights say."""
        cumulative = np.concatenate([[0.0], np.cumsum(weights[self.ascending])])
        return cumulative[self.below] + cumulative[self.up_to] - cumulative[-1]


def _compared(*embeddings: np.ndarray) -> list[np.ndarray]:
    return [each[evenly_spaced(len(each))] for each in embeddings]

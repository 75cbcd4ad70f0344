"""nDCG and reciprocal ranks, by hand."""

import math

import numpy as np
import pytest
from transformers import EvalPrediction

from hf_distill.evaluation.ranking import ranking_metric, ranking_values


def test_values_by_hand():
    queries = [8, 2, 8, 2, 2, 5]
    labels = np.array([0, 1, 1, 0, 2, 0])
    scores = np.array([0.9, 0.1, 0.2, 0.5, 0.3, 1.0])[:, None]
    found = ranking_values(queries, labels, scores)
    # Query 2 in the order 0.5 (0), 0.3 (2), 0.1 (1); query 8 in the order 0.9 (0), 0.2 (1); query 5 has nothing relevant.
    gains, ideal = 2 / math.log2(3) + 1 / math.log2(4), 2 / math.log2(2) + 1 / math.log2(3)
    assert found["ndcg@10"].tolist() == pytest.approx([gains / ideal, 1 / math.log2(3)])
    assert found["mrr"].tolist() == pytest.approx([1 / 2, 1 / 2])


def test_the_cutoff_is_that_of_ndcg_alone():
    labels, scores = np.array([0] * 10 + [1]), -np.arange(11.0)  # the relevant document is the eleventh
    found = ranking_values([0] * 11, labels, scores)
    assert found["ndcg@10"] == 0 and found["mrr"] == pytest.approx(1 / 11)
    assert ranking_values([0] * 11, labels, scores, cutoff=11)["ndcg@11"] == pytest.approx(1 / math.log2(12))


def test_equal_scores_earn_nothing():
    labels, scores = np.array([1, 0, 0, 0]), np.zeros(4)
    found = ranking_values([0] * 4, labels, scores)
    assert found["mrr"] == 1 / 4
    assert found["ndcg@10"] == pytest.approx(np.mean([1 / math.log2(rank + 1) for rank in (1, 2, 3, 4)]))
    assert ranking_values([0], np.array([1]), np.zeros(1)) == {"ndcg@10": 1, "mrr": 1}  # a single candidate


def test_a_trainers_metric_is_the_mean_over_queries():
    compute = ranking_metric([0, 0, 1, 1])
    labels, scores = np.array([1.0, 0, 0, 1]), np.array([[2.0], [1], [2], [1]])
    expected = {"ndcg@10": pytest.approx((1 + 1 / math.log2(3)) / 2), "mrr": 0.75}
    assert compute(EvalPrediction(scores, labels)) == expected
    assert compute(EvalPrediction((scores, np.zeros(3)), labels)) == expected  # a model that also returns hidden states
    assert compute(EvalPrediction(scores, np.zeros(4))) == {}


@pytest.mark.parametrize(
    ("queries", "labels", "cutoff", "message"),
    [
        ([0, 0], [1, 0, 0], 10, "got 3 scores, 2 queries and 3 labels"),
        ([0, 0, 0], [1, -100, 0], 10, r"at least 0, got \[-100.0\]"),
        ([0, 0, 0], [1, math.nan, math.inf], 10, r"at least 0, got \[nan, inf\]"),
        ([0, 0, 0], [1, 0, 0], 0, "cutoff must be at least 1, got 0"),
    ],
)
def test_what_cannot_be_ranked_is_refused(queries, labels, cutoff, message):
    with pytest.raises(ValueError, match=message):
        ranking_values(queries, np.array(labels, dtype=float), np.zeros(3), cutoff)

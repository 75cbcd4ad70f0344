"""Scores of embeddings against explicit counts."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from hf_distill import SentenceEncoder
from hf_distill.evaluation.embeddings import (
    embeddings_of,
    evenly_spaced,
    neighbor_agreement,
    pair_scores,
    retrieval_agreement,
    similarity_spearman,
    target_ranks,
)
from tests.tiny_models import tiny_bert, tiny_tokenizer


@pytest.fixture
def random():
    return np.random.default_rng(0)


def cosine(first, second):
    return first @ second / np.linalg.norm(first) / np.linalg.norm(second)


def test_spearman_is_over_all_pairs_of_texts(random):
    student, teacher = random.normal(size=(7, 4)), random.normal(size=(7, 9))
    pairs = [(first, second) for first in range(7) for second in range(first)]
    expected = spearmanr(*([cosine(side[a], side[b]) for a, b in pairs] for side in (student, teacher))).statistic
    assert similarity_spearman(student, teacher) == pytest.approx(expected)
    assert similarity_spearman(3 * teacher, teacher) == pytest.approx(1)
    with pytest.raises(ValueError, match="got 6 and 7 rows"):
        similarity_spearman(student[:6], teacher)


def test_agreement_counts_the_common_neighbors(random):
    student, teacher = ((random.normal(size=(5, 4)), random.normal(size=(8, 4))) for _ in range(2))

    def nearest(side, query):
        order = sorted(range(8), key=lambda document: -cosine(side[0][query], side[1][document]))
        return set(order[:3])

    expected = np.mean([len(nearest(student, query) & nearest(teacher, query)) / 3 for query in range(5)])
    assert retrieval_agreement(student, teacher, k=3) == pytest.approx(expected)
    assert retrieval_agreement(teacher, teacher, k=3) == 1
    with pytest.raises(ValueError, match="number of documents, 8, got 9"):
        retrieval_agreement(student, teacher, k=9)


def test_agreement_of_texts_with_each_other_leaves_out_the_text_itself(random):
    student, teacher = random.normal(size=(8, 4)), random.normal(size=(8, 5))

    def nearest(side, text):
        return set(sorted(set(range(8)) - {text}, key=lambda other: -cosine(side[text], side[other]))[:3])

    expected = np.mean([len(nearest(student, text) & nearest(teacher, text)) / 3 for text in range(8)])
    assert neighbor_agreement(student, teacher, k=3) == pytest.approx(expected)
    assert neighbor_agreement(teacher, teacher, k=7) == 1
    with pytest.raises(ValueError, match="number of other texts, 7, got 8"):
        neighbor_agreement(student, teacher, k=8)


def test_at_most_500_rows_are_compared_with_each_other():
    assert evenly_spaced(3).tolist() == [0, 1, 2] and len(evenly_spaced(500)) == len(evenly_spaced(501)) == 500
    assert evenly_spaced(100_000)[[0, -1]].tolist() == [0, 99_999]


def test_scores_of_pairs():
    queries = np.eye(3)
    documents = np.array([[1, 0, 0], [0.9, 0.5, 0], [0, 0, 1]])
    assert target_ranks(queries, documents).tolist() == [1, 1, 1]
    found = pair_scores(queries, documents)
    assert found["accuracy_at_1"] == found["mrr"] == 1 and found["spearman"] > 0.7
    assert target_ranks(queries, documents[[1, 0, 2]]).tolist() == [2, 2.5, 1]  # of equal ones the mean


def test_texts_keep_their_order_and_long_ones_are_cut():
    model, tokenizer = SentenceEncoder.from_model(tiny_bert()), tiny_tokenizer()
    texts = ["w5", "w6 w7 w8", " ".join(["w9"] * 100), "w4 w5"]
    found = embeddings_of(model, tokenizer, texts, batch_size=2)
    assert found.shape == (4, 16) and found.dtype == np.float32
    for row, text in enumerate([*texts[:2], " ".join(["w9"] * 64), texts[3]]):
        np.testing.assert_allclose(found[row], embeddings_of(model, tokenizer, [text])[0], rtol=1e-4, atol=1e-5)

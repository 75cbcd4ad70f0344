"""Losses on the candidates of queries, against explicit loops and sentence-transformers' own losses."""

from __future__ import annotations

import itertools
import math
from unittest.mock import Mock

import pytest
import torch

from hf_distill.objectives.model_outputs import Features, ModelOutputs
from hf_distill.objectives.objective import Objective
from hf_distill.objectives.ranking import (
    RANKED_ITEMS,
    RANKING_LOSSES,
    document_pairs,
    first_candidates,
    listwise_kl,
    margin_mse,
    query_ids,
)
from hf_distill.objectives.terms import ranking_term

QUERIES = [4, 7, 4, 9, 7, 4, 7, 7, 9]  # of 3, 4 and 2 candidates, mixed
GROUPS = {4: [0, 2, 5], 7: [1, 4, 6, 7], 9: [3, 8]}


def scores(rows: int = len(QUERIES), dtype=torch.float64):
    generator = torch.Generator().manual_seed(3)
    student, teacher = torch.randn(2, rows, generator=generator, dtype=dtype)
    return student.requires_grad_(), 3 * teacher


def mean_of(loss: str, student, teacher, queries, temperature=1.0):
    """The mean over the term's items, as a training computes it."""
    inputs = {"query": torch.tensor(queries)}
    outputs = ModelOutputs(Features(student[:, None]), Features(teacher[:, None]), inputs=inputs)
    return Objective([ranking_term(1.0, loss, temperature, "query")]).means(outputs, inputs)[0]


def margins_by_hand(student, teacher):
    pairs = [pair for rows in GROUPS.values() for pair in itertools.combinations(rows, 2)]
    return sum(((student[i] - student[j]) - (teacher[i] - teacher[j])) ** 2 for i, j in pairs) / len(pairs)


def lists_by_hand(student, teacher, temperature):
    total = 0
    for rows in GROUPS.values():
        p, q = ((s[rows] / temperature).exp() for s in (teacher, student))
        p, q = p / p.sum(), q / q.sum()
        total += temperature**2 * sum(float(a) * (math.log(a) - math.log(b)) for a, b in zip(p, q, strict=True))
    return total / len(GROUPS)


def test_margin_mse_is_the_mean_over_all_pairs_of_documents_of_a_query():
    student, teacher = scores()
    expected = margins_by_hand(student, teacher)
    found = mean_of("margin_mse", student, teacher, QUERIES)
    assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=1e-6)
    (gradient,), (by_hand,) = (torch.autograd.grad(value, [student]) for value in (found, expected))
    torch.testing.assert_close(gradient, by_hand, rtol=1e-6, atol=1e-9)
    pairs = document_pairs({"q": torch.tensor(QUERIES)}, "q").nonzero().tolist()
    assert sorted(map(tuple, pairs)) == sorted(p for rows in GROUPS.values() for p in itertools.combinations(rows, 2))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 1000.0])
def test_listwise_kl_is_the_mean_over_queries(temperature):
    student, teacher = scores()
    found = mean_of("listwise_kl", student, teacher, QUERIES, temperature)
    assert float(found.detach()) == pytest.approx(
        lists_by_hand(student.detach(), teacher, temperature), rel=1e-4, abs=1e-6
    )
    assert torch.autograd.grad(found, [student])[0].isfinite().all()
    assert first_candidates({"q": torch.tensor(QUERIES)}, "q").nonzero()[:, 0].tolist() == [0, 1, 3]


@pytest.mark.parametrize("loss", RANKING_LOSSES)
def test_only_differences_within_a_query_count(loss):
    student, teacher = scores()
    shifted = teacher + 100.0 * torch.tensor(QUERIES)  # by another constant for every query
    same = mean_of(loss, student, shifted, QUERIES)
    torch.testing.assert_close(same, mean_of(loss, student, teacher, QUERIES), rtol=1e-4, atol=1e-5)
    assert float(mean_of(loss, shifted, teacher, QUERIES)) == pytest.approx(0, abs=1e-9)
    assert float(mean_of(loss, student.detach()[:3], teacher[:3], [1, 2, 3])) == 0  # of one candidate each


@pytest.mark.parametrize("loss", RANKING_LOSSES)
@pytest.mark.parametrize("split", [[[4], [7], [9]], [[4, 9], [7]]])
def test_batches_of_whole_queries_add_up_to_the_gradient_of_one_batch(loss, split):
    student, teacher = scores()
    (whole,) = torch.autograd.grad(mean_of(loss, student, teacher, QUERIES, 2.0), [student])
    objective = Objective([ranking_term(1.0, loss, 2.0, "query")])
    total = objective.num_items({"query": torch.tensor(QUERIES)})
    for queries in split:
        rows = [row for query in queries for row in GROUPS[query]]
        inputs = {"query": torch.tensor(QUERIES)[rows]}
        outputs = ModelOutputs(Features(student[rows, None]), Features(teacher[rows, None]), inputs=inputs)
        objective(outputs, inputs, total)[0].backward()
    torch.testing.assert_close(student.grad, whole, rtol=1e-5, atol=1e-7)


def test_half_precision_is_widened():
    student, teacher = (values.detach().bfloat16() for values in scores())
    for loss in RANKING_LOSSES.values():
        assert loss(student, teacher, torch.tensor(QUERIES), 1.0).dtype == torch.float32


def test_two_documents_give_the_formula_of_sentence_transformers():
    """The mean squared error of pos - neg against the teacher's, as its MarginMSELoss computes it for triplets."""
    student, teacher = scores(12)
    margin, teachers = student[0::2] - student[1::2], teacher[0::2] - teacher[1::2]
    expected = torch.nn.MSELoss()(margin, teachers)
    found = mean_of("margin_mse", student, teacher, [row // 2 for row in range(12)])
    torch.testing.assert_close(found, expected.float())


def test_two_documents_give_the_margin_mse_of_sentence_transformers():
    losses = pytest.importorskip("sentence_transformers.cross_encoder.losses")
    from sentence_transformers import CrossEncoder

    student, teacher = scores(12)
    theirs = losses.MarginMSELoss(Mock(spec=CrossEncoder, num_labels=1))
    theirs.logits_from_pairs = lambda pairs, **_: torch.stack([student[int(document)] for _, document in pairs])
    names = [str(row) for row in range(12)]
    expected = theirs([["query"] * 6, names[0::2], names[1::2]], teacher[0::2] - teacher[1::2])
    found = mean_of("margin_mse", student, teacher, [row // 2 for row in range(12)])
    torch.testing.assert_close(found, expected.float())


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_lists_give_the_kl_divergence_of_sentence_transformers(temperature):
    losses = pytest.importorskip("sentence_transformers.sentence_transformer.losses")
    student, teacher = scores(12)
    theirs = losses.DistillKLDivLoss(
        torch.nn.Identity(), similarity_fct=lambda query, document: document[:, 0], temperature=temperature
    )
    columns = [torch.zeros(3, 1), *(student.float().view(3, 4, 1)[:, place] for place in range(4))]
    expected = theirs.compute_loss_from_embeddings(columns, teacher.float().view(3, 4))
    found = mean_of("listwise_kl", student, teacher, [row // 4 for row in range(12)], temperature)
    torch.testing.assert_close(found, expected.float(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"input_ids": torch.ones(2, 3)}, r"query_column 'query' names, but the batch has \['input_ids'\]"),
        ({"query": ["a", "b"]}, r"query_column 'query' names, but the batch has \['query'\]"),
        ({"query": torch.ones(2)}, r"one integer per row, got float32 of shape \(2,\)"),
        ({"query": torch.ones(2, 1).long()}, r"one integer per row, got int64 of shape \(2, 1\)"),
    ],
)
def test_a_batch_without_queries_is_refused(inputs, message):
    with pytest.raises(ValueError, match=message):
        query_ids(inputs, "query")


def test_every_loss_says_what_its_items_are():
    assert {"margin_mse": margin_mse, "listwise_kl": listwise_kl} == RANKING_LOSSES
    assert RANKED_ITEMS.keys() == RANKING_LOSSES.keys()

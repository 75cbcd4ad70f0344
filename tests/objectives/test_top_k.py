"""Distributions cut to k classes against values by hand, independent formulations and finite differences."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch.nn import functional

from hf_distill.objectives.logits import forward_kl
from hf_distill.objectives.top_k import named_with_tail, spread_tail, top_k_kl, top_k_with_tail
from tests.objectives.test_logits import LOG_2, each_temperature, random_logits


def truncated(student, teacher, k, temperature=1.0):
    return top_k_kl(student, *top_k_with_tail(teacher, k, temperature), temperature)


each_k = pytest.mark.parametrize("k", [1, 3, 6])


@each_k
@each_temperature
def test_top_k_and_the_rest_are_a_distribution(k, temperature):
    logits, _ = random_logits(3, 4, 7)
    indices, log_probabilities = top_k_with_tail(logits, k, temperature)
    assert indices.shape == (3, 4, k)
    torch.testing.assert_close(log_probabilities.exp().sum(-1), torch.ones(3, 4, dtype=torch.float64))
    expected = (logits / temperature).softmax(-1).sort(descending=True).values[..., :k]
    torch.testing.assert_close(log_probabilities[..., :k].exp(), expected)


@each_temperature
def test_top_k_by_hand(temperature):
    """Buckets (1/2, 1/4, 1/4) of the teacher and (1/4, 1/4, 1/2) of the student."""
    teacher, student = (
        temperature * torch.tensor(p, dtype=torch.float64).log() for p in ([1 / 8, 1 / 2, 1 / 8, 1 / 4], [1 / 4] * 4)
    )
    assert top_k_with_tail(teacher, 2, temperature)[0].tolist() == [1, 3]
    value = truncated(student, teacher, 2, temperature)
    assert value.item() == pytest.approx(temperature**2 * 0.25 * LOG_2, rel=1e-12)


@each_k
@each_temperature
def test_top_k_independent_formulation(k, temperature):
    student, teacher = random_logits(5, 7)
    expected = []
    for row in range(5):
        p, q = (softened[row].div(temperature).softmax(-1) for softened in (teacher, student))
        top = p.argsort(descending=True)[:k]
        p, q = (torch.cat([x[top], 1 - x[top].sum(0, keepdim=True)]) for x in (p, q))
        expected.append(temperature**2 * functional.kl_div(q.log(), p, reduction="sum"))
    values = truncated(student, teacher, k, temperature)
    torch.testing.assert_close(values, torch.stack(expected), rtol=1e-9, atol=1e-12)


@each_k
@each_temperature
def test_top_k_zero_where_both_agree(k, temperature):
    logits, _ = random_logits(4, 7)
    values = truncated(logits, logits.clone(), k, temperature)
    torch.testing.assert_close(values, torch.zeros_like(values), rtol=0, atol=1e-12)


@each_k
@each_temperature
def test_top_k_gradient(k, temperature):
    student, teacher = random_logits(2, 7)
    assert torch.autograd.gradcheck(lambda logits: truncated(logits, teacher, k, temperature), student.requires_grad_())


@each_temperature
def test_top_k_grows_with_k_up_to_forward_kl(temperature):
    student, teacher = random_logits(16, 7)
    values = [truncated(student, teacher, k, temperature) for k in range(1, 7)]
    values.append(forward_kl(student, teacher, temperature))
    assert all((less < more + 1e-12).all() for less, more in pairwise(values))
    assert (values[0] < values[-1]).all()
    torch.testing.assert_close(values[-2], values[-1])  # a rest of one class is that class


@each_temperature
def test_top_1_of_two_classes_is_forward_kl(temperature):
    student, teacher = random_logits(16, 2)
    torch.testing.assert_close(
        truncated(student, teacher, 1, temperature), forward_kl(student, teacher, temperature), rtol=1e-10, atol=1e-12
    )


def test_top_k_is_forward_kl_where_both_spread_the_rest_alike():
    student, teacher = random_logits(16, 7)
    teacher = teacher.sort(descending=True).values
    student[:, 2:] = teacher[:, 2:] + torch.randn(16, 1)
    torch.testing.assert_close(truncated(student, teacher, 2), forward_kl(student, teacher))


@pytest.mark.parametrize("k", [-1, 0, 7, 8])
def test_top_k_out_of_range(k):
    with pytest.raises(ValueError, match=rf"between 1 and 6 \(classes - 1\), got {k}"):
        top_k_with_tail(torch.zeros(2, 7), k)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_top_k_half_precision_is_computed_in_single(dtype):
    student, teacher = random_logits(3, 7, dtype=dtype)
    values = truncated(student, teacher, 2, 3.0)
    assert values.dtype == torch.float32
    torch.testing.assert_close(values, truncated(student.float(), teacher.float(), 2, 3.0), rtol=0, atol=0)


@pytest.mark.parametrize("k", [1, 2])
@each_temperature
def test_top_k_extreme_logits(k, temperature):
    student = torch.tensor([[1e4, -1e4, 0.0], [1e4, 1e4, -1e4]], requires_grad=True)
    values = truncated(student, torch.tensor([[-1e4, 1e4, 0.0], [1e4, 0.0, -1e4]]), k, temperature)
    values.sum().backward()
    assert values.isfinite().all()
    assert student.grad.isfinite().all()


@pytest.mark.parametrize("k", [1, 3, 6])
def test_top_k_where_the_rest_is_ruled_out(k):
    """Vocabularies padded to a round size rule classes out with minus infinity."""
    student, teacher = random_logits(3, 6)
    student.requires_grad_()
    ruled_out = torch.full((3, 2), -math.inf, dtype=torch.float64)
    values = truncated(torch.cat([student, ruled_out], dim=-1), torch.cat([teacher, ruled_out], dim=-1), k)
    expected = truncated(student, teacher, k) if k < 6 else forward_kl(student, teacher)
    torch.testing.assert_close(values, expected)
    torch.testing.assert_close(*(torch.autograd.grad(total.sum(), student)[0] for total in (values, expected)))


def test_named_classes_of_different_number_keep_their_buckets():
    probabilities = torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.0, 0.7, 0.0, 0.0]])
    named = torch.tensor([[True, True, True, True], [False, True, False, False]])
    classes, buckets = named_with_tail(probabilities, named)
    assert classes.tolist() == [[3, 2, 1], [1, 1, 1]]
    torch.testing.assert_close(spread_tail(classes, buckets, 4).exp()[0], probabilities[0])
    torch.testing.assert_close(spread_tail(classes, buckets, 4).exp()[1], torch.tensor([0.1, 0.7, 0.1, 0.1]))

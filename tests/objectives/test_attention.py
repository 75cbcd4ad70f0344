"""The attention losses by hand, as their papers write them, and at padding."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from hf_distill.objectives.attention import ATTENTION_LOSSES, attention_scores, distribution_kl, score_mse
from hf_distill.objectives.reduction import mean_over_items
from tests.objectives.padding import (
    ROWS,
    SEQUENCE,
    VALID,
    assert_gradient_is_right,
    assert_half_precision_is_computed_in_single,
    assert_padding_is_inert,
    assert_single_precision_agrees_with_double,
    random_heads,
)

HEADS, STUDENT_SIZE, TEACHER_SIZE = 4, 3, 5
each_loss = pytest.mark.parametrize("name", ATTENTION_LOSSES)
each_mask = pytest.mark.parametrize("valid", [None, VALID], ids=["no mask", "mask"])


def random_attention(student_key_heads=HEADS, teacher_key_heads=HEADS):
    """Queries and keys of the student, then of the teacher."""
    return (
        random_heads(HEADS, STUDENT_SIZE, seed=1),
        random_heads(student_key_heads, STUDENT_SIZE, seed=2),
        random_heads(HEADS, TEACHER_SIZE, seed=3),
        random_heads(teacher_key_heads, TEACHER_SIZE, seed=4),
    )


def from_queries_and_keys(name, valid=VALID):
    def loss(student_query, student_key, teacher_query, teacher_key):
        student, teacher = attention_scores(student_query, student_key), attention_scores(teacher_query, teacher_key)
        return ATTENTION_LOSSES[name](student, teacher, valid)

    return loss


def unpadded_heads(tensors, valid=VALID):
    """Each row's and head's queries and keys without padding."""
    for row, head in torch.cartesian_prod(torch.arange(ROWS), torch.arange(HEADS)).tolist():
        if valid[row].any():
            yield [tensor[row, head][valid[row]] for tensor in tensors]


def tinybert(tensors):
    """Equation 7 of each sequence, weighted by its length as every position counts alike."""
    total = 0
    for student_query, student_key, teacher_query, teacher_key in unpadded_heads(tensors):
        student = student_query @ student_key.T / math.sqrt(STUDENT_SIZE)
        teacher = teacher_query @ teacher_key.T / math.sqrt(TEACHER_SIZE)
        total = total + len(student) * functional.mse_loss(student, teacher)
    return total / (HEADS * VALID.sum())


def minilm(tensors):
    """Equation 2: the sum over heads and positions by their number, on torch's own attention probabilities."""
    total = 0
    for student_query, student_key, teacher_query, teacher_key in unpadded_heads(tensors):
        one_hot = torch.eye(len(student_key), dtype=torch.float64)
        student = functional.scaled_dot_product_attention(student_query[None], student_key[None], one_hot[None])
        teacher = functional.scaled_dot_product_attention(teacher_query[None], teacher_key[None], one_hot[None])
        total = total + functional.kl_div(student.log(), teacher, reduction="sum")
    return total / (HEADS * VALID.sum())


PAPERS = {"score_mse": tinybert, "distribution_kl": minilm}


def test_every_loss_has_a_reference():
    assert ATTENTION_LOSSES.keys() == PAPERS.keys()


def test_scores_by_hand():
    query = torch.tensor([[1.0, 2.0, 0.0, 0.0], [0.0, 0.0, 4.0, 1.0]]).view(1, 1, 2, 4)
    key = torch.tensor([[3.0, 1.0, 9.0, 0.0], [0.0, 2.0, 1.0, 2.0]]).view(1, 1, 2, 4)
    assert attention_scores(query, key).tolist() == [[[[2.5, 2.0], [18.0, 3.0]]]]


def test_neighboring_query_heads_share_a_key_head():
    query, key, *_ = random_attention(student_key_heads=2)
    expected = attention_scores(query, key[:, [0, 0, 1, 1]])
    assert expected.shape == (ROWS, HEADS, SEQUENCE, SEQUENCE)
    torch.testing.assert_close(attention_scores(query, key), expected, rtol=0, atol=0)
    value = torch.eye(SEQUENCE, dtype=torch.float64).expand(ROWS, 2, SEQUENCE, SEQUENCE)
    attention = functional.scaled_dot_product_attention(query, key, value, enable_gqa=True)
    torch.testing.assert_close(expected.softmax(-1), attention)


def test_score_mse_by_hand():
    """Two heads, one query, the third key is padding: (2² + 0²) / 2 and (1² + 3²) / 2."""
    student = torch.tensor([[1.0, 2.0, 99.0], [0.0, 5.0, -7.0]]).view(1, 2, 1, 3)
    teacher = torch.tensor([[3.0, 2.0, -99.0], [1.0, 2.0, 8.0]]).view(1, 2, 1, 3)
    assert score_mse(student, teacher, torch.tensor([[True, True, False]])).tolist() == [[(2 + 5) / 2]]
    assert score_mse(student[..., :2], teacher[..., :2]).tolist() == [[3.5]]


def test_distribution_kl_by_hand():
    """Two heads, one query, the third key is padding: KL((3/4, 1/4) ‖ (1/2, 1/2)), and no difference."""
    student = torch.tensor([[0.0, 0.0, 99.0], [4.0, 4.0, -7.0]]).view(1, 2, 1, 3)
    teacher = torch.tensor([[math.log(3), 0.0, -99.0], [1.0, 1.0, 8.0]]).view(1, 2, 1, 3)
    expected = pytest.approx((0.75 * math.log(3 / 2) + 0.25 * math.log(1 / 2)) / 2)
    assert distribution_kl(student, teacher, torch.tensor([[True, True, False]])).item() == expected
    assert distribution_kl(student[..., :2], teacher[..., :2]).item() == expected


@each_loss
@each_mask
def test_zero_where_both_agree(name, valid):
    query, key, *_ = random_attention()
    values = from_queries_and_keys(name, valid)(query, key, query.clone(), key.clone())
    assert values.shape == (ROWS, SEQUENCE)
    torch.testing.assert_close(values, torch.zeros_like(values), rtol=0, atol=1e-12)


@each_loss
def test_as_the_paper_over_unpadded_sequences(name):
    tensors = random_attention()
    mean = mean_over_items(from_queries_and_keys(name)(*tensors), VALID)
    torch.testing.assert_close(mean, PAPERS[name](tensors), rtol=1e-10, atol=0)


@each_loss
def test_no_mask_is_a_mask_of_ones(name):
    tensors = random_attention()
    values = from_queries_and_keys(name, None)(*tensors)
    torch.testing.assert_close(values, from_queries_and_keys(name, torch.ones_like(VALID))(*tensors))


@each_loss
@each_mask
def test_gradient(name, valid):
    assert_gradient_is_right(from_queries_and_keys(name, valid), *random_attention(2, 1))


@each_loss
def test_padding_is_inert(name):
    assert_padding_is_inert(from_queries_and_keys(name), *random_attention(2, 1))


@each_loss
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_nothing_but_padding(name, dtype):
    leaves = [tensor.to(dtype).requires_grad_() for tensor in random_attention()]
    nothing = torch.zeros_like(VALID)
    values = from_queries_and_keys(name, nothing)(*leaves)
    assert values.isfinite().all()
    for total in (values.sum(), mean_over_items(values, nothing)):
        gradients = torch.autograd.grad(total, leaves, retain_graph=True)
        assert total.item() == 0
        assert not any(gradient.any() for gradient in gradients)


@each_loss
def test_large_scores(name):
    """Attention all but certain of one key, and of another."""
    leaves = [(100 * tensor).float().requires_grad_() for tensor in random_attention()]
    mean = mean_over_items(from_queries_and_keys(name)(*leaves), VALID)
    assert mean.isfinite()
    assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(mean, leaves))


@each_loss
def test_half_precision_is_computed_in_single(name):
    assert_half_precision_is_computed_in_single(from_queries_and_keys(name), *random_attention(2, 1))


@each_loss
def test_single_precision(name):
    assert_single_precision_agrees_with_double(from_queries_and_keys(name), *random_attention())


def test_distributions_do_not_see_a_shift_of_all_scores():
    query, key, teacher_query, teacher_key = random_attention()
    student, teacher = attention_scores(query, key), attention_scores(teacher_query, teacher_key)
    shifted = distribution_kl(student + 3, teacher - 5, VALID)
    torch.testing.assert_close(shifted, distribution_kl(student, teacher, VALID))

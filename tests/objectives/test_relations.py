"""Self-attention relations by hand, with explicit loops as MiniLMv2 writes them, and at padding."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from hf_distill.objectives.attention import attention_scores, distribution_kl
from hf_distill.objectives.reduction import mean_over_items
from hf_distill.objectives.relations import relation_kl
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

# (heads, head size) of student and teacher, and relation heads that divide both widths.
SHAPES = {
    "as many heads": ((3, 4), (3, 8), 3),
    "other heads": ((3, 4), (2, 10), 4),
    "more relation heads than heads": ((2, 6), (4, 6), 12),
    "one relation head": ((4, 2), (3, 5), 1),
    "grouped keys": ((2, 4), (6, 4), 8),
}
each_shape = pytest.mark.parametrize(("student_shape", "teacher_shape", "relation_heads"), SHAPES.values(), ids=SHAPES)


def relation(relation_heads, valid=VALID):
    return lambda student, teacher: relation_kl(student, teacher, relation_heads, valid)


def random_vectors(student_shape=(3, 4), teacher_shape=(2, 10)):
    return random_heads(*student_shape, seed=1), random_heads(*teacher_shape, seed=2)


def minilmv2(student, teacher, relation_heads):
    """Equations 5 to 9 over unpadded sequences: concatenate the heads, cut anew, one softmax per relation head."""
    total = 0
    for row in range(ROWS):
        wide = [torch.cat(list(vectors[row]), dim=-1)[VALID[row]] for vectors in (student, teacher)]
        for head in range(relation_heads):
            relations = []
            for vectors in wide:
                size = vectors.shape[-1] // relation_heads
                part = vectors[:, head * size : (head + 1) * size]
                relations.append(torch.softmax(part @ part.T / math.sqrt(size), dim=-1))
            total = total + functional.kl_div(relations[0].log(), relations[1], reduction="sum")
    return total / (relation_heads * VALID.sum())


def test_by_hand():
    """Scores of the first position (ln 3, 0), of the second (0, 0); the student's are all 0."""
    teacher = torch.tensor([math.sqrt(math.log(3)), 0.0, 50.0]).view(1, 1, 3, 1)
    student = torch.tensor([0.0, 0.0, -50.0]).view(1, 1, 3, 1)
    expected = [0.75 * math.log(3 / 2) + 0.25 * math.log(1 / 2), 0.0]
    values = relation_kl(student, teacher, 1, torch.tensor([[True, True, False]]))
    assert values[0, :2].tolist() == pytest.approx(expected)
    assert relation_kl(student[:, :, :2], teacher[:, :, :2], 1).tolist() == [pytest.approx(expected)]


@each_shape
def test_as_the_paper_over_unpadded_sequences(student_shape, teacher_shape, relation_heads):
    student, teacher = random_vectors(student_shape, teacher_shape)
    values = relation_kl(student, teacher, relation_heads, VALID)
    assert values.shape == (ROWS, SEQUENCE)
    expected = minilmv2(student, teacher, relation_heads)
    torch.testing.assert_close(mean_over_items(values, VALID), expected, rtol=1e-10, atol=0)


@each_shape
def test_zero_where_both_agree(student_shape, teacher_shape, relation_heads):
    student, _ = random_vectors(student_shape, teacher_shape)
    values = relation_kl(student, student.clone(), relation_heads, VALID)
    torch.testing.assert_close(values, torch.zeros_like(values), rtol=0, atol=1e-12)


def test_own_heads_give_the_value_relation_of_minilm():
    student, teacher = random_vectors((3, 4), (3, 8))
    scores = [attention_scores(vectors, vectors) for vectors in (student, teacher)]
    torch.testing.assert_close(relation_kl(student, teacher, 3, VALID), distribution_kl(*scores, VALID))


def test_how_heads_were_cut_does_not_matter():
    vectors, teacher = random_vectors((2, 6), (2, 10))
    side_by_side = vectors.transpose(1, 2).flatten(2)  # (rows, sequence, width)
    recut = side_by_side.unflatten(2, (6, 2)).transpose(1, 2)
    torch.testing.assert_close(relation_kl(recut, teacher, 4, VALID), relation_kl(vectors, teacher, 4, VALID))


def test_no_mask_is_a_mask_of_ones():
    vectors = random_vectors()
    torch.testing.assert_close(relation(4, None)(*vectors), relation(4, torch.ones_like(VALID))(*vectors))


@each_shape
def test_gradient(student_shape, teacher_shape, relation_heads):
    assert_gradient_is_right(relation(relation_heads), *random_vectors(student_shape, teacher_shape))


@each_shape
def test_padding_is_inert(student_shape, teacher_shape, relation_heads):
    assert_padding_is_inert(relation(relation_heads), *random_vectors(student_shape, teacher_shape))


def test_nothing_but_padding():
    leaves = [vectors.requires_grad_() for vectors in random_vectors()]
    values = relation(4, torch.zeros_like(VALID))(*leaves)
    assert not values.any()
    assert not any(gradient.any() for gradient in torch.autograd.grad(values.sum(), leaves))


def test_half_precision_is_computed_in_single():
    assert_half_precision_is_computed_in_single(relation(4), *random_vectors())


def test_single_precision():
    assert_single_precision_agrees_with_double(relation(4), *random_vectors())


@pytest.mark.parametrize(
    ("relation_heads", "numbers"), [(5, "5 relation heads .* width of 12"), (3, "3 relation heads .* width of 20")]
)
def test_relation_heads_divide_both_widths(relation_heads, numbers):
    with pytest.raises(ValueError, match=numbers):
        relation_kl(*random_vectors(), relation_heads)

"""The hidden-state losses by hand, as their papers' own code computes them, and at padding."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from hf_distill.objectives.hidden_states import HIDDEN_STATE_LOSSES
from hf_distill.objectives.reduction import mean_over_items
from tests.objectives.padding import (
    ROWS,
    SEQUENCE,
    VALID,
    assert_gradient_is_right,
    assert_half_precision_is_computed_in_single,
    assert_padding_is_inert,
    assert_single_precision_agrees_with_double,
    random_tensor,
)

HIDDEN = 6
# States (3, 4) and (0, 1), of directions (0.6, 0.8) and (0, 1).
BY_HAND = {"mse": (3**2 + 3**2) / 2, "normalized_mse": (0.6**2 + 0.2**2) / 2, "cosine": 1 - 0.8}


def tinybert(student, teacher):
    """Over the unpadded sequences, every position alike."""
    return functional.mse_loss(student[VALID], teacher[VALID])


def patient_kd(student, teacher):
    """As its code does it; the paper's norm takes no mean over the dimensions."""
    student, teacher = (functional.normalize(states[VALID], p=2, dim=1) for states in (student, teacher))
    return functional.mse_loss(teacher, student)


def distilbert(student, teacher):
    """As its training script does it: unpadded states in one long list, all with target 1."""
    mask = VALID[..., None].expand_as(student)
    student, teacher = (states.masked_select(mask).view(-1, HIDDEN) for states in (student, teacher))
    return nn.CosineEmbeddingLoss(reduction="mean")(student, teacher, student.new_ones(len(student)))


PAPERS = {"mse": tinybert, "normalized_mse": patient_kd, "cosine": distilbert}
each_loss = pytest.mark.parametrize("name", HIDDEN_STATE_LOSSES)


def random_states():
    return tuple(random_tensor(ROWS, SEQUENCE, HIDDEN, seed=seed) for seed in (1, 2))


def test_every_loss_has_a_reference():
    assert HIDDEN_STATE_LOSSES.keys() == BY_HAND.keys() == PAPERS.keys()


@each_loss
def test_by_hand(name):
    value = HIDDEN_STATE_LOSSES[name](torch.tensor([3.0, 4.0]), torch.tensor([0.0, 1.0]))
    assert value.item() == pytest.approx(BY_HAND[name])


@each_loss
def test_zero_where_both_agree(name):
    states, _ = random_states()
    values = HIDDEN_STATE_LOSSES[name](states, states.clone())
    assert values.shape == (ROWS, SEQUENCE)
    torch.testing.assert_close(values, torch.zeros_like(values), rtol=0, atol=1e-12)


@each_loss
def test_as_the_paper_over_unpadded_sequences(name):
    student, teacher = random_states()
    mean = mean_over_items(HIDDEN_STATE_LOSSES[name](student, teacher), VALID)
    torch.testing.assert_close(mean, PAPERS[name](student, teacher), rtol=1e-10, atol=0)


@each_loss
def test_gradient(name):
    assert_gradient_is_right(HIDDEN_STATE_LOSSES[name], *random_states())


@each_loss
def test_padding_is_inert(name):
    assert_padding_is_inert(HIDDEN_STATE_LOSSES[name], *random_states())


@each_loss
def test_half_precision_is_computed_in_single(name):
    assert_half_precision_is_computed_in_single(HIDDEN_STATE_LOSSES[name], *random_states())


@each_loss
def test_single_precision(name):
    assert_single_precision_agrees_with_double(HIDDEN_STATE_LOSSES[name], *random_states())


@pytest.mark.parametrize(("name", "largest"), [("normalized_mse", 4.0 / HIDDEN), ("cosine", 2.0)])
def test_only_directions_count(name, largest):
    student, teacher = random_states()
    loss = HIDDEN_STATE_LOSSES[name]
    torch.testing.assert_close(loss(3 * student, teacher / 7), loss(student, teacher))
    torch.testing.assert_close(loss(-2 * teacher, teacher), torch.full((ROWS, SEQUENCE), largest, dtype=torch.float64))


def test_distance_of_directions_is_twice_that_of_the_cosine():
    student, teacher = random_states()
    expected = 2 * HIDDEN_STATE_LOSSES["cosine"](student, teacher) / HIDDEN
    torch.testing.assert_close(HIDDEN_STATE_LOSSES["normalized_mse"](student, teacher), expected)


@each_loss
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_states_of_zero(name, dtype):
    student, teacher = torch.zeros(2, HIDDEN, dtype=dtype, requires_grad=True), torch.ones(2, HIDDEN, dtype=dtype)
    teacher[1] = 0
    values = HIDDEN_STATE_LOSSES[name](student, teacher)
    assert values.isfinite().all()
    assert torch.autograd.grad(values.sum(), student)[0].isfinite().all()

"""The soft-label losses against values by hand, independent formulations and finite differences."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Bernoulli, Categorical, kl_divergence
from torch.nn import functional

from hf_distill.objectives.logits import MASKED_LOGIT, SOFT_LABEL_LOSSES, as_binary, forward_kl

LOG_2, LOG_3 = math.log(2), math.log(3)
TEACHER = [1 / 2, 1 / 4, 1 / 4]
STUDENT = [1 / 8, 1 / 8, 3 / 4]
BY_HAND = {
    "forward_kl": 1.25 * LOG_2 - 0.25 * LOG_3,
    "reverse_kl": 0.75 * LOG_3 - 0.375 * LOG_2,
    # The mixture is (5/16, 3/16, 1/2).
    "jensen_shannon": 0.5 * (0.5 * math.log(8 / 5) + 0.25 * math.log(4 / 3) + 0.25 * math.log(1 / 2))
    + 0.5 * (0.125 * math.log(2 / 5) + 0.125 * math.log(2 / 3) + 0.75 * math.log(3 / 2)),
    "soft_cross_entropy": 2.75 * LOG_2 - 0.25 * LOG_3,
    # The log-probabilities differ by ln 4, ln 2 and ln 3.
    "logit_mse": (5 * LOG_2**2 + LOG_3**2) / 3,
}
REFERENCES = {
    "forward_kl": lambda student, teacher: functional.kl_div(
        student.log_softmax(-1), teacher.softmax(-1), reduction="none"
    ).sum(-1),
    "reverse_kl": lambda student, teacher: kl_divergence(Categorical(logits=student), Categorical(logits=teacher)),
    "jensen_shannon": lambda student, teacher: torch.from_numpy(
        pytest.importorskip("scipy.spatial.distance").jensenshannon(
            student.softmax(-1).numpy(), teacher.softmax(-1).numpy(), axis=-1
        )
        ** 2
    ),
    "soft_cross_entropy": lambda student, teacher: functional.cross_entropy(
        student.flatten(0, -2), teacher.softmax(-1).flatten(0, -2), reduction="none"
    ).unflatten(0, student.shape[:-1]),
    "logit_mse": lambda student, teacher: functional.mse_loss(student, teacher, reduction="none").mean(-1),
}

# The cosine of embeddings, which has no temperature, is in test_embeddings.
each_loss = pytest.mark.parametrize("name", BY_HAND)
each_temperature = pytest.mark.parametrize("temperature", [1.0, 2.0, 8.0])


def random_logits(*shape: int, scale: float = 2.0, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(3)
    return tuple((scale * torch.randn(shape, generator=generator, dtype=torch.float64)).to(dtype) for _ in range(2))


def test_every_loss_has_a_reference():
    assert SOFT_LABEL_LOSSES.keys() - {"cosine"} == BY_HAND.keys() == REFERENCES.keys()


@each_loss
@each_temperature
def test_zero_where_both_agree(name, temperature):
    logits, _ = random_logits(4, 5)
    expected = torch.zeros(4, dtype=torch.float64)
    if name == "soft_cross_entropy":
        expected = temperature**2 * Categorical(logits=logits / temperature).entropy()
    values = SOFT_LABEL_LOSSES[name](logits, logits.clone(), temperature)
    torch.testing.assert_close(values, expected, rtol=1e-12, atol=1e-12)


@each_loss
@each_temperature
def test_three_classes_by_hand(name, temperature):
    """Logits of T · ln p are softened to p, so only the factor T² is left of the temperature."""
    student, teacher = (temperature * torch.tensor(p, dtype=torch.float64).log() for p in (STUDENT, TEACHER))
    value = SOFT_LABEL_LOSSES[name](student, teacher, temperature)
    assert value.item() == pytest.approx(temperature**2 * BY_HAND[name], rel=1e-12)


@each_loss
@each_temperature
def test_independent_formulation(name, temperature):
    student, teacher = random_logits(3, 4, 7)
    expected = temperature**2 * REFERENCES[name](student / temperature, teacher / temperature)
    values = SOFT_LABEL_LOSSES[name](student, teacher, temperature)
    torch.testing.assert_close(values, expected, rtol=1e-10, atol=1e-12)


@each_loss
def test_temperature_is_one_unless_given(name):
    student, teacher = random_logits(3, 7)
    loss = SOFT_LABEL_LOSSES[name]
    torch.testing.assert_close(loss(student, teacher), loss(student, teacher, 1.0), rtol=0, atol=0)


@each_loss
@each_temperature
def test_gradient(name, temperature):
    student, teacher = random_logits(2, 4)
    loss = SOFT_LABEL_LOSSES[name]
    assert torch.autograd.gradcheck(lambda logits: loss(logits, teacher, temperature), student.requires_grad_())


@each_loss
def test_one_value_per_position(name):
    student, teacher = random_logits(3, 4, 7)
    loss = SOFT_LABEL_LOSSES[name]
    values = loss(student, teacher, 2.0)
    assert values.shape == (3, 4)
    torch.testing.assert_close(values[2, 1], loss(student[2, 1], teacher[2, 1], 2.0))


@each_loss
def test_sum_over_classes_not_mean(name):
    """Each class split into two equal halves: the divergences stay, the teacher's entropy grows by ln 2."""
    student, teacher = random_logits(3, 5)
    loss = SOFT_LABEL_LOSSES[name]
    split = loss(student.repeat(1, 2), teacher.repeat(1, 2), 2.0)
    entropy_gained = 2.0**2 * LOG_2 if name == "soft_cross_entropy" else 0.0
    torch.testing.assert_close(split, loss(student, teacher, 2.0) + entropy_gained)


@each_loss
def test_gradient_keeps_its_size_when_the_temperature_changes(name):
    student, teacher = random_logits(16, 5, scale=0.1)
    student.requires_grad_()
    norms = []
    for temperature in (1.0, 2.0, 8.0):
        total = SOFT_LABEL_LOSSES[name](student, teacher, temperature).sum()
        norms.append(torch.autograd.grad(total, student)[0].norm().item())
    assert 0 < max(norms) <= 2 * min(norms)


@each_loss
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_single(name, dtype):
    student, teacher = random_logits(3, 7, dtype=dtype)
    loss = SOFT_LABEL_LOSSES[name]
    values = loss(student, teacher, 3.0)
    assert values.dtype == torch.float32
    torch.testing.assert_close(values, loss(student.float(), teacher.float(), 3.0), rtol=0, atol=0)


@each_loss
def test_double_precision_stays_double(name):
    student, teacher = random_logits(3, 7)
    assert SOFT_LABEL_LOSSES[name](student, teacher, 3.0).dtype == torch.float64


@each_loss
@each_temperature
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_extreme_logits(name, temperature, dtype):
    student = torch.tensor([[1e4, -1e4, 0.0], [1e4, 1e4, -1e4]], dtype=dtype, requires_grad=True)
    teacher = torch.tensor([[-1e4, 1e4, 0.0], [1e4, 0.0, -1e4]], dtype=dtype)
    values = SOFT_LABEL_LOSSES[name](student, teacher, temperature)
    values.sum().backward()
    assert values.isfinite().all()
    assert (values > 0).all()
    assert student.grad.isfinite().all()
    if name == "jensen_shannon":  # distributions on different classes: the largest value there is
        assert values[0].item() == pytest.approx(temperature**2 * LOG_2, rel=1e-6)


@pytest.mark.parametrize("value", [-math.inf, MASKED_LOGIT, float(torch.tensor(MASKED_LOGIT, dtype=torch.bfloat16))])
@pytest.mark.parametrize("name", ["forward_kl", "reverse_kl", "logit_mse"])
def test_a_class_ruled_out_on_both_sides_does_not_count(name, value):
    student, teacher = random_logits(3, 5)
    student.requires_grad_()
    loss = SOFT_LABEL_LOSSES[name]
    ruled_out = torch.full((3, 1), value, dtype=torch.float64)
    values = loss(torch.cat([student, ruled_out], dim=-1), torch.cat([teacher, ruled_out], dim=-1), 2.0)
    expected = loss(student, teacher, 2.0)
    torch.testing.assert_close(values, expected)
    gradients = [torch.autograd.grad(value.sum(), student)[0] for value in (values, expected)]
    torch.testing.assert_close(*gradients)


@each_temperature
def test_yes_no_labels_are_bernoulli(temperature):
    student, teacher = random_logits(3, 4)
    values = forward_kl(as_binary(student), as_binary(teacher), temperature)
    expected = kl_divergence(Bernoulli(logits=teacher / temperature), Bernoulli(logits=student / temperature))
    assert values.shape == (3, 4)
    torch.testing.assert_close(values, temperature**2 * expected)


def test_as_binary_gives_the_probabilities_of_no_and_yes():
    logits, _ = random_logits(3, 4)
    expected = torch.stack([1 - logits.sigmoid(), logits.sigmoid()], dim=-1)
    torch.testing.assert_close(as_binary(logits).softmax(dim=-1), expected)


def test_logit_mse_is_twice_the_softened_divergence_at_high_temperatures():
    student, teacher = (logits - logits.mean(dim=-1, keepdim=True) for logits in random_logits(5, 7))
    expected = 2 * forward_kl(student, teacher, 1e4)
    torch.testing.assert_close(SOFT_LABEL_LOSSES["logit_mse"](student, teacher), expected, rtol=1e-3, atol=0)

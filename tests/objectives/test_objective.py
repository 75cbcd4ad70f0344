"""Terms added up over micro-batches are the terms of the whole batch."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from hf_distill.objectives.logits import SOFT_LABEL_LOSSES
from hf_distill.objectives.model_outputs import Features, ModelOutputs
from hf_distill.objectives.objective import Objective, Term
from hf_distill.objectives.reduction import NO_REAL_EXAMPLE
from hf_distill.objectives.terms import hard_label_term, soft_label_term

CLASSES = 4
SOFT_WEIGHT, HARD_WEIGHT = 0.75, 0.5
SPLITS = {
    "even": [4, 4, 4],
    "uneven": [1, 6, 2, 3],
    "one unlabeled": [3, 4, 5],  # rows 3 to 6 carry no label
    "single rows": [1] * 12,
}
TERMS = {
    "both": [
        soft_label_term(SOFT_WEIGHT, "forward_kl", temperature=2.0, multi_label=False),
        hard_label_term(HARD_WEIGHT, ["labels"]),
    ],
    "soft": [soft_label_term(SOFT_WEIGHT, "jensen_shannon", temperature=1.0, multi_label=False)],
    "hard": [hard_label_term(HARD_WEIGHT, ["labels"])],
    "multi-label soft": [soft_label_term(SOFT_WEIGHT, "reverse_kl", temperature=4.0, multi_label=True)],
}


@pytest.fixture
def batch():
    """Twelve rows, of which 0, 1, 2, 8 and 11 are labeled."""
    generator = torch.Generator().manual_seed(5)
    features, teacher_logits = (torch.randn(12, CLASSES, generator=generator, dtype=torch.float64) for _ in range(2))
    labels = torch.full((12,), -100)
    labels[[0, 1, 2, 8, 11]] = torch.tensor([0, 3, 1, 2, 2])
    return {"features": features, "teacher_logits": 3 * teacher_logits, "labels": labels}


@pytest.fixture
def student():
    return nn.Linear(CLASSES, CLASSES, dtype=torch.float64)


def split(batch, sizes):
    pieces = {name: value.split(sizes) for name, value in batch.items()}
    return [{name: pieces[name][index] for name in batch} for index in range(len(sizes))]


def evidence_of(student, inputs):
    logits = student(inputs["features"])
    return ModelOutputs(Features(logits), Features(inputs["teacher_logits"]), cross_entropy(logits, inputs["labels"]))


def step(objective, student, micro_batches):
    """Value, parts, shares and gradient of an optimizer step."""
    student.zero_grad()
    total_items = sum(objective.num_items(inputs) for inputs in micro_batches)
    losses, parts, shares = zip(
        *(objective(evidence_of(student, inputs), inputs, total_items) for inputs in micro_batches), strict=True
    )
    sum(losses).backward()
    gradient = torch.cat([parameter.grad.flatten() for parameter in student.parameters()])
    return sum(losses).detach(), sum(parts), sum(shares), gradient


def assert_same_step(step, other):
    """To single precision, in which means and shares are kept."""
    for one, another in zip(step, other, strict=True):
        torch.testing.assert_close(one, another, rtol=2e-6, atol=2e-7)


@pytest.mark.parametrize("terms", TERMS)
@pytest.mark.parametrize("sizes", SPLITS.values(), ids=SPLITS)
def test_micro_batches_add_up_to_the_whole_batch(student, batch, terms, sizes):
    objective = Objective(TERMS[terms])
    whole = step(objective, student, [batch])
    assert_same_step(step(objective, student, split(batch, sizes)), whole)
    assert whole[-1].norm() > 0.01


def test_without_total_items_the_micro_batch_is_the_step(student, batch):
    objective = Objective(TERMS["both"])
    model_outputs = evidence_of(student, batch)
    alone = objective(model_outputs, batch)
    torch.testing.assert_close(alone, objective(model_outputs, batch, objective.num_items(batch)), rtol=0, atol=0)
    assert alone[2].tolist() == [1, 1]


def test_whole_batch_is_the_weighted_sum_of_the_two_means(student, batch):
    value, parts, _, _ = step(Objective(TERMS["both"]), student, [batch])
    logits = student(batch["features"]).detach()
    labeled = batch["labels"] >= 0
    soft = SOFT_LABEL_LOSSES["forward_kl"](logits, batch["teacher_logits"], 2.0).mean()
    hard = cross_entropy(logits[labeled], batch["labels"][labeled])
    torch.testing.assert_close(value, (SOFT_WEIGHT * soft + HARD_WEIGHT * hard).float())
    torch.testing.assert_close(parts, torch.stack([soft, hard]).float())
    means = Objective(TERMS["both"]).means(evidence_of(student, batch), batch)
    torch.testing.assert_close(means, parts)


def test_micro_batch_without_a_label_is_inert(student, batch):
    objective = Objective(TERMS["hard"])
    unlabeled = split(batch, [3, 4, 5])[1]
    model_outputs = evidence_of(student, unlabeled)
    assert model_outputs.hard_label_loss.isnan()
    for total_items in (torch.tensor([5.0]), torch.tensor([0.0]), None):
        student.zero_grad()
        value, parts, shares = objective(model_outputs, unlabeled, total_items)
        value.backward(retain_graph=True)
        assert value.item() == 0
        assert parts.tolist() == shares.tolist() == [0]
        assert all(parameter.grad is not None and not parameter.grad.any() for parameter in student.parameters())


def test_step_without_a_label_learns_from_soft_labels_alone(student, batch):
    unlabeled = split(batch, [3, 4, 5])[1]
    both_value, both_parts, both_shares, both_gradient = step(
        Objective(TERMS["both"]), student, split(unlabeled, [1, 3])
    )
    soft_value, _, _, soft_gradient = step(Objective(TERMS["both"][:1]), student, [unlabeled])
    assert_same_step((both_value, both_gradient), (soft_value, soft_gradient))
    assert both_parts[1] == both_shares[1] == 0


def test_micro_batch_of_repeated_rows_is_inert(student, batch):
    objective = Objective(TERMS["both"])
    repeated = batch | {NO_REAL_EXAMPLE: True}
    assert objective.num_items(repeated).tolist() == [0, 0]
    assert_same_step(step(objective, student, [batch, repeated]), step(objective, student, [batch]))


def test_num_items_counts_rows_for_soft_labels_and_labels_for_hard(batch):
    num_items = Objective(TERMS["both"]).num_items(batch)
    assert num_items.tolist() == [12, 5]
    assert num_items.dtype == torch.float32


def test_objective_contains_its_terms_by_name():
    objective = Objective(TERMS["soft"])
    assert "soft_label" in objective
    assert "hard_label" not in objective


@pytest.mark.parametrize(("terms", "needed"), [("both", True), ("soft", True), ("hard", False)])
def test_only_labels_need_no_teacher(terms, needed):
    assert Objective(TERMS[terms]).needs_teacher is needed


@pytest.mark.parametrize("weight", [0.0, 1.0, 2.5])
def test_weight_scales_the_total_and_not_the_part(weight):
    values = torch.tensor([1.0, 2.0, 6.0], requires_grad=True)

    def three(inputs):
        return torch.ones(3, dtype=torch.bool)

    objective = Objective(
        [
            Term("fixed", 1.0, lambda model_outputs: model_outputs.student.logits, three),
            Term("scaled", weight, lambda model_outputs: model_outputs.student.logits.square(), three),
        ]
    )
    total, parts, shares = objective(ModelOutputs(Features(values)), {}, 2 * objective.num_items({}))
    total.backward()
    assert total.item() == pytest.approx(1.5 + weight * 41 / 6)  # half of the means 3 and 41/3
    assert parts.tolist() == pytest.approx([1.5, 41 / 6])
    assert shares.tolist() == [0.5, 0.5]
    torch.testing.assert_close(values.grad, (1 + 2 * weight * values.detach()) / 6)


def test_parts_are_detached_and_single_precision(student, batch):
    total, parts, shares = Objective(TERMS["both"])(evidence_of(student, batch), batch)
    assert total.requires_grad
    assert not parts.requires_grad
    assert (parts.shape, parts.dtype) == (shares.shape, shares.dtype) == ((2,), torch.float32)


@pytest.mark.parametrize(
    ("loss", "multi_label", "shape"),
    [
        ("forward_kl", False, (12,)),
        ("forward_kl", True, (12, CLASSES)),
        ("logit_mse", False, (12,)),
        ("logit_mse", True, (12,)),
    ],
)
def test_values_per_example_or_per_label(student, batch, loss, multi_label, shape):
    term = soft_label_term(1.0, loss, 1.0, multi_label)
    assert term.values(evidence_of(student, batch)).shape == shape


@pytest.mark.parametrize("loss", SOFT_LABEL_LOSSES)
@pytest.mark.parametrize("multi_label", [False, True])
def test_a_student_like_its_teacher_has_nothing_to_learn(batch, loss, multi_label):
    """The gradient of every loss is 0 at agreement, also that of soft cross-entropy, whose value is not."""
    logits = batch["teacher_logits"].clone().requires_grad_()
    model_outputs = ModelOutputs(Features(logits), Features(batch["teacher_logits"]))
    values = soft_label_term(1.0, loss, 2.0, multi_label).values(model_outputs)
    (gradient,) = torch.autograd.grad(values.sum(), logits)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-12)

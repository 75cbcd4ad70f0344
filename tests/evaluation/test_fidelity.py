"""Fidelity by hand, and its sums over the batches of an evaluation."""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from hf_distill.evaluation.fidelity import evaluation_sums, fidelity_values
from hf_distill.objectives.model_outputs import Features, ModelOutputs
from hf_distill.objectives.objective import Objective
from hf_distill.objectives.reduction import NO_REAL_EXAMPLE, example_items, token_items
from hf_distill.objectives.terms import hard_label_term, soft_label_term
from hf_distill.trainers.running_mean import RunningMean

CLASSES = "single_label_classification"
OBJECTIVE = Objective([soft_label_term(0.5, "forward_kl", 2.0), hard_label_term(0.5, ["labels"])])


@pytest.fixture
def batch():
    """Six rows, of which 0, 3 and 5 are labeled."""
    return {
        "student": torch.randn(6, 3),
        "teacher": torch.randn(6, 3),
        "labels": torch.tensor([0, -100, -100, 2, -100, 1]),
    }


def sums_of(inputs, objective=OBJECTIVE):
    hard = cross_entropy(inputs["student"], inputs["labels"])
    model_outputs = ModelOutputs(Features(inputs["student"]), Features(inputs["teacher"]), hard)
    return evaluation_sums(model_outputs, inputs, objective, CLASSES, example_items)


def means_of(batches):
    meter = RunningMean()
    for inputs in batches:
        meter.add(sums_of(inputs))
    return meter.read(lambda totals: totals)


def rows(batch, chosen):
    return {name: value[chosen] for name, value in batch.items()}


def test_classes():
    student = torch.tensor([[0.0, 0.0], [2.0, 0.0]])
    teacher = torch.tensor([[math.log(3), 0.0], [0.0, 1.0]])
    values = fidelity_values(student, teacher, CLASSES)
    assert values["teacher_agreement"].tolist() == [1.0, 0.0]
    # KL((3/4, 1/4) || (1/2, 1/2))
    assert values["teacher_kl"][0].item() == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))


def test_labels_and_numbers():
    student, teacher = torch.tensor([[1.0, -1.0]]), torch.tensor([[2.0, 3.0]])
    agreement = fidelity_values(student, teacher, "multi_label_classification")["teacher_agreement"]
    assert agreement.tolist() == [[1.0, 0.0]]
    assert fidelity_values(student[:, :1], teacher[:, :1], "regression") == {"teacher_mse": torch.tensor([1.0])}


def test_sums_and_their_numbers(batch):
    sums = sums_of(batch)
    values = fidelity_values(batch["student"], batch["teacher"], CLASSES)
    expected = {
        "soft_label_loss": (
            OBJECTIVE.terms[0].values(ModelOutputs(*map(Features, (batch["student"], batch["teacher"])))),
            6,
        ),
        "hard_label_loss": (cross_entropy(batch["student"], batch["labels"], reduction="sum"), 3),
        "teacher_agreement": (values["teacher_agreement"], 6),
        "teacher_kl": (values["teacher_kl"], 6),
    }
    assert sums.keys() == expected.keys()
    for name, (value, count) in expected.items():
        torch.testing.assert_close(sums[name], torch.stack([value.sum(), torch.tensor(float(count))]))


@pytest.mark.parametrize(
    "pieces", [[[0, 1], [2, 3], [4, 5]], [[0], [1, 2], [3, 4, 5]], [[0, 3, 5], [1, 2, 4]]], ids=str
)
def test_batches_add_up_whichever_rows_they_hold(batch, pieces):
    assert means_of(rows(batch, piece) for piece in pieces) == pytest.approx(means_of([batch]), rel=1e-5)


def test_what_was_never_seen_is_not_reported(batch):
    means = means_of([rows(batch, [1, 2]), rows(batch, [4])])
    assert means.keys() == {"soft_label_loss", "teacher_agreement", "teacher_kl"}
    assert all(math.isfinite(mean) for mean in means.values())


def test_repeated_rows_do_not_count(batch):
    repeated = batch | {NO_REAL_EXAMPLE: True}
    assert all(both.tolist() == [0, 0] for both in sums_of(repeated).values())
    assert means_of([batch, repeated]) == means_of([batch])


def test_without_a_teacher_only_the_terms(batch):
    objective = Objective(OBJECTIVE.terms[1:])
    hard = cross_entropy(batch["student"], batch["labels"])
    sums = evaluation_sums(
        ModelOutputs(Features(batch["student"]), None, hard), batch, objective, CLASSES, example_items
    )
    assert sums.keys() == {"hard_label_loss"}
    assert sums["hard_label_loss"].tolist() == pytest.approx([3 * hard.item(), 3])


def test_multi_label_fidelity_is_the_mean_over_labels(batch):
    model_outputs = ModelOutputs(Features(batch["student"]), Features(batch["teacher"]))
    objective = Objective([soft_label_term(1.0, "forward_kl", 1.0, multi_label=True)])
    sums = evaluation_sums(model_outputs, batch, objective, "multi_label_classification", example_items)
    agreement = ((batch["student"] > 0) == (batch["teacher"] > 0)).float()
    assert sums["teacher_agreement"].tolist() == pytest.approx([agreement.mean(dim=1).sum().item(), 6])
    torch.testing.assert_close(sums["teacher_kl"], sums["soft_label_loss"])


def test_only_chosen_positions_count():
    student, teacher = torch.randn(2, 4, 3), torch.randn(2, 4, 3)
    inputs = {"labels": torch.tensor([[1, -100, 2, -100], [-100, -100, -100, 0]])}
    chosen = inputs["labels"] != -100

    def items(inputs):
        return token_items(inputs, ["labels"])

    objective = Objective([soft_label_term(1.0, "forward_kl", 1.0, items=items)])
    dense, picked = (
        evaluation_sums(ModelOutputs(*map(Features, sides)), inputs, objective, CLASSES, items)
        for sides in ((student, teacher), (student[chosen], teacher[chosen]))
    )
    values = fidelity_values(student[chosen], teacher[chosen], CLASSES)
    for name, value in values.items():
        assert dense[name].tolist() == pytest.approx([value.sum().item(), 3])
        torch.testing.assert_close(picked[name], dense[name])

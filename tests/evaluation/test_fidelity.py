"""Fidelity by hand."""

import math

import pytest
import torch

from hf_distill.evaluation.fidelity import fidelity_values


def test_classes():
    student = torch.tensor([[0.0, 0.0], [2.0, 0.0]])
    teacher = torch.tensor([[math.log(3), 0.0], [0.0, 1.0]])
    values = fidelity_values(student, teacher, "single_label_classification")
    assert values["teacher_agreement"].tolist() == [1.0, 0.0]
    # KL((3/4, 1/4) || (1/2, 1/2))
    assert values["teacher_kl"][0].item() == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))


def test_labels_and_numbers():
    student, teacher = torch.tensor([[1.0, -1.0]]), torch.tensor([[2.0, 3.0]])
    assert fidelity_values(student, teacher, "multi_label_classification")["teacher_agreement"].item() == 0.5
    assert fidelity_values(student[:, :1], teacher[:, :1], "regression") == {"teacher_mse": torch.tensor([1.0])}

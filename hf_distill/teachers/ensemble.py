"""Several teachers whose probabilities are averaged."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from hf_distill.objectives.logits import as_binary, average_probabilities
from hf_distill.teachers.base import LiveTeacher, Teacher, TeacherOutputs
from hf_distill.teachers.frozen import FrozenTeacher


class TeacherEnsemble(Teacher):
    """The weighted mean of several teachers' probabilities (of their outputs, for regression).

    Averaged are the probabilities softened by the temperature, not the divergences from each teacher; the answer is
    logits whose softmax at that temperature is the mean.

    Args:
        teachers: At least one, their labels in the student's order.
        weights: One per teacher, above 0; only their proportions count. None: equal.
        problem_type: Asked at every answer: "single_label_classification", "multi_label_classification" or
            "regression".
        temperature: Asked at every answer; the objective's.

    Raises:
        ValueError: The weights do not fit.

    Source:
        Hinton et al. 2015, arXiv 1503.02531, section 2 (an ensemble's arithmetic mean of predictive distributions).
    """

    def __init__(
        self,
        teachers: Sequence[FrozenTeacher],
        weights: Sequence[float] | None = None,
        problem_type: Callable[[], str] = lambda: "single_label_classification",
        temperature: Callable[[], float] = lambda: 1.0,
    ):
        weights = [1.0] * len(teachers) if weights is None else list(weights)
        if len(weights) != len(teachers) or not all(0 < weight < float("inf") for weight in weights):
            raise ValueError(f"teacher_weights must be {len(teachers)} numbers above 0, one per teacher; got {weights}")
        self.teachers = tuple(teachers)
        self.weights = [weight / sum(weights) for weight in weights]
        self.problem_type, self.temperature = problem_type, temperature

    @property
    def members(self) -> tuple[LiveTeacher, ...]:
        """The teachers."""
        return self.teachers

    @property
    def member_weights(self) -> Sequence[float]:
        """One per teacher; they add up to 1."""
        return self.weights

    def identity(self) -> Any:
        """The identities and weights of the teachers."""
        return {"members": [member.identity() for member in self.teachers], "weights": self.weights}

    @property
    def input_names(self) -> set[str]:
        """The model inputs the teachers read."""
        return set().union(*(teacher.input_names for teacher in self.teachers))

    @property
    def main_inputs(self) -> set[str]:
        """The model inputs the teachers cannot do without."""
        return set().union(*(teacher.main_inputs for teacher in self.teachers))

    def resolve_dtype(self, inputs: Mapping[str, Any]) -> None:
        """See `FrozenTeacher.resolve_dtype`."""
        for teacher in self.teachers:
            teacher.resolve_dtype(inputs)

    def outputs(self, inputs: Mapping[str, Any]) -> TeacherOutputs:
        """The mean outputs for a batch of model inputs, logits (batch, classes)."""
        logits = [teacher.outputs(inputs).require_logits() for teacher in self.teachers]
        if self.problem_type() == "regression":
            weighted = [weight * output for weight, output in zip(self.weights, logits, strict=True)]
            return TeacherOutputs(torch.stack(weighted).sum(dim=0))
        temperature = self.temperature()
        if self.problem_type() == "multi_label_classification":
            mean = average_probabilities([as_binary(output) for output in logits], self.weights, temperature)
            return TeacherOutputs(mean[..., 1] - mean[..., 0])
        return TeacherOutputs(average_probabilities(logits, self.weights, temperature))

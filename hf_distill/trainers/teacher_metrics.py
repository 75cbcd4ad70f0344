"""Metrics of an evaluation with a teacher: every term of the loss, and the fidelity to the teacher."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from hf_distill.evaluation.fidelity import evaluation_sums
from hf_distill.objectives.model_outputs import Features, ModelOutputs, TopClasses
from hf_distill.objectives.objective import Objective
from hf_distill.objectives.reduction import NO_REAL_EXAMPLE, row_count
from hf_distill.objectives.top_k import spread_tail
from hf_distill.trainers.ranked_rows import RankedRows
from hf_distill.trainers.running_mean import RunningMean

_ADDED_LOSS = "added_loss"


class TeacherMetrics:
    """Means over an evaluation: each term, the fidelity to the teacher, and the loss that a subclass adds."""

    def __init__(self) -> None:
        self._means, self._ranked = RunningMean(), RankedRows()
        self._last_loss: Tensor | None = None  # of the batch just evaluated
        self._last_rows = 0

    def add(
        self,
        model_outputs: ModelOutputs,
        inputs: Mapping[str, Any],
        objective: Objective,
        loss: Tensor,
        means: Tensor,
        problem_type: str,
        items: Callable[[Mapping[str, object]], Tensor] | None,
    ) -> None:
        """Add one batch.

        Args:
            model_outputs: The outputs of student and teacher.
            inputs: The model inputs.
            objective: The terms that were evaluated.
            loss: The objective's value, scalar.
            means: The mean of each term over its items, (terms,).
            problem_type: The student's problem type, see `fidelity_values`.
            items: The function that finds, in model inputs, the distributions that are compared. None: none are.
        """
        self._last_loss, self._last_rows = loss, row_count(inputs) * (NO_REAL_EXAMPLE not in inputs)
        known: Tensor | None = means
        if model_outputs.teacher is not None and (top := model_outputs.teacher.top) is not None:
            model_outputs, known = _with_all_classes(model_outputs, top), None
        self._means.add(evaluation_sums(model_outputs, inputs, objective, problem_type, items, known))
        self._ranked.add(model_outputs, inputs, objective)

    def add_own(self, loss: Tensor | None) -> None:
        """Add the difference between a subclass's loss and the objective's value for the batch added last.

        Args:
            loss: The subclass's loss, scalar. None: there is none.
        """
        if loss is not None and self._last_loss is not None:
            added = (loss - self._last_loss).float() * self._last_rows
            self._means.add({_ADDED_LOSS: torch.stack([added, torch.full_like(added, self._last_rows)])})
        self._last_loss = None

    def read(self, objective: Objective, sum_over_processes: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """Compute the means, with the loss, and clear them.

        Args:
            objective: The training objective, whose weights apply to the loss.
            sum_over_processes: Function that sums a tensor over all processes.

        Returns:
            The metrics by name; empty where no outputs were compared with a teacher's.
        """
        means = self._means.read(sum_over_processes) | self._ranked.read(objective)
        weights = {f"{term.name}_loss": term.weight for term in objective.terms}
        parts = [weights[name] * means[name] for name in weights.keys() & means.keys()]
        added = means.pop(_ADDED_LOSS, 0.0)
        if means:
            means["loss"] = added + (sum(parts) if parts else means["hard_label_loss"])
        return means


def _with_all_classes(model_outputs: ModelOutputs, top: TopClasses) -> ModelOutputs:
    """Model outputs with logits at the masked positions alone, the teacher's spread over the whole vocabulary."""
    logits = top.at_positions(model_outputs.student.require_logits())
    spread = spread_tail(top.classes[top.real].long(), top.log_probabilities[top.real], logits.shape[-1])
    return replace(model_outputs, student=replace(model_outputs.student, logits=logits), teacher=Features(spread))

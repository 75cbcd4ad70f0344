"""What an evaluation with a teacher reports: every term of the loss, and the fidelity to the teacher."""

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
from hf_distill.trainers.running_mean import RunningMean

_ADDED_LOSS = "added_loss"


class TeacherMetrics:
    """Means over an evaluation of each term, of the fidelity to the teacher, and of what a subclass adds to the loss."""

    def __init__(self) -> None:
        self._means = RunningMean()
        self._last_loss: Tensor | None = None  # of the batch just evaluated
        self._last_rows = 0

    def add(
        self,
        model_outputs: ModelOutputs,
        inputs: Mapping[str, Any],
        objective: Objective,
        loss: Tensor,
        problem_type: str,
        items: Callable[[Mapping[str, object]], Tensor],
    ) -> None:
        """Add one batch.

        Args:
            model_outputs: The outputs of student and teacher.
            inputs: The model inputs.
            objective: The terms that were evaluated.
            loss: The objective's value, scalar.
            problem_type: See `fidelity_values`.
            items: Model inputs to the distributions that count, as for the soft labels.
        """
        self._last_loss, self._last_rows = loss, row_count(inputs) * (NO_REAL_EXAMPLE not in inputs)
        if model_outputs.teacher is not None and (top := model_outputs.teacher.top) is not None:
            model_outputs = _with_all_classes(model_outputs, top)
        self._means.add(evaluation_sums(model_outputs, inputs, objective, problem_type, items))

    def add_own(self, loss: Tensor | None) -> None:
        """Add what a subclass's `compute_loss` gave beyond the objective's value for the batch added last.

        Args:
            loss: The whole loss, scalar.
        """
        if loss is not None and self._last_loss is not None:
            added = (loss - self._last_loss).float() * self._last_rows
            self._means.add({_ADDED_LOSS: torch.stack([added, torch.full_like(added, self._last_rows)])})
        self._last_loss = None

    def read(self, objective: Objective, sum_over_processes: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """The means, the loss among them, and a fresh start.

        Args:
            objective: The training objective, whose weights the loss has.
            sum_over_processes: Sums a tensor over all processes.

        Returns:
            The metrics by name; empty where nothing was compared with a teacher.
        """
        means = self._means.read(sum_over_processes)
        weights = {f"{term.name}_loss": term.weight for term in objective.terms}
        parts = [weights[name] * means[name] for name in weights.keys() & means.keys()]
        added = means.pop(_ADDED_LOSS, 0.0)
        if means:
            means["loss"] = added + (sum(parts) if parts else means["hard_label_loss"])
        return means


def _with_all_classes(model_outputs: ModelOutputs, top: TopClasses) -> ModelOutputs:
    """With logits of both sides at the masked positions alone, the teacher's over the whole vocabulary."""
    logits = top.at_positions(model_outputs.student.require_logits())
    spread = spread_tail(top.classes[top.real].long(), top.log_probabilities[top.real], logits.shape[-1])
    return replace(model_outputs, student=replace(model_outputs.student, logits=logits), teacher=Features(spread))

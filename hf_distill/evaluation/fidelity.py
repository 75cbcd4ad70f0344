"""How far a student is from its teacher."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from hf_distill.objectives.logits import as_binary, forward_kl, logit_mse
from hf_distill.objectives.model_outputs import ModelOutputs
from hf_distill.objectives.objective import Objective
from hf_distill.objectives.reduction import NO_REAL_EXAMPLE, mean_over_items
from hf_distill.tasks import MULTI_LABEL, REGRESSION


def fidelity_values(student_logits: Tensor, teacher_logits: Tensor, problem_type: str) -> dict[str, Tensor]:
    """Agreement with the teacher, one value per distribution.

    Args:
        student_logits: (..., classes).
        teacher_logits: (..., classes).
        problem_type: "single_label_classification", "multi_label_classification" or "regression", as in
            `PretrainedConfig.problem_type`.

    Returns:
        For classes `teacher_agreement` (1 where the predicted class is the teacher's) and `teacher_kl` (forward KL at
        temperature 1, nats), each (...), or (..., labels) for a multi-label head. For regression `teacher_mse`, (...).
    """
    if problem_type == REGRESSION:
        return {"teacher_mse": logit_mse(student_logits, teacher_logits)}
    if problem_type == MULTI_LABEL:
        student_logits, teacher_logits = as_binary(student_logits), as_binary(teacher_logits)  # (batch, labels, 2)
    agreement = (student_logits.argmax(dim=-1) == teacher_logits.argmax(dim=-1)).float()
    return {"teacher_agreement": agreement, "teacher_kl": forward_kl(student_logits, teacher_logits)}


def evaluation_sums(
    model_outputs: ModelOutputs,
    inputs: Mapping[str, object],
    objective: Objective,
    problem_type: str,
    items: Callable[[Mapping[str, object]], Tensor],
) -> dict[str, Tensor]:
    """All that an evaluation with a teacher reports about one batch: fidelity, and each term as `<term>_loss`.

    Args:
        evidence: Outputs for the batch.
        inputs: The batch.
        objective: The terms.
        problem_type: See `fidelity_values`.
        items: Model inputs to the distributions that count, as for the soft labels.

    Returns:
        By name the sum over items and their number, (2,).
    """
    means, counts = objective.means(model_outputs, inputs), objective.num_items(inputs)
    sums = torch.where(counts > 0, means * counts, 0)
    found = {f"{term.name}_loss": torch.stack(both) for term, *both in zip(objective.terms, sums, counts, strict=True)}
    if model_outputs.teacher is None:
        return found
    counted = items(inputs)
    count = counted.sum().float() * (NO_REAL_EXAMPLE not in inputs)
    values = fidelity_values(model_outputs.student.logits, model_outputs.teacher.logits, problem_type)
    return found | {
        name: torch.stack([mean_over_items(value, counted).float() * count, count]) for name, value in values.items()
    }

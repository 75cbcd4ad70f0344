"""Fidelity: the agreement of a student's outputs with its teacher's."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from hf_distill.objectives.hidden_states import cosine
from hf_distill.objectives.logits import as_binary, forward_kl, logit_mse
from hf_distill.objectives.model_outputs import ModelOutputs
from hf_distill.objectives.objective import Objective
from hf_distill.objectives.reduction import NO_REAL_EXAMPLE, mean_over_items
from hf_distill.tasks import EMBEDDING, MULTI_LABEL, REGRESSION


def fidelity_values(student_logits: Tensor, teacher_logits: Tensor, problem_type: str) -> dict[str, Tensor]:
    """Compare a student's logits with its teacher's, one value per distribution.

    Args:
        student_logits: The student's logits, (..., classes).
        teacher_logits: The teacher's logits, (..., classes).
        problem_type: The meaning of the logits, as in `PretrainedConfig.problem_type`: "single_label_classification",
            "multi_label_classification" or "regression"; or `tasks.EMBEDDING`.

    Returns:
        The values by name: for classification `teacher_agreement` (1 where both predict the same class, else 0) and
        `teacher_kl` (forward KL divergence at temperature 1, in nats), each (...), or (..., labels) for a multi-label
        head; for regression `teacher_mse` (squared difference), (...); for embeddings of equal width `teacher_cosine`
        (cosine similarity), (...).
    """
    if problem_type == REGRESSION:
        return {"teacher_mse": logit_mse(student_logits, teacher_logits)}
    if problem_type == EMBEDDING:
        same_width = student_logits.shape[-1] == teacher_logits.shape[-1]
        return {"teacher_cosine": 1 - cosine(student_logits, teacher_logits)} if same_width else {}
    if problem_type == MULTI_LABEL:
        student_logits, teacher_logits = as_binary(student_logits), as_binary(teacher_logits)  # (batch, labels, 2)
    agreement = (student_logits.argmax(dim=-1) == teacher_logits.argmax(dim=-1)).float()
    return {"teacher_agreement": agreement, "teacher_kl": forward_kl(student_logits, teacher_logits)}


def evaluation_sums(
    model_outputs: ModelOutputs,
    inputs: Mapping[str, object],
    objective: Objective,
    problem_type: str,
    items: Callable[[Mapping[str, object]], Tensor] | None,
    means: Tensor | None = None,
) -> dict[str, Tensor]:
    """Sum what an evaluation with a teacher reports over one batch: fidelity, and each loss term as `<term>_loss`.

    Args:
        model_outputs: The outputs of student and teacher for the batch, with the logits of both.
        inputs: The model inputs of the batch.
        objective: The loss terms.
        problem_type: The meaning of the logits, see `fidelity_values`.
        items: A function from model inputs to a mask of the distributions that count, as for the soft labels. None: the
            student's predictions mean nothing, and only loss terms are summed.
        means: The mean of each term over its items, (terms,). None: it is computed.

    Returns:
        The sum over items and the number of items by metric name, each (2,).
    """
    counts = objective.num_items(inputs)
    means = objective.means(model_outputs, inputs) if means is None else means
    sums = torch.where(counts > 0, means * counts, 0)
    found = {f"{term.name}_loss": torch.stack(both) for term, *both in zip(objective.terms, sums, counts, strict=True)}
    if model_outputs.teacher is None or items is None:
        return found
    counted = items(inputs)
    count = counted.sum().float() * (NO_REAL_EXAMPLE not in inputs)
    student, teacher = model_outputs.student.logits, model_outputs.teacher.logits
    assert student is not None and teacher is not None  # evaluations compute the logits of both models
    values = fidelity_values(student, teacher, problem_type)
    return found | {
        name: torch.stack([mean_over_items(value, counted).float() * count, count]) for name, value in values.items()
    }

"""How far a student is from its teacher, per example."""

from __future__ import annotations

from torch import Tensor

from hf_distill.objectives.logits import as_binary, forward_kl, logit_mse
from hf_distill.objectives.objective import Evidence, Objective


def fidelity_values(student_logits: Tensor, teacher_logits: Tensor, problem_type: str) -> dict[str, Tensor]:
    """Agreement with the teacher, one value per example.

    Args:
        student_logits: (batch, classes).
        teacher_logits: (batch, classes).
        problem_type: "single_label_classification", "multi_label_classification" or "regression", as in
            `PretrainedConfig.problem_type`.

    Returns:
        For classes `teacher_agreement` (1 where the predicted class, or the share of labels predicted, is the
        teacher's) and `teacher_kl` (forward KL at temperature 1, nats; mean over labels), each (batch,). For
        regression `teacher_mse`, (batch,).
    """
    if problem_type == "regression":
        return {"teacher_mse": logit_mse(student_logits, teacher_logits)}
    if problem_type == "multi_label_classification":
        student_logits, teacher_logits = as_binary(student_logits), as_binary(teacher_logits)  # (batch, labels, 2)
    agreement = (student_logits.argmax(dim=-1) == teacher_logits.argmax(dim=-1)).float()
    kl = forward_kl(student_logits, teacher_logits)
    per_example = (values.reshape(len(values), -1).mean(dim=-1) for values in (agreement, kl))
    return dict(zip(("teacher_agreement", "teacher_kl"), per_example, strict=True))


def example_values(evidence: Evidence, objective: Objective, problem_type: str) -> dict[str, Tensor]:
    """All that an evaluation with a teacher reports: fidelity, each term as `<term>_loss`, and their sum as `loss`.

    Args:
        evidence: Outputs for a batch, the teacher's among them.
        objective: The terms that are summed; the student's own loss on the labels is reported where it is known.
        problem_type: See `fidelity_values`.

    Returns:
        One value per example, float (batch,); a term known only as the batch's mean has that mean in every row.
    """
    values = fidelity_values(evidence.student_logits, evidence.teacher_logits, problem_type)
    for term in objective.terms:
        value = term.values(evidence)
        values[f"{term.name}_loss"] = value.reshape(len(value), -1).mean(dim=1) if value.dim() else value
    values["loss"] = sum(term.weight * values[f"{term.name}_loss"] for term in objective.terms)
    if evidence.hard_label_loss is not None:
        values["hard_label_loss"] = evidence.hard_label_loss
    rows = len(evidence.student_logits)
    return {name: value.float().expand(rows).contiguous() for name, value in values.items()}

"""How far a student is from its teacher, per example."""

from __future__ import annotations

from torch import Tensor

from hf_distill.objectives.logits import as_binary, forward_kl, logit_mse


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

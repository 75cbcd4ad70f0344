"""The training objective: named, weighted terms added up, and each term's own value for the logs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from hf_distill.objectives.logits import SOFT_LABEL_LOSSES, as_binary
from hf_distill.objectives.reduction import NO_REAL_EXAMPLE, batch_rows, count_label_items, share_of_batch


@dataclass(frozen=True)
class Evidence:
    """What one micro-batch gives the terms to work with.

    Attributes:
        student_logits: (batch, classes).
        teacher_logits: (batch, classes); None without a teacher.
        hard_label_loss: The student's own loss on the labels, its mean over the labels of this micro-batch, scalar;
            None where the labels were not asked for.
    """

    student_logits: Tensor | None
    teacher_logits: Tensor | None
    hard_label_loss: Tensor | None


@dataclass(frozen=True)
class Term:
    """One loss: `weight` times the mean of `values` over the items that `num_items` counts.

    Attributes:
        name: Key in the logs, without `_loss`.
        weight: Factor in the total, at least 0.
        values: Evidence to one value per item, (batch, ...), or to their mean, scalar.
        num_items: Model inputs to the number of items in this micro-batch, integer scalar.
        settings: What else defines the term, for the records.
    """

    name: str
    weight: float
    values: Callable[[Evidence], Tensor]
    num_items: Callable[[Mapping[str, object]], Tensor]
    settings: Mapping[str, object] = field(default_factory=dict)


class Objective:
    """Weighted sum of terms, exact under gradient accumulation and data parallelism (see `reduction`)."""

    def __init__(self, terms: Sequence[Term]):
        self.terms = tuple(terms)

    def __contains__(self, name: str) -> bool:
        return any(term.name == name for term in self.terms)

    def num_items(self, inputs: Mapping[str, object]) -> Tensor:
        """Items of each term in this micro-batch, float (terms,)."""
        num_items = torch.stack([term.num_items(inputs) for term in self.terms]).float()
        return torch.zeros_like(num_items) if NO_REAL_EXAMPLE in inputs else num_items

    def __call__(self, evidence: Evidence, num_items: Tensor, total_items: Tensor) -> tuple[Tensor, Tensor]:
        """Contribution of a micro-batch to its optimizer step.

        Args:
            evidence: The micro-batch's outputs.
            num_items: Items of each term in this micro-batch, (terms,).
            total_items: Items of each term in the whole step, (terms,).

        Returns:
            The total, scalar, and the unweighted terms it is made of, detached, (terms,).
        """
        shares = share_of_batch(num_items, total_items)
        # A micro-batch without a single label has a mean of 0 / 0; its share is 0, and so must its part be.
        parts = [
            torch.where(share > 0, term.values(evidence).mean(), 0) * share
            for term, share in zip(self.terms, shares, strict=True)
        ]
        total = parts[0] * self.terms[0].weight
        for term, part in zip(self.terms[1:], parts[1:], strict=True):
            total = total + part * term.weight
        return total, torch.stack([part.detach().float() for part in parts])


def soft_label_values(loss: str, multi_label: bool, temperature: float, evidence: Evidence) -> Tensor:
    """Divergence of the student's logits from the teacher's, (batch,), or (batch, labels) for a multi-label head."""
    student_logits, teacher_logits = evidence.student_logits, evidence.teacher_logits
    if multi_label and loss != "logit_mse":
        student_logits, teacher_logits = as_binary(student_logits), as_binary(teacher_logits)
    return SOFT_LABEL_LOSSES[loss](student_logits, teacher_logits, temperature)


def soft_label_term(weight: float, loss: str, temperature: float, multi_label: bool) -> Term:
    """Learn from the teacher's soft labels; every example of the batch counts, labelled or not.

    Args:
        weight: Factor in the total.
        loss: A key of `SOFT_LABEL_LOSSES`.
        temperature: Softens both distributions, above 0.
        multi_label: The head's logits are independent yes/no labels.
    """
    return Term(
        name="soft_label",
        weight=weight,
        values=lambda evidence: soft_label_values(loss, multi_label, temperature, evidence),
        num_items=batch_rows,
        settings={"loss": loss, "temperature": temperature},
    )


def hard_label_term(weight: float, label_names: Sequence[str], causal_shift: bool = False) -> Term:
    """Learn from the labels with the student's own loss; labels of -100 do not count.

    Args:
        weight: Factor in the total.
        label_names: The model inputs that carry labels.
        causal_shift: The student's loss shifts its labels by one position.
    """
    return Term(
        name="hard_label",
        weight=weight,
        values=lambda evidence: evidence.hard_label_loss,
        num_items=lambda inputs: count_label_items(inputs, label_names, causal_shift),
    )

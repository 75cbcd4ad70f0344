"""The training objective: named, weighted terms added up, and each term's own value for the logs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce

import torch
from torch import Tensor

from hf_distill.objectives.model_outputs import FeatureRequest, ModelOutputs
from hf_distill.objectives.reduction import NO_REAL_EXAMPLE, mean_over_items, share_of_batch

_NOTHING = FeatureRequest()


@dataclass(frozen=True)
class Term:
    """One loss: `weight` times the mean of `values` over its items.

    Attributes:
        name: Key in the logs, without `_loss`.
        weight: Factor in the total, at least 0.
        values: Evidence to one value per item, shaped as `mean_over_items` takes them.
        items: Model inputs to what counts as an item, bool of any shape.
        student_needs: What the student's forward must leave behind.
        teacher_needs: What the teacher's forward must leave behind.
        settings: What else defines the term, for the records.
    """

    name: str
    weight: float
    values: Callable[[ModelOutputs], Tensor]
    items: Callable[[Mapping[str, object]], Tensor]
    student_needs: FeatureRequest = _NOTHING
    teacher_needs: FeatureRequest = _NOTHING
    settings: Mapping[str, object] = field(default_factory=dict)


class Objective:
    """Weighted sum of terms, exact under gradient accumulation and data parallelism (see `reduction`).

    Args:
        terms: Of different names.

    Raises:
        ValueError: Two terms have one name, which logs and records could not tell apart.
    """

    def __init__(self, terms: Sequence[Term]):
        self.terms = tuple(terms)
        names = [term.name for term in self.terms]
        if len(set(names)) < len(names):
            raise ValueError(f"the terms of an objective need different names, got {names}")

    def __contains__(self, name: str) -> bool:
        return any(term.name == name for term in self.terms)

    @property
    def needs_teacher(self) -> bool:
        """Whether any term compares the student with its teacher."""
        return any(term.name != "hard_label" for term in self.terms)

    @property
    def student_needs(self) -> FeatureRequest:
        """What the student's forward must leave behind for all terms."""
        return reduce(FeatureRequest.__or__, (term.student_needs for term in self.terms), _NOTHING)

    @property
    def teacher_needs(self) -> FeatureRequest:
        """What the teacher's forward must leave behind for all terms."""
        return reduce(FeatureRequest.__or__, (term.teacher_needs for term in self.terms), _NOTHING)

    def num_items(self, inputs: Mapping[str, object]) -> Tensor:
        """Items of each term in this micro-batch, float (terms,)."""
        num_items = torch.stack([term.items(inputs).sum() for term in self.terms]).float()
        return torch.zeros_like(num_items) if NO_REAL_EXAMPLE in inputs else num_items

    def means(self, model_outputs: ModelOutputs, inputs: Mapping[str, object]) -> Tensor:
        """Mean of each term's values over its items, with gradient, (terms,)."""
        return torch.stack(
            [mean_over_items(term.values(model_outputs), term.items(inputs)).float() for term in self.terms]
        )

    def __call__(
        self, model_outputs: ModelOutputs, inputs: Mapping[str, object], total_items: Tensor | float | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Contribution of a micro-batch to its optimizer step.

        Args:
            evidence: The micro-batch's outputs.
            inputs: The micro-batch's inputs.
            total_items: Items of each term in the whole step, (terms,), or one number for all; None: the step is this
                micro-batch.

        Returns:
            The total, scalar; the unweighted terms it is made of, detached, (terms,); and the micro-batch's share of
            the step for each term, (terms,).
        """
        num_items = self.num_items(inputs)
        total = num_items if total_items is None else torch.as_tensor(total_items, device=num_items.device)
        shares = share_of_batch(num_items, total)
        # A model's own loss is 0 / 0 in a micro-batch without a single label; what has no item counts for nothing.
        parts = torch.where(num_items > 0, self.means(model_outputs, inputs), 0) * shares
        weights = parts.new_tensor([term.weight for term in self.terms])
        return (parts * weights).sum(), parts.detach(), shares

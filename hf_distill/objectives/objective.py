"""The training objective: a weighted sum of named terms, and the value of each term for the logs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from hf_distill.objectives.model_outputs import FeatureRequest, ModelOutputs
from hf_distill.objectives.reduction import NO_REAL_EXAMPLE, mean_over_items, share_of_batch

_NOTHING = FeatureRequest()
_OF_LOGITS = frozenset({"soft_label", "hard_label", "similarity"})
_OF_FEATURES = frozenset({"hidden_state", "embedding", "attention", "relation"})  # terms of others may read anything


@dataclass(frozen=True)
class Term:
    """One loss: `weight` times the mean of `values` over its items.

    Attributes:
        name: The term's name; its key in the logs is this followed by `_loss`.
        weight: Factor of the term in the total loss, at least 0.
        values: Function from the model outputs to one value per item, shaped as `mean_over_items` takes them.
        items: Function from the model inputs to a mask of what counts as an item, bool of any shape.
        student_needs: The features that the student's forward pass has to capture.
        teacher_needs: The features that the teacher's forward pass has to capture.
        settings: Everything else that defines the term, written to the run record.
    """

    name: str
    weight: float
    values: Callable[[ModelOutputs], Tensor]
    items: Callable[[Mapping[str, Any]], Tensor]
    student_needs: FeatureRequest = _NOTHING
    teacher_needs: FeatureRequest = _NOTHING
    settings: Mapping[str, object] = field(default_factory=dict)


class Objective:
    """Weighted sum of terms, exact under gradient accumulation and data parallelism (see `reduction`).

    Args:
        terms: The terms, each with a name of its own.

    Raises:
        ValueError: Two terms have the same name, so that logs and records could not distinguish them.
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
    def reads_logits(self) -> bool:
        """Whether any term depends on the student's logits, and not on features inside the model alone."""
        return any(term.name in _OF_LOGITS for term in self.terms)

    @property
    def is_of_features(self) -> bool:
        """Whether every term is known to compare features inside the models alone, so that no head learns anything."""
        return bool(self.terms) and all(term.name in _OF_FEATURES for term in self.terms)

    @property
    def student_needs(self) -> FeatureRequest:
        """The features that the student's forward pass has to capture for all terms."""
        return reduce(FeatureRequest.__or__, (term.student_needs for term in self.terms), _NOTHING)

    @property
    def teacher_needs(self) -> FeatureRequest:
        """The features that the teacher's forward pass has to capture for all terms."""
        return reduce(FeatureRequest.__or__, (term.teacher_needs for term in self.terms), _NOTHING)

    def num_items(self, inputs: Mapping[str, Any]) -> Tensor:
        """Number of items of each term in this micro-batch, float (terms,)."""
        num_items = torch.stack([term.items(inputs).sum() for term in self.terms]).float()
        return torch.zeros_like(num_items) if NO_REAL_EXAMPLE in inputs else num_items

    def means(self, model_outputs: ModelOutputs, inputs: Mapping[str, Any]) -> Tensor:
        """Mean of each term's values over its items, differentiable, (terms,)."""
        return torch.stack(
            [mean_over_items(term.values(model_outputs), term.items(inputs)).float() for term in self.terms]
        )

    def __call__(
        self, model_outputs: ModelOutputs, inputs: Mapping[str, Any], total_items: Tensor | float | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """A micro-batch's contribution to the loss of its optimizer step.

        Args:
            model_outputs: The outputs of student and teacher for the micro-batch.
            inputs: The micro-batch's model inputs.
            total_items: Number of items of each term in the whole optimizer step, (terms,), or one number for all
                terms. None: the step consists of this micro-batch.

        Returns:
            The weighted sum, scalar; its unweighted terms, detached, (terms,); and the micro-batch's share of the
            optimizer step for each term, in [0, 1], (terms,).
        """
        num_items = self.num_items(inputs)
        total = num_items if total_items is None else torch.as_tensor(total_items, device=num_items.device)
        shares = share_of_batch(num_items, total)
        # In a micro-batch without a single label the loss inside the model is 0 / 0.
        parts = torch.where(num_items > 0, self.means(model_outputs, inputs), 0) * shares
        weights = parts.new_tensor([term.weight for term in self.terms])
        return (parts * weights).sum(), parts.detach(), shares

"""Ranking losses of an evaluation, whose batches and processes may each have a part of a query's candidates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import Tensor

from hf_distill.objectives.model_outputs import Features, ModelOutputs
from hf_distill.objectives.objective import Objective, Term
from hf_distill.objectives.ranking import query_ids
from hf_distill.objectives.reduction import NO_REAL_EXAMPLE

QUERY_COLUMN = "query_column"


class RankedRows:
    """The scores of an evaluation's rows by student and teacher, kept until all candidates of every query are known."""

    def __init__(self) -> None:
        self._rows: list[tuple[Tensor, Tensor, Tensor]] = []

    def add(self, model_outputs: ModelOutputs, inputs: Mapping[str, Any], objective: Objective) -> None:
        """Add one batch, if the objective has a ranking loss.

        Args:
            model_outputs: The outputs of student and teacher, with logits (batch, 1).
            inputs: The model inputs.
            objective: The terms that were evaluated.
        """
        term = _ranking_term(objective)
        if term is None or NO_REAL_EXAMPLE in inputs or model_outputs.teacher is None:
            return
        student, teacher = model_outputs.student.require_logits(), model_outputs.teacher.require_logits()
        self._rows.append((query_ids(inputs, str(term.settings[QUERY_COLUMN])), student.float(), teacher.float()))

    def read(self, objective: Objective) -> dict[str, float]:
        """Compute the mean of the ranking loss over its items in all rows of all processes, and clear the rows.

        Args:
            objective: The training objective; every process has the same.

        Returns:
            The mean by the name of the metric; empty where there is no ranking loss or no item.
        """
        rows, self._rows = self._rows, []
        if (term := _ranking_term(objective)) is None:
            return {}
        own = [tuple(torch.cat(each).cpu() for each in zip(*rows, strict=True))] if rows else []
        found = gather_object(own)
        if not found:
            return {}
        queries, student, teacher = (torch.cat(each) for each in zip(*found, strict=True))
        order = queries.argsort(stable=True)
        sizes = queries[order].unique_consecutive(return_counts=True)[1].tolist()
        total = count = 0.0
        for of_query in order.split(sizes):
            inputs = {str(term.settings[QUERY_COLUMN]): queries[of_query]}
            outputs = ModelOutputs(Features(student[of_query]), Features(teacher[of_query]), inputs=inputs)
            items = term.items(inputs)
            total += float(term.values(outputs)[items].sum())
            count += int(items.sum())
        return {f"{term.name}_loss": total / count} if count else {}


def _ranking_term(objective: Objective) -> Term | None:
    return next((term for term in objective.terms if QUERY_COLUMN in term.settings), None)

"""The cost of training steps, computed from shapes; nothing synchronizes with the device until the tokens are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from hf_distill.compute.budget import RunCost
from hf_distill.compute.flops import (
    Cost,
    Reach,
    attention_widths,
    backward_cost,
    forward_cost,
    projection_cost,
    score_cost,
)
from hf_distill.compute.forward_cost import batch_shape, is_known, model_forward_cost
from hf_distill.features.projections import PROJECTIONS
from hf_distill.objectives.objective import Objective, Term
from hf_distill.objectives.reduction import NO_REAL_EXAMPLE
from hf_distill.tasks import task_of, unwrapped

_BATCHES_TOGETHER = 64  # whose lengths are added up at once
_VECTORS_COMPARED = {"attention": ("queries", "keys")}


class StepCosts:
    """Counts the FLOPs of student, teacher and objective, and the tokens read, since it was last cleared.

    The student's backward pass is counted from the highest layer that the objective compares: layers above hidden states and
    relations get no gradients. For families other than `FAMILIES` the FLOPs are estimated from the number of parameters.
    Precomputed teacher outputs cost nothing.
    """

    def __init__(self) -> None:
        self._costs: dict[Any, Any] = {}
        self.clear()

    def clear(self) -> None:
        """Reset all counts to 0."""
        self.student_flops = self.teacher_flops = self.pruning_flops = 0.0
        self._lengths: dict[tuple[float, float, bool], _Lengths] = {}

    def forget_shapes(self) -> None:
        """Discard cached costs; to be called when the shapes of a model or the terms of the objective have changed."""
        self._costs.clear()

    def add(
        self,
        student: nn.Module,
        members: Sequence[Any],
        inputs: Mapping[str, Any],
        objective: Objective,
        predictions: int | None,
    ) -> float:
        """Count a micro-batch.

        Args:
            student: The student itself, not its wrapper.
            members: The live teachers that ran a forward pass, each with a `model` and an `input_prefix`.
            inputs: The model inputs.
            objective: The training objective.
            predictions: The number of positions at which language-model heads ran. None: all of them.

        Returns:
            The micro-batch's FLOPs.
        """
        key = (bool(members), *(term.name for term in objective.terms))
        if key not in self._costs:
            taught = [(member, teacher_cost(member.model, objective)) for member in members]
            own = student_cost(student, objective)
            together = sum((cost for member, cost in taught if not member.input_prefix), own)
            self._costs[key] = own, together, taught
        own, together, taught = self._costs[key]
        rows, length, mask = batch_shape(student, inputs)
        operations = own.of(rows, length, predictions)
        self.student_flops += operations
        for member, cost in taught:
            prefix = member.input_prefix
            shape = batch_shape(member.model, inputs, prefix) if prefix else (rows, length, mask)
            answered = cost.of(*shape[:2], predictions)
            self.teacher_flops += answered
            operations += answered
            if prefix:
                self._note(cost, *shape, predictions)
        self._note(together, rows, length, mask, predictions, True, NO_REAL_EXAMPLE not in inputs)
        return operations

    def pending(self, wait: bool) -> RunCost:
        """The cost counted since it was last cleared.

        Args:
            wait: Whether to synchronize with the device, for the numbers of tokens and padding; else they are 0.

        Returns:
            The FLOPs, tokens and padding of this process.
        """
        spent = RunCost(self.student_flops, self.teacher_flops, pruning_flops=self.pruning_flops)
        for (per_token, per_pair, is_student), lengths in self._lengths.items() if wait else ():
            tokens, pairs = lengths.real()
            spent.padding_flops += per_token * (lengths.tokens - tokens) + per_pair * (lengths.pairs - pairs)
            if is_student:
                spent.tokens += tokens
                spent.padding_tokens += lengths.tokens - tokens
        return spent

    def _note(
        self,
        cost: Cost,
        rows: int,
        length: int,
        mask: Tensor | None,
        predictions: int | None,
        is_student: bool = False,
        is_real: bool = True,
    ) -> None:
        per_token = cost.per_token + (cost.per_prediction if predictions is None else 0)
        lengths = self._lengths.setdefault((per_token, cost.per_pair, is_student), _Lengths())
        lengths.add(rows, length, mask, is_real)


class _Lengths:
    """Sums of sequence lengths and of their squares, with and without padding."""

    def __init__(self) -> None:
        self.tokens = self.pairs = 0
        self._known = [0, 0]
        self._waiting: list[Tensor] = []
        self._sums: Tensor | None = None

    def add(self, rows: int, length: int, mask: Tensor | None, is_real: bool) -> None:
        self.tokens += rows * length
        self.pairs += rows * length * length
        if mask is not None and is_real:
            self._waiting.append(mask.sum(dim=1))
            if len(self._waiting) >= _BATCHES_TOGETHER:
                self._fold()
        elif is_real:
            self._known = [self._known[0] + rows * length, self._known[1] + rows * length * length]

    def real(self) -> tuple[int, int]:
        """The sums without padding; synchronizes with the device."""
        if self._waiting:
            self._fold()
        tokens, pairs = (0, 0) if self._sums is None else self._sums.tolist()
        return self._known[0] + tokens, self._known[1] + pairs

    def _fold(self) -> None:
        lengths = torch.cat(self._waiting).long()
        sums = torch.stack([lengths.sum(), lengths.square().sum()])
        self._sums = sums if self._sums is None else self._sums + sums
        self._waiting = []


def student_cost(student: nn.Module, objective: Objective) -> Cost:
    """Cost of the student: forward, backward as far as the objective reaches, projections, and scores to compare."""
    learned = _learned_share(student)
    config, task = cast(Any, getattr(student, "config", None)), task_of(student)
    if not is_known(student):
        return model_forward_cost(student) * (2 + learned)
    cost = forward_cost(config, task) + backward_cost(config, task, learned, reach_of(objective))
    maps = getattr(student, PROJECTIONS, None)
    if maps is not None:
        wide = next(each.out_features for each in maps.modules() if isinstance(each, nn.Linear))
        cost += projection_cost(config.hidden_size, wide) * (3 * len(objective.student_needs.hidden_states))
    return cost + _comparison_cost(config, objective) * 3


def teacher_cost(teacher: nn.Module, objective: Objective) -> Cost:
    """Cost of a teacher: forward, and scores to compare."""
    teacher = unwrapped(teacher)
    cost = model_forward_cost(teacher)
    return cost + _comparison_cost(teacher.config, objective) if is_known(teacher) else cost


def reach_of(objective: Objective) -> Reach:
    """The part of the student that gets gradients from an objective."""
    if objective.reads_logits:
        return Reach()
    needs = objective.student_needs
    states, top = max(needs.hidden_states, default=0), max(needs.attention, default=-1)
    if top < states:
        return Reach(states, logits=False)
    looking = [term for term in objective.terms if top in term.student_needs.attention]
    return Reach(top, frozenset().union(*map(_vectors_of, looking)), logits=False)


def _vectors_of(term: Term) -> tuple[str, ...]:
    return _VECTORS_COMPARED.get(term.name) or tuple(_names_in(term, "relations"))


def _names_in(term: Term, setting: str) -> list[Any]:
    return cast(list[Any], term.settings[setting])


def _comparison_cost(config: Any, objective: Objective) -> Cost:
    """Cost of one model's attention scores and relations, forward."""
    width, key_width = attention_widths(config)
    total = Cost()
    for term in objective.terms:
        if term.name == "attention":
            total += score_cost(width) * len(_names_in(term, "layers"))
        elif term.name == "relation":
            widths = (width if name == "queries" else key_width for name in _names_in(term, "relations"))
            total += score_cost(sum(widths)) * len(_names_in(term, "layers"))
    return total


def _learned_share(model: nn.Module) -> float:
    """The share of parameters to be trained among the matrices that are no embeddings."""
    embeddings = {id(each.weight) for each in model.modules() if isinstance(each, nn.Embedding)}
    matrices = [each for each in model.parameters() if each.dim() >= 2 and id(each) not in embeddings]
    total, learned = (sum(map(Tensor.numel, some)) for some in (matrices, [m for m in matrices if m.requires_grad]))
    return 1 if learned == total else learned / total

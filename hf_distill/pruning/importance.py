"""Importance scores of the units of an encoder, and the choice of the units to keep."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum

import torch
from torch import Tensor
from transformers import PreTrainedModel

from hf_distill.pruning.compaction import Keep
from hf_distill.pruning.structure import Axis, units_of
from hf_distill.text.suggestions import choice

# If the sum of all scores is at most this times the norm of the weights, the gradients are rounding errors of float32.
_NOISE = 64 * torch.finfo(torch.float32).eps

# One number per entry, by axis and layer (None for the residual stream): (hidden,), (heads · head size,) or (neurons,).
Scores = dict[tuple[Axis, int | None], Tensor]


class Criterion(str, Enum):
    """The importance of a weight; a unit's score is the sum over its weights."""

    SENSITIVITY = "sensitivity"
    TAYLOR = "taylor"
    MAGNITUDE = "magnitude"
    RANDOM = "random"

    @property
    def reads_gradients(self) -> bool:
        """Whether gradients are needed, so that a backward pass must come first."""
        return self in (Criterion.SENSITIVITY, Criterion.TAYLOR)


def score(model: PreTrainedModel, criterion: Criterion | str = Criterion.MAGNITUDE, seed: int = 0) -> Scores:
    """Compute the importance of every unit from the weights and, for sensitivity and Taylor, their gradients.

    Sensitivity is Σ |θ ∂L/∂θ|, Taylor |Σ θ ∂L/∂θ|, the change of the loss to first order if all weights were zero at once;
    magnitude is Σ θ².

    Args:
        model: The model, with gradients where the criterion reads them; parameters without a gradient score 0.
        criterion: The importance of a weight.
        seed: The seed of random scores.

    Returns:
        The scores by axis and layer, one number per unit, not negative.

    Raises:
        ValueError: The architecture is not supported, or the criterion reads gradients and there is none.

    Source:
        Liang et al. 2023 (HomoDistil), arXiv 2302.09632, section 3, for sensitivity; Molchanov et al. 2017, arXiv
        1611.06440, equation 7, for Taylor (of activations in the paper); Li et al. 2017, arXiv 1608.08710, for magnitude
        (absolute values in the paper).
    """
    criterion = choice(Criterion, criterion, "criterion")
    if criterion.reads_gradients and all(parameter.grad is None for parameter in model.parameters()):
        raise ValueError(
            f"{criterion.value} reads gradients, and no parameter has one: call backward() on a loss first, or take "
            f"{Criterion.MAGNITUDE.value!r}"
        )
    if criterion is Criterion.RANDOM:
        generator = torch.Generator().manual_seed(seed)
        sizes = _sum_over_units(model, lambda weight: torch.zeros_like(weight))
        return {unit: torch.rand(zeros.shape, generator=generator) for unit, zeros in sizes.items()}
    importances: dict[Criterion, Callable[[Tensor], Tensor]] = {
        Criterion.SENSITIVITY: lambda weight: _first_order(weight).abs(),
        Criterion.TAYLOR: _first_order,
        Criterion.MAGNITUDE: torch.square,
    }
    scores = _sum_over_units(model, importances[criterion])
    return {unit: values.abs() for unit, values in scores.items()} if criterion is Criterion.TAYLOR else scores


def _first_order(weight: Tensor) -> Tensor:
    return torch.zeros_like(weight) if weight.grad is None else weight * weight.grad


def _sum_over_units(model: PreTrainedModel, importance: Callable[[Tensor], Tensor]) -> Scores:
    weights = dict(model.named_parameters())
    scores: Scores = {}
    with torch.no_grad():
        values = {name: importance(weight).float() for name, weight in weights.items()}
    for unit in units_of(model):
        if unit.parameter not in values:  # another name of a tied parameter
            continue
        value, key = unit.of(values[unit.parameter]), (unit.axis, unit.layer)
        sums = value.movedim(unit.dim, 0).reshape(value.shape[unit.dim], -1).sum(dim=-1)  # (entries,)
        scores[key] = scores.get(key, 0) + sums
    return scores


def require_distinct_scores(scores: Scores) -> None:
    """Check that scores can rank units.

    Args:
        scores: The importance scores of all units, as returned by `score`.

    Raises:
        ValueError: A score is not finite, or all scores are 0.
    """
    sums = torch.stack([values.double().abs().sum() for values in scores.values()])
    if not sums.isfinite().all():
        raise ValueError(
            "units cannot be compared: some scores are infinite or NaN, as after a loss that is infinite or NaN"
        )
    if not sums.any():
        raise ValueError("units cannot be compared: all scores are 0, as after a loss without gradients")


def are_rounding_noise(model: PreTrainedModel, scores: Scores) -> bool:
    """Whether scores computed from gradients are 0 or rounding errors, as for a student that still equals its teacher.

    The sum of the scores is about the norm of the gradients times the norm of the weights.

    Args:
        model: The model that the scores were computed for.
        scores: The importance scores of its units, from a criterion that reads gradients.

    Returns:
        True if the sum of all scores is within the rounding errors of float32.
    """
    norm = torch.stack([parameter.detach().float().norm() for parameter in model.parameters()]).norm()
    total = torch.stack([values.float().sum() for values in scores.values()]).sum()
    return bool(total <= _NOISE * norm)


def largest(model: PreTrainedModel, scores: Scores, hidden_size: int, heads: int, neurons: int) -> Keep:
    """Select a given number of units of each kind with the highest importance scores.

    Heads are chosen first, by the sum over their dimensions, then the dimensions inside each kept head. The new head size
    is the hidden size divided by the number of heads.

    Args:
        model: The model that the scores were computed for.
        scores: The importance scores of its units, as returned by `score`.
        hidden_size: The number of residual dimensions to keep, a multiple of the number of heads.
        heads: The number of attention heads to keep in each layer.
        neurons: The number of feed-forward neurons to keep in each layer.

    Returns:
        The units to keep.

    Raises:
        ValueError: The hidden size cannot be divided among the heads, the model has fewer units, or the scores are not
            finite or all 0.
    """
    require_distinct_scores(scores)
    present = model.config.num_attention_heads
    head_size = model.config.hidden_size // present
    if hidden_size % heads or heads > present or hidden_size // heads > head_size:
        raise ValueError(
            f"{hidden_size} dimensions cannot be shared among {heads} heads, of {present} heads of {head_size} dimensions"
        )
    kept_heads, query_key, value, kept_neurons = {}, {}, {}, {}
    for layer in range(model.config.num_hidden_layers):
        by_axis = {axis: scores[axis, layer].unflatten(0, (present, -1)) for axis in (Axis.QUERY, Axis.KEY, Axis.VALUE)}
        kept_heads[layer] = _top(sum(by_axis.values()).sum(dim=-1), heads)
        both = by_axis[Axis.QUERY] + by_axis[Axis.KEY]  # (heads, head size)
        query_key[layer] = [_top(both[head], hidden_size // heads) for head in kept_heads[layer]]
        value[layer] = [_top(by_axis[Axis.VALUE][head], hidden_size // heads) for head in kept_heads[layer]]
        kept_neurons[layer] = _top(scores[Axis.NEURON, layer], neurons)
    return Keep(_top(scores[Axis.HIDDEN, None], hidden_size), kept_heads, query_key, value, kept_neurons)


def leading(scores: Mapping[tuple[Axis, int | None], Tensor]) -> Scores:
    """Scores of the same shapes that rank units by index, so that `largest` keeps the leading ones."""
    return {unit: torch.arange(len(values), 0, -1, dtype=torch.float) for unit, values in scores.items()}


def _top(scores: Tensor, number: int) -> list[int]:
    """The indices of the highest scores, ascending; raises a ValueError if there are fewer scores."""
    if not 0 < number <= len(scores):
        raise ValueError(f"1 to {len(scores)} units can be kept, got {number}")
    return sorted(scores.topk(number).indices.tolist())

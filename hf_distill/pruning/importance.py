"""What each unit of an encoder is worth, and which of them to keep."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum

import torch
from torch import Tensor
from transformers import PreTrainedModel

from hf_distill.pruning.compaction import Keep
from hf_distill.pruning.structure import Axis, units_of
from hf_distill.text.suggestions import choice

# Where the sum of all scores is no larger than this times the norm of the weights, gradients are rounding errors of float32.
_NOISE = 64 * torch.finfo(torch.float32).eps

# By axis and layer (None for the residual stream) one number per entry of that axis: (hidden,), (heads · head size,) or
# (neurons,).
Scores = dict[tuple[Axis, int | None], Tensor]


class Criterion(str, Enum):
    """How much a weight counts; a unit counts for the sum over the weights it owns."""

    SENSITIVITY = "sensitivity"
    TAYLOR = "taylor"
    MAGNITUDE = "magnitude"
    RANDOM = "random"

    @property
    def reads_gradients(self) -> bool:
        """Whether there must have been a backward pass."""
        return self in (Criterion.SENSITIVITY, Criterion.TAYLOR)


def score(model: PreTrainedModel, criterion: Criterion | str = Criterion.MAGNITUDE, seed: int = 0) -> Scores:
    """The worth of every unit, from weights and, for sensitivity and Taylor, the gradients there are.

    Sensitivity is Σ |θ ∂L/∂θ|, Taylor |Σ θ ∂L/∂θ|, the change of the loss to first order if all weights were zero at once;
    magnitude is Σ θ².

    Args:
        model: With gradients, where the criterion reads them; parameters without one count nothing.
        criterion: See `Criterion`.
        seed: Of random scores.

    Raises:
        ValueError: The family is not supported, or the criterion reads gradients and there is none.

    Source:
        Liang et al. 2023 (HomoDistil), arXiv 2302.09632, section 3, for sensitivity; Molchanov et al. 2017, arXiv
        1611.06440, equation 7, for Taylor, there of activations; Li et al. 2017, arXiv 1608.08710, for magnitude, there
        with absolute values.
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
    worth = {
        Criterion.SENSITIVITY: lambda weight: _first_order(weight).abs(),
        Criterion.TAYLOR: _first_order,
        Criterion.MAGNITUDE: torch.square,
    }[criterion]
    scores = _sum_over_units(model, worth)
    return {unit: values.abs() for unit, values in scores.items()} if criterion is Criterion.TAYLOR else scores


def _first_order(weight: Tensor) -> Tensor:
    return torch.zeros_like(weight) if weight.grad is None else weight * weight.grad


def _sum_over_units(model: PreTrainedModel, worth: Callable[[Tensor], Tensor]) -> Scores:
    weights, scores = dict(model.named_parameters()), {}
    with torch.no_grad():
        values = {name: worth(weight).float() for name, weight in weights.items()}
    for owned in units_of(model):
        if owned.parameter not in values:  # another name of a tied parameter
            continue
        value, key = values[owned.parameter], (owned.axis, owned.layer)
        sums = value.movedim(owned.dim, 0).reshape(value.shape[owned.dim], -1).sum(dim=-1)  # (entries,)
        scores[key] = scores.get(key, 0) + sums
    return scores


def require_distinct_scores(scores: Scores) -> None:
    """Refuse scores by which units would stay for their place alone.

    Raises:
        ValueError: One is not a finite number, or all are 0.
    """
    sums = torch.stack([values.double().abs().sum() for values in scores.values()])
    if not sums.isfinite().all():
        raise ValueError("units cannot be compared: some scores are infinite or NaN, as after a loss that is")
    if not sums.any():
        raise ValueError("units cannot be compared: all scores are 0, as after a loss without gradients")


def are_rounding_noise(model: PreTrainedModel, scores: Scores) -> bool:
    """Whether scores made of gradients are 0 or no more than rounding errors, as where a student equals its teacher.

    The scores of loss gradients, summed, are about the gradients' norm times that of the weights.
    """
    norm = torch.stack([parameter.detach().float().norm() for parameter in model.parameters()]).norm()
    total = torch.stack([values.float().sum() for values in scores.values()]).sum()
    return bool(total <= _NOISE * norm)


def largest(model: PreTrainedModel, scores: Scores, hidden_size: int, heads: int, neurons: int) -> Keep:
    """The units worth most, so many of each kind; heads that stay share the hidden size among them.

    Heads are chosen first, by the sum over their dimensions, then the dimensions inside each that stays.

    Args:
        model: The model the scores are of.
        scores: As `score` gives them.
        hidden_size: Residual dimensions to keep, a multiple of the heads.
        heads: Attention heads to keep in each layer.
        neurons: Feed-forward neurons to keep in each layer.

    Raises:
        ValueError: The hidden size cannot be shared among the heads, the model has fewer units, or the scores do not tell
            them apart.
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
    """Scores of the same shape by which the first units are worth most."""
    return {unit: torch.arange(len(values), 0, -1, dtype=torch.float) for unit, values in scores.items()}


def _top(scores: Tensor, number: int) -> list[int]:
    """Indices of the highest scores, ascending.

    Raises:
        ValueError: There are fewer.
    """
    if not 0 < number <= len(scores):
        raise ValueError(f"1 to {len(scores)} units can be kept, got {number}")
    return sorted(scores.topk(number).indices.tolist())

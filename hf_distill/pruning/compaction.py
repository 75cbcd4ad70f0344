"""An encoder without some of its units: smaller matrices, not masked ones."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from hf_distill.pruning.structure import Axis, units_of

FEED_FORWARD_NAMES = ("intermediate_size", "hidden_dim")

# What torch's optimizers call averages of squared gradients; all else of a parameter's shape is an average of gradients.
_OF_SQUARES = ("exp_avg_sq", "max_exp_avg_sq", "square_avg", "sum")


@dataclass(frozen=True)
class Keep:
    """The units that stay, by their indices; of what is not named all stay.

    Attributes:
        hidden: Dimensions of the residual stream.
        heads: Attention heads of each layer, equally many in all.
        query_key_dims: Dimensions of queries and keys of each layer, one list per head that stays, equally many in all.
        value_dims: The same of values; as many as of queries and keys.
        neurons: Feed-forward neurons of each layer, equally many in all.
    """

    hidden: Sequence[int] | None = None
    heads: Mapping[int, Sequence[int]] = field(default_factory=dict)
    query_key_dims: Mapping[int, Sequence[Sequence[int]]] = field(default_factory=dict)
    value_dims: Mapping[int, Sequence[Sequence[int]]] = field(default_factory=dict)
    neurons: Mapping[int, Sequence[int]] = field(default_factory=dict)

    def entries(self, axis: Axis, layer: int | None, heads: int, head_size: int) -> list[int] | None:
        """The entries that stay of a dimension on an axis of a layer; None: all.

        Args:
            axis: The axis.
            layer: The layer; None for the residual stream.
            heads: Heads before.
            head_size: Dimensions per head before.
        """
        if axis is Axis.HIDDEN:
            return None if self.hidden is None else list(self.hidden)
        if axis is Axis.NEURON:
            return list(self.neurons[layer]) if layer in self.neurons else None
        dims = (self.value_dims if axis is Axis.VALUE else self.query_key_dims).get(layer)
        if layer not in self.heads and dims is None:
            return None
        kept_heads = list(self.heads.get(layer, range(heads)))
        dims = [range(head_size)] * len(kept_heads) if dims is None else dims
        if len(dims) != len(kept_heads):
            raise ValueError(f"layer {layer} keeps {len(kept_heads)} heads, but dimensions are given for {len(dims)}")
        return [head * head_size + dim for head, of_head in zip(kept_heads, dims, strict=True) for dim in of_head]


def compact(model: PreTrainedModel, keep: Keep) -> PreTrainedModel:
    """A stock model of the units that stay.

    Where heads keep fewer dimensions, queries are multiplied by √(new / old head size), so that attention, which divides by
    the root of the head size, scores as before.

    Args:
        model: Left unchanged.
        keep: What stays.

    Returns:
        A new model of the same class with a config of the new sizes, in the same mode and precision.

    Raises:
        ValueError: The family is not supported, or no config can say these sizes.
    """
    smaller = type(model)._from_config(_narrowed(model.config, keep), dtype=model.dtype)
    tied = set(getattr(smaller, "all_tied_weights_keys", {}))
    weights = {name: tensor for name, tensor in model.state_dict().items() if name not in tied}
    smaller.load_state_dict(_narrowed_weights(model, keep, smaller.config, weights), strict=False)
    smaller.tie_weights()
    return smaller.to(model.device).train(model.training)


def compact_in_place(model: PreTrainedModel, keep: Keep, optimizer: torch.optim.Optimizer | None = None) -> None:
    """The same model with smaller matrices: every parameter stays the object it is, and so does its optimizer.

    Gradients, and the optimizer's state of the parameters' shape (AdamW's moments), are cut as the parameters are, and those of
    queries that are multiplied by s are divided by s, squares by s². Graphs of earlier steps expect gradients of the old
    shapes; those of compiled models wait for `gc.collect()`.

    Args:
        model: Its parameters, sizes and config change.
        keep: What stays.
        optimizer: Of the model's parameters.

    Raises:
        ValueError: As `compact`.
    """
    smaller = _without_weights(model, keep)
    parameters = dict(model.named_parameters())
    detached = {name: parameter.detach() for name, parameter in parameters.items()}
    weights = _narrowed_weights(model, keep, smaller.config, detached)
    gradients = {name: parameter.grad for name, parameter in parameters.items() if parameter.grad is not None}
    scale = _query_scale(model.config, smaller.config)
    gradients = _scale_queries(model, _cut(model, keep, gradients), 1 / scale)
    if optimizer is not None:
        states = {name: optimizer.state.get(parameter, {}) for name, parameter in parameters.items()}
        for key in {key for state in states.values() for key in state}:
            moments = {name: state[key] for name, state in states.items() if _is_like(state.get(key), detached[name])}
            factor = scale**-2 if key in _OF_SQUARES else 1 / scale
            for name, moment in _scale_queries(model, _cut(model, keep, moments), factor).items():
                states[name][key] = moment
    for name, parameter in parameters.items():
        parameter.grad = None  # a gradient of another shape forbids the change
        parameter.data = weights[name]
        parameter.grad = gradients.get(name)
    for own, new in zip(model.modules(), smaller.modules(), strict=True):
        _take_over_sizes(own, new)
    vars(model.config).update(vars(smaller.config))


def narrowed_parameters(model: PreTrainedModel, keep: Keep) -> int:
    """How many parameters a model of the units that stay has; nothing is computed or allocated.

    Raises:
        ValueError: As `compact`.
    """
    return _without_weights(model, keep).num_parameters()


def feed_forward_size(config: PretrainedConfig) -> int:
    """Neurons of a layer, whatever the family calls them."""
    return next(getattr(config, name) for name in FEED_FORWARD_NAMES if hasattr(config, name))


def set_feed_forward_size(config: PretrainedConfig, size: int) -> None:
    """Write the neurons of a layer where the family has them."""
    setattr(config, next(name for name in FEED_FORWARD_NAMES if hasattr(config, name)), size)


def _without_weights(model: PreTrainedModel, keep: Keep) -> PreTrainedModel:
    """The modules of the narrower model, which take no memory and no random numbers."""
    with torch.device("meta"):
        return type(model)._from_config(_narrowed(model.config, keep), dtype=model.dtype)


def _narrowed_weights(
    model: PreTrainedModel, keep: Keep, config: PretrainedConfig, weights: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Some of the model's weights as the model of the narrower config has them."""
    return _scale_queries(model, _cut(model, keep, weights), _query_scale(model.config, config))


def _query_scale(before: PretrainedConfig, after: PretrainedConfig) -> float:
    """s, by which queries are multiplied so that attention scores stay."""
    return (_head_size(after) / _head_size(before)) ** 0.5


def _scale_queries(model: PreTrainedModel, tensors: dict[str, Tensor], factor: float) -> dict[str, Tensor]:
    """Tensors by the parameters' names, those of queries multiplied."""
    for owned in units_of(model):
        if factor != 1 and owned.axis is Axis.QUERY and owned.parameter in tensors:
            tensors[owned.parameter] = tensors[owned.parameter] * factor
    return tensors


def _cut(model: PreTrainedModel, keep: Keep, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of parameters' shapes, by the parameters' names, reduced to the entries that stay."""
    cut = dict(tensors)
    heads, head_size = model.config.num_attention_heads, _head_size(model.config)
    for owned in units_of(model):
        entries = keep.entries(owned.axis, owned.layer, heads, head_size)
        if entries is not None and owned.parameter in cut:
            cut[owned.parameter] = _slice(cut[owned.parameter], owned.dim, entries)
    return cut


def _slice(tensor: Tensor, dim: int, entries: list[int]) -> Tensor:
    return tensor.index_select(dim, torch.tensor(entries, device=tensor.device))


def _is_like(value: Any, tensor: Tensor) -> bool:
    return isinstance(value, Tensor) and value.shape == tensor.shape


def _head_size(config: PretrainedConfig) -> int:
    return config.hidden_size // config.num_attention_heads


def _take_over_sizes(own: nn.Module, new: nn.Module) -> None:
    """The plain numbers that a module keeps about itself, such as in_features or the number of heads."""
    for name, value in vars(new).items():
        if isinstance(value, (int, float, tuple)) and not name.startswith("_") and name != "training":
            setattr(own, name, value)


def _narrowed(config: PretrainedConfig, keep: Keep) -> PretrainedConfig:
    config = copy.deepcopy(config)
    layers, present, head_size = config.num_hidden_layers, config.num_attention_heads, _head_size(config)
    heads = _equal_number(keep.heads, layers, present, "heads")
    neurons = _equal_number(keep.neurons, layers, feed_forward_size(config), "neurons")
    sizes = {
        _equal_number({(layer, head): dims for layer, of_layer in given.items() for head, dims in enumerate(of_layer)},
                      [(layer, head) for layer in range(layers) for head in range(heads)], head_size, "dimensions per head")
        for given in (keep.query_key_dims, keep.value_dims)
    }  # fmt: skip
    if len(sizes) > 1:
        raise ValueError(f"queries and keys must keep as many dimensions per head as values, got {sorted(sizes)}")
    size = sizes.pop()
    hidden_size = config.hidden_size if keep.hidden is None else len(keep.hidden)
    if heads * size != hidden_size:
        raise ValueError(
            f"{type(config).__name__} has hidden size = heads · head size; {hidden_size} dimensions and {heads} heads of "
            f"{size} cannot be said. Keep {heads * size} dimensions, or other heads."
        )
    embedding_size = getattr(config, "embedding_size", None)
    if embedding_size == config.hidden_size:
        config.embedding_size = hidden_size
    elif embedding_size == hidden_size:
        raise ValueError(
            f"{type(config).__name__} has no projection where hidden size and embedding size are both {hidden_size}; keep "
            "other than so many dimensions"
        )
    config.hidden_size, config.num_attention_heads = hidden_size, heads
    set_feed_forward_size(config, neurons)
    return config


def _equal_number(kept: Mapping[Any, Sequence[int]], places: int | list, present: int, name: str) -> int:
    places = range(places) if isinstance(places, int) else places
    numbers = {len(kept.get(place, range(present))) for place in places}
    if len(numbers) > 1 or 0 in numbers:
        raise ValueError(f"every layer must keep the same number of {name}, at least 1, got {sorted(numbers)}")
    return numbers.pop()

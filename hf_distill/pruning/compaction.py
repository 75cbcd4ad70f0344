"""Removal of units from an encoder: the result has smaller dense matrices, not masked ones."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from hf_distill.pretrained.origin import initialization_of, note_initialization
from hf_distill.pruning.structure import Axis, keeps_head_size, require_whole_heads, units_of

FEED_FORWARD_NAMES = ("intermediate_size", "hidden_dim")

# The names that torch's optimizers give averages of squared gradients; other state of a parameter's shape is linear in them.
_SECOND_MOMENTS = ("exp_avg_sq", "max_exp_avg_sq", "square_avg", "sum")


@dataclass(frozen=True)
class Keep:
    """The indices of the units to keep; where nothing is given, all units are kept.

    Attributes:
        hidden: Dimensions of the residual stream. None: all.
        heads: Attention heads by layer; every layer must keep the same number.
        query_key_dims: Dimensions of queries and keys by layer, one list per kept head; all of the same length.
        value_dims: Dimensions of values by layer, one list per kept head; as many as of queries and keys.
        neurons: Feed-forward neurons by layer; every layer must keep the same number.
    """

    hidden: Sequence[int] | None = None
    heads: Mapping[int, Sequence[int]] = field(default_factory=dict)
    query_key_dims: Mapping[int, Sequence[Sequence[int]]] = field(default_factory=dict)
    value_dims: Mapping[int, Sequence[Sequence[int]]] = field(default_factory=dict)
    neurons: Mapping[int, Sequence[int]] = field(default_factory=dict)

    def entries(self, axis: Axis, layer: int | None, heads: int, head_size: int) -> list[int] | None:
        """The indices of the entries to keep along a dimension of a parameter.

        Args:
            axis: The kind of unit that the entries belong to.
            layer: The index of the layer; None for the residual stream.
            heads: The number of heads per layer before pruning.
            head_size: The number of dimensions per head before pruning.

        Returns:
            The indices in the order in which they are kept; None: all.

        Raises:
            ValueError: The dimensions are given for another number of heads than are kept.
        """
        if axis is Axis.HIDDEN:
            return None if self.hidden is None else list(self.hidden)
        assert layer is not None  # all other axes are inside a layer
        if axis is Axis.NEURON:
            return list(self.neurons[layer]) if layer in self.neurons else None
        dims = (self.value_dims if axis is Axis.VALUE else self.query_key_dims).get(layer)
        if layer not in self.heads and dims is None:
            return None
        kept_heads = list(self.heads.get(layer, range(heads)))
        dims = [range(head_size)] * len(kept_heads) if dims is None else dims
        if len(dims) != len(kept_heads):
            raise ValueError(f"layer {layer} keeps {len(kept_heads)} heads, but dimensions are given for {len(dims)}")
        return [head * head_size + dim for head, kept in zip(kept_heads, dims, strict=True) for dim in kept]


def compact(model: PreTrainedModel, keep: Keep) -> PreTrainedModel:
    """A stock model of the units that are kept.

    Where heads keep fewer dimensions, queries are multiplied by √(new / old head size). Attention divides by the root of
    the head size, so this keeps the scale of the attention scores.

    Args:
        model: The model to prune; it is not modified.
        keep: The units to keep.

    Returns:
        A new model of the same class with a configuration of the new sizes, in the same mode and precision.

    Raises:
        ValueError: The architecture is not supported, or its configuration cannot express these sizes.
    """
    smaller = type(model)._from_config(_narrowed(model.config, keep), dtype=model.dtype)
    tied = set(getattr(smaller, "all_tied_weights_keys", {}))
    weights = {name: tensor for name, tensor in model.state_dict().items() if name not in tied}
    smaller.load_state_dict(_narrowed_weights(model, keep, smaller.config, weights), strict=False)
    smaller.tie_weights()
    note_initialization(smaller, initialization_of(model))
    return smaller.to(model.device).train(model.training)


def compact_in_place(model: PreTrainedModel, keep: Keep, optimizer: torch.optim.Optimizer | None = None) -> None:
    """Prune a model in place: all parameters remain the same objects, so that their optimizer can be used further.

    Gradients, and optimizer state of a parameter's shape (AdamW's moments), are pruned like the parameters. Where queries
    are multiplied by s, their gradients and first moments are divided by s, and their second moments by s². Autograd
    graphs of earlier steps expect gradients of the old shapes; those of compiled models are freed by `gc.collect()`.

    Args:
        model: The model whose parameters, sizes and configuration are modified.
        keep: The units to keep.
        optimizer: The optimizer of the model's parameters, whose state is modified. None: there is none.

    Raises:
        ValueError: The architecture is not supported, or its configuration cannot express these sizes.
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
            factor = scale**-2 if key in _SECOND_MOMENTS else 1 / scale
            for name, moment in _scale_queries(model, _cut(model, keep, moments), factor).items():
                states[name][key] = moment
    for name, parameter in parameters.items():
        parameter.grad = None  # torch refuses new data while a gradient of the old shape is set
        parameter.data = weights[name]
        parameter.grad = gradients.get(name)
    for module, new in zip(model.modules(), smaller.modules(), strict=True):
        _copy_sizes(module, new)
    vars(model.config).update(vars(smaller.config))


def narrowed_parameters(model: PreTrainedModel, keep: Keep) -> int:
    """Count the parameters of a pruned model without computing or allocating its weights.

    Args:
        model: The model to prune; it is not modified.
        keep: The units to keep.

    Returns:
        The number of parameters of the model that `compact` would return.

    Raises:
        ValueError: The architecture is not supported, or its configuration cannot express these sizes.
    """
    return _without_weights(model, keep).num_parameters()


def feed_forward_size(config: PretrainedConfig) -> int:
    """The number of feed-forward neurons per layer, whatever the architecture names it."""
    return next(getattr(config, name) for name in FEED_FORWARD_NAMES if hasattr(config, name))


def set_feed_forward_size(config: PretrainedConfig, size: int) -> None:
    """Set the number of feed-forward neurons per layer, whatever the architecture names it."""
    setattr(config, next(name for name in FEED_FORWARD_NAMES if hasattr(config, name)), size)


def _without_weights(model: PreTrainedModel, keep: Keep) -> PreTrainedModel:
    """The pruned model on the meta device, which needs no memory and draws no random numbers."""
    with torch.device("meta"):
        return type(model)._from_config(_narrowed(model.config, keep), dtype=model.dtype)


def _narrowed_weights(
    model: PreTrainedModel, keep: Keep, config: PretrainedConfig, weights: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The given weights of the model, by name, as the pruned model of the new configuration has them."""
    return _scale_queries(model, _cut(model, keep, weights), _query_scale(model.config, config))


def _query_scale(before: PretrainedConfig, after: PretrainedConfig) -> float:
    """The factor for queries that compensates for the change of the head size in the attention scores."""
    return (_head_size(after) / _head_size(before)) ** 0.5


def _scale_queries(model: PreTrainedModel, tensors: dict[str, Tensor], factor: float) -> dict[str, Tensor]:
    """Multiply those tensors that belong to query projections; the tensors are given by parameter name."""
    for unit in units_of(model):
        if factor != 1 and unit.axis is Axis.QUERY and unit.parameter in tensors:
            parts = list(tensors[unit.parameter].chunk(unit.parts, unit.dim))
            parts[unit.part] = parts[unit.part] * factor
            tensors[unit.parameter] = torch.cat(parts, unit.dim)
    return tensors


def _cut(model: PreTrainedModel, keep: Keep, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Slice tensors of the parameters' shapes, given by parameter name, to the entries that are kept."""
    cut = dict(tensors)
    heads, head_size = model.config.num_attention_heads, _head_size(model.config)
    for (name, dim), units in groupby(units_of(model), lambda unit: (unit.parameter, unit.dim)):
        if name in cut:
            parts = [
                _slice(unit.of(cut[name]), dim, keep.entries(unit.axis, unit.layer, heads, head_size)) for unit in units
            ]
            cut[name] = parts[0] if len(parts) == 1 else torch.cat(parts, dim)
    return cut


def _slice(tensor: Tensor, dim: int, entries: list[int] | None) -> Tensor:
    return tensor if entries is None else tensor.index_select(dim, torch.tensor(entries, device=tensor.device))


def _is_like(value: Any, tensor: Tensor) -> bool:
    return isinstance(value, Tensor) and value.shape == tensor.shape


def _head_size(config: PretrainedConfig) -> int:
    return config.hidden_size // config.num_attention_heads


def _copy_sizes(module: nn.Module, new: nn.Module) -> None:
    """Copy the numbers that a module keeps as attributes, such as in_features or the number of heads."""
    for name, value in vars(new).items():
        if isinstance(value, (int, float, tuple)) and not name.startswith("_") and name != "training":
            setattr(module, name, value)


def _narrowed(config: PretrainedConfig, keep: Keep) -> PretrainedConfig:
    config = copy.deepcopy(config)
    layers, present, head_size = config.num_hidden_layers, config.num_attention_heads, _head_size(config)
    heads = _equal_number(keep.heads, range(layers), present, "heads")
    neurons = _equal_number(keep.neurons, range(layers), feed_forward_size(config), "neurons")
    sizes = {
        _equal_number({(layer, head): dims for layer, of_layer in given.items() for head, dims in enumerate(of_layer)},
                      [(layer, head) for layer in range(layers) for head in range(heads)], head_size, "dimensions per head")
        for given in (keep.query_key_dims, keep.value_dims)
    }  # fmt: skip
    if len(sizes) > 1:
        raise ValueError(f"queries and keys must keep as many dimensions per head as values, got {sorted(sizes)}")
    size = sizes.pop()
    require_whole_heads(config, size)
    _require_order_of_dimensions(config, keep, head_size)
    hidden_size = config.hidden_size if keep.hidden is None else len(keep.hidden)
    if heads * size != hidden_size:
        raise ValueError(
            f"a {type(config).__name__} requires hidden size = heads · head size, which {hidden_size} dimensions and "
            f"{heads} heads of {size} do not satisfy. Keep {heads * size} dimensions, or other heads."
        )
    embedding_size = getattr(config, "embedding_size", None)
    if embedding_size == config.hidden_size:
        config.embedding_size = hidden_size
    elif embedding_size == hidden_size:
        raise ValueError(
            f"a {type(config).__name__} has no projection where hidden size and embedding size are both {hidden_size}; keep "
            "another number of dimensions"
        )
    config.hidden_size, config.num_attention_heads = hidden_size, heads
    set_feed_forward_size(config, neurons)
    return config


def _require_order_of_dimensions(config: PretrainedConfig, keep: Keep, head_size: int) -> None:
    kept = [list(dims) for of_layer in keep.query_key_dims.values() for dims in of_layer]
    if keeps_head_size(config) and any(dims != list(range(head_size)) for dims in kept):
        raise ValueError(
            f"the dimensions of queries and keys of {config.model_type} models must stay in their order, 0 to "
            f"{head_size - 1}, by which rotary position embeddings turn them"
        )


def _equal_number(kept: Mapping[Any, Sequence[int]], keys: Iterable[Any], present: int, name: str) -> int:
    """The number of units kept under each key, which must be the same; `present` where nothing is given."""
    numbers = {len(kept.get(key, range(present))) for key in keys}
    if len(numbers) > 1 or 0 in numbers:
        raise ValueError(f"every layer must keep the same number of {name}, at least 1, got {sorted(numbers)}")
    return numbers.pop()

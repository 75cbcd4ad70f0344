"""An encoder without some of its units: smaller matrices, not masked ones."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel

from hf_distill.pruning.structure import Axis, units_of

FEED_FORWARD_NAMES = ("intermediate_size", "hidden_dim")


@dataclass(frozen=True)
class Keep:
    """The units that stay, by their indices in ascending order; of what is not named all stay.

    Attributes:
        hidden: Dimensions of the residual stream.
        heads: Attention heads of each layer, equally many in all.
        neurons: Feed-forward neurons of each layer, equally many in all.
    """

    hidden: Sequence[int] | None = None
    heads: Mapping[int, Sequence[int]] = field(default_factory=dict)
    neurons: Mapping[int, Sequence[int]] = field(default_factory=dict)

    def of(self, axis: Axis, layer: int | None) -> Sequence[int] | None:
        """The indices that stay on an axis of a layer; None: all."""
        return (
            self.hidden if axis is Axis.HIDDEN else {Axis.HEAD: self.heads, Axis.NEURON: self.neurons}[axis].get(layer)
        )


def compact(model: PreTrainedModel, keep: Keep) -> PreTrainedModel:
    """A stock model of the units that stay.

    Args:
        model: Left unchanged.
        keep: What stays.

    Returns:
        A new model of the same class with a config of the new sizes, in the same mode and precision.

    Raises:
        ValueError: The family is not supported, or no config can say these sizes.
    """
    config = _narrowed(model.config, keep)
    head_size = model.config.hidden_size // model.config.num_attention_heads
    state = dict(model.state_dict())
    for owned in units_of(model):
        kept = keep.of(owned.axis, owned.layer)
        if kept is not None:
            indices = torch.tensor(kept)
            if owned.axis is Axis.HEAD:
                indices = (indices[:, None] * head_size + torch.arange(head_size)).flatten()
            state[owned.parameter] = _slice(state[owned.parameter], owned.dim, indices)
    smaller = type(model)._from_config(config, dtype=model.dtype)
    tied = set(getattr(smaller, "all_tied_weights_keys", {}))
    smaller.load_state_dict({name: tensor for name, tensor in state.items() if name not in tied}, strict=False)
    smaller.tie_weights()
    return smaller.to(model.device).train(model.training)


def feed_forward_size(config: PretrainedConfig) -> int:
    """Neurons of a layer, whatever the family calls them."""
    return next(getattr(config, name) for name in FEED_FORWARD_NAMES if hasattr(config, name))


def set_feed_forward_size(config: PretrainedConfig, size: int) -> None:
    """Write the neurons of a layer where the family has them."""
    setattr(config, next(name for name in FEED_FORWARD_NAMES if hasattr(config, name)), size)


def _slice(tensor: Tensor, dim: int, indices: Tensor) -> Tensor:
    return tensor.index_select(dim, indices.to(tensor.device))


def _narrowed(config: PretrainedConfig, keep: Keep) -> PretrainedConfig:
    config = copy.deepcopy(config)
    head_size = config.hidden_size // config.num_attention_heads
    heads = _equal_number(keep.heads, config.num_hidden_layers, config.num_attention_heads, "heads")
    neurons = _equal_number(keep.neurons, config.num_hidden_layers, feed_forward_size(config), "neurons")
    hidden_size = config.hidden_size if keep.hidden is None else len(keep.hidden)
    if heads * head_size != hidden_size:
        raise ValueError(
            f"{type(config).__name__} has hidden size = heads · head size; {hidden_size} dimensions and {heads} heads of "
            f"{head_size} cannot be said. Keep {hidden_size // head_size} heads and a multiple of {head_size} dimensions."
        )
    if getattr(config, "embedding_size", None) == config.hidden_size:
        config.embedding_size = hidden_size
    config.hidden_size, config.num_attention_heads = hidden_size, heads
    set_feed_forward_size(config, neurons)
    return config


def _equal_number(kept: Mapping[int, Sequence[int]], layers: int, present: int, name: str) -> int:
    numbers = {len(kept.get(layer, range(present))) for layer in range(layers)}
    if len(numbers) > 1 or 0 in numbers:
        raise ValueError(f"every layer must keep the same number of {name}, at least 1, got {sorted(numbers)}")
    return numbers.pop()

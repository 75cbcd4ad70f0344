"""What each unit of an encoder is worth."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import PreTrainedModel

from hf_distill.pruning.structure import Axis, units_of


def magnitude(model: PreTrainedModel) -> dict[tuple[Axis, int | None], Tensor]:
    """The sum of squares of the weights that each unit owns.

    Returns:
        By axis and layer (None for the residual stream) one score per entry: (hidden,), (heads · head size,) or (neurons,).

    Raises:
        ValueError: The family is not supported.

    Source:
        Li et al. 2017, arXiv 1608.08710, section 3.1, with squares in place of absolute values.
    """
    weights, scores = dict(model.named_parameters()), {}
    for owned in units_of(model):
        if owned.parameter not in weights:  # another name of a tied parameter
            continue
        weight = weights[owned.parameter].detach().float()
        squares = weight.square().movedim(owned.dim, 0).reshape(weight.shape[owned.dim], -1).sum(dim=-1)  # (entries,)
        key = (owned.axis, owned.layer)
        scores[key] = scores.get(key, torch.zeros_like(squares)) + squares
    return scores


def of_heads(scores: dict[tuple[Axis, int | None], Tensor], layer: int, heads: int) -> Tensor:
    """What a layer's heads are worth, (heads,): the sum over their queries, keys and values."""
    entries = sum(scores[axis, layer] for axis in Axis if axis.is_of_heads)  # (heads · head size,)
    return entries.unflatten(0, (heads, -1)).sum(dim=-1)

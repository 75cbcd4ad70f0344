"""Fake int8: a model in training computes with the values that its int8 export will have.

Rounded are, as in `hf_distill.graphs.formats`, the weights of linear layers (per output, symmetric), their inputs (one range
per batch), and embeddings (one range per table). Gradients pass through the rounding, to weights in full precision.
"""

from __future__ import annotations

import copy
from enum import Enum

import torch
from torch import Tensor, nn
from torch.nn import functional

_LEVELS = 255  # from the lowest to the highest value of uint8
_LARGEST = 64  # of weights, see `hf_distill.graphs.formats`
_SMALLEST_SCALE = torch.finfo(torch.float32).tiny  # a tensor of zeros has no range


class Quantization(str, Enum):
    """The number format that a student is trained for."""

    INT8 = "int8"


class Int8Linear(nn.Linear):
    """A linear layer with the weights and inputs that it has in int8."""

    def forward(self, input: Tensor) -> Tensor:
        """The layer's outputs, (..., out_features), of inputs (..., in_features)."""
        return functional.linear(in_range(input, input), per_row(self.weight), self.bias)


class Int8Embedding(nn.Embedding):
    """A table of embeddings with the values that it has in int8."""

    def forward(self, input: Tensor) -> Tensor:
        """The embeddings, (..., embedding_dim), of indices (...); only they are rounded, in the range of the table."""
        return in_range(super().forward(input), self.weight)


_FAKE: dict[type[nn.Module], type[nn.Module]] = {nn.Linear: Int8Linear, nn.Embedding: Int8Embedding}
_EXACT = {fake: exact for exact, fake in _FAKE.items()}


def in_range(values: Tensor, of: Tensor) -> Tensor:
    """Round values to the 256 numbers, zero among them, that divide the range of a tensor evenly.

    Args:
        values: The values to round, of any shape; gradients pass through.
        of: The tensor whose smallest and largest value, and zero, are the range.

    Returns:
        The rounded values, of the same shape and precision.
    """
    low, high = of.detach().float().aminmax()
    low, high = low.clamp(max=0), high.clamp(min=0)
    scale = ((high - low) / _LEVELS).clamp(min=_SMALLEST_SCALE)
    zero = torch.round(-low / scale).to(torch.int32)
    return torch.fake_quantize_per_tensor_affine(values, scale, zero, 0, _LEVELS)


def per_row(weight: Tensor) -> Tensor:
    """Round each row of a matrix to whole multiples, from -64 to 64, of a 64th of its largest absolute value.

    Args:
        weight: The matrix, (outputs, inputs); gradients pass through.

    Returns:
        The rounded matrix, of the same precision.
    """
    scale = (weight.detach().float().abs().amax(dim=1) / _LARGEST).clamp(min=_SMALLEST_SCALE)
    zeros = torch.zeros_like(scale)  # integers would be compared with the bounds, and the device waited for
    return torch.fake_quantize_per_channel_affine(weight, scale, zeros, 0, -_LARGEST, _LARGEST)


def set_quantization(model: nn.Module, quantization: Quantization | None) -> None:
    """Make the linear layers and embeddings of a model fake int8, or exact.

    They stay the same objects with the same parameters, so that optimizers, hooks, checkpoints and what is saved are the same.

    Args:
        model: The model, modified in place.
        quantization: The number format. None: exact.

    Raises:
        ValueError: The model has adapters: an export has their sum with the weights, which no layer computes in training.
    """
    if quantization is not None and getattr(model, "peft_config", None):
        raise ValueError(
            f"quantization {quantization.value!r} needs a student that is trained as a whole, got a {type(model).__name__} with "
            "adapters; merge them first, or set quantization to None"
        )
    classes = _EXACT if quantization is None else _FAKE
    for module in model.modules():
        if type(module) in classes:
            module.__class__ = classes[type(module)]


def exact(model: nn.Module) -> nn.Module:
    """The model itself, or an exact copy of it where it is fake int8."""
    if not any(type(module) in _EXACT for module in model.modules()):
        return model
    model = copy.deepcopy(model)
    set_quantization(model, None)
    return model

"""What stands at padding must not matter: shared by the tests of the losses that compare positions."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from hf_distill.objectives.reduction import mean_over_items

# Padding on the right, a hole, and a row of nothing but padding.
VALID = torch.tensor([[1, 1, 1, 0, 0], [1, 0, 1, 1, 1], [0, 0, 0, 0, 0]], dtype=torch.bool)
ROWS, SEQUENCE = VALID.shape


def random_tensor(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def random_heads(heads: int, head_size: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """(rows, heads, sequence, head size)."""
    return random_tensor(ROWS, heads, SEQUENCE, head_size, seed=seed, dtype=dtype)


def _at_positions(tensor: Tensor) -> Tensor:
    """`VALID` for (rows, sequence, hidden) or (rows, heads, sequence, head size)."""
    return VALID.view(ROWS, *[1] * (tensor.dim() - 3), SEQUENCE, 1)


def assert_padding_is_inert(loss: Callable[..., Tensor], *tensors: Tensor) -> None:
    """The mean over valid positions and its gradient stay when all that stands at padding changes.

    Args:
        loss: The tensors to one value per position.
        tensors: (rows, sequence, hidden) or (rows, heads, sequence, head size).
    """
    noise = [100 * random_tensor(*tensor.shape, seed=9).to(tensor.dtype) for tensor in tensors]
    scrambled = [torch.where(_at_positions(x), x, other) for x, other in zip(tensors, noise, strict=True)]
    zeroed = [torch.where(_at_positions(x), x, 0) for x in tensors]
    expected, *gradients = _value_and_gradients(loss, tensors)
    assert expected > 0
    for changed in (scrambled, zeroed):
        value, *changed_gradients = _value_and_gradients(loss, changed)
        torch.testing.assert_close(value, expected, rtol=1e-12, atol=0)
        for gradient, changed_gradient in zip(gradients, changed_gradients, strict=True):
            assert gradient.isfinite().all()
            assert gradient.any()
            assert not torch.where(_at_positions(gradient), 0, gradient).any()
            torch.testing.assert_close(changed_gradient, gradient, rtol=1e-10, atol=1e-14)


def assert_gradient_is_right(loss: Callable[..., Tensor], *tensors: Tensor) -> None:
    """Against finite differences, in every tensor, of the mean over valid positions."""
    leaves = tuple(tensor.clone().requires_grad_() for tensor in tensors)
    assert torch.autograd.gradcheck(lambda *inputs: mean_over_items(loss(*inputs), VALID), leaves)


def assert_half_precision_is_computed_in_single(loss: Callable[..., Tensor], *tensors: Tensor) -> None:
    for dtype in (torch.bfloat16, torch.float16):
        halves = [tensor.to(dtype) for tensor in tensors]
        values = loss(*halves)
        assert values.dtype == torch.float32
        torch.testing.assert_close(values, loss(*(half.float() for half in halves)), rtol=0, atol=0)


def assert_single_precision_agrees_with_double(loss: Callable[..., Tensor], *tensors: Tensor) -> None:
    singles = [tensor.float() for tensor in tensors]
    expected = loss(*(single.double() for single in singles))
    assert expected.dtype == torch.float64
    torch.testing.assert_close(loss(*singles).double(), expected, rtol=1e-5, atol=1e-6)


def _value_and_gradients(loss: Callable[..., Tensor], tensors: list[Tensor]) -> tuple[Tensor, ...]:
    leaves = [tensor.clone().requires_grad_() for tensor in tensors]
    value = mean_over_items(loss(*leaves), VALID)
    return value.detach(), *torch.autograd.grad(value, leaves)

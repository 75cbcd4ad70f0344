"""DistributedDataParallel around a model whose parameters change shape between two steps."""

from __future__ import annotations

from collections.abc import Callable

from torch.nn.parallel import DistributedDataParallel

_SETTINGS = (
    "device_ids",
    "output_device",
    "broadcast_buffers",
    "find_unused_parameters",
    "gradient_as_bucket_view",
)


def change_wrapped_shapes(wrapper: DistributedDataParallel, change: Callable[[], None]) -> None:
    """Change the shapes of a wrapped model's parameters and register hooks for them.

    Args:
        wrapper: The wrapper; it stays the same object, with hooks for the new parameters.
        change: Function that replaces parameters of the model inside, the same on every process.
    """
    settings = {name: getattr(wrapper, name) for name in _SETTINGS}
    del wrapper.reducer, wrapper.logger  # their hooks expect gradients of the old shapes
    change()
    type(wrapper).__init__(wrapper, wrapper.module, **settings)
    wrapper.train()

"""DistributedDataParallel around a model whose parameters change their shapes between two steps."""

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
    """Let a function change the shapes of a wrapped model's parameters.

    Args:
        wrapper: The wrapper, which is the same object afterwards, with hooks for the new parameters.
        change: Gives the model inside parameters of other shapes, the same on every process.
    """
    settings = {name: getattr(wrapper, name) for name in _SETTINGS}
    del wrapper.reducer, wrapper.logger  # their hooks expect gradients of the old shapes
    change()
    type(wrapper).__init__(wrapper, wrapper.module, **settings)
    wrapper.train()

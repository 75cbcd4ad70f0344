"""DeepSpeed on a CPU, and its engine (ZeRO stage 0, 1 or 2) around a model whose parameters change shape between steps."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

# Attributes of DeepSpeed's optimizers, which wrap torch's: the model's parameters by group, and this process's
# partition of each group's flattened fp32 copies.
_FLAT_PARTS = (("bit16_groups", "single_partition_of_fp32_groups"), ("bf16_groups", "fp32_groups_flat_partition"))
# Attributes of an engine that are preserved when it is initialized again.
_KEPT = ("global_steps", "global_samples", "micro_steps", "skipped_steps", "lr_scheduler", "client_lr_scheduler")

State = dict[str, Any]  # the optimizer state of one parameter: AdamW's moments and step


def default_deepspeed_to_cpu() -> None:
    """On a machine without an accelerator set DS_ACCELERATOR=cpu, unless it is set; else DeepSpeed warns when imported."""
    if not torch.accelerator.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")


def before_steps(engine: Any, condition: Callable[[], bool], callback: Callable[[], None]) -> None:
    """Register a callback that runs before optimizer steps, while parameters have their full, clipped gradients.

    DeepSpeed takes the optimizer step right after the backward pass, and keeps gradients partitioned over processes.

    Args:
        engine: The `deepspeed.DeepSpeedEngine`.
        condition: Whether to run the callback before the next optimizer step, for which gradients have to be gathered;
            the same on all processes.
        callback: The function to call.
    """
    step = engine.step

    def step_after_callback(*args: Any, **kwargs: Any) -> Any:
        if condition():
            with _full_gradients(engine):
                callback()
        return step(*args, **kwargs)

    engine.step = step_after_callback


@contextmanager
def _full_gradients(engine: Any) -> Iterator[None]:
    from deepspeed.utils import safe_get_full_grad

    parameters = [parameter for parameter in engine.module.parameters() if parameter.requires_grad]
    own = [parameter.grad for parameter in parameters]
    try:
        for parameter in parameters:
            full = safe_get_full_grad(parameter)
            parameter.grad = None if full is None else full.to(parameter.dtype, copy=True)
        if engine.gradient_clipping():
            nn.utils.clip_grad_norm_(parameters, engine.gradient_clipping())
        yield
    finally:
        for parameter, gradient in zip(parameters, own, strict=True):
            parameter.grad = gradient


def change_shapes(engine: Any, change: Callable[[torch.optim.Optimizer], None]) -> None:
    """Change the shapes of a model's parameters inside its engine, and initialize the engine again.

    Called on all processes together.

    Args:
        engine: The `deepspeed.DeepSpeedEngine`, which stays the same object with the same settings.
        change: Function that gives parameters and optimizer state new shapes, the same on all processes. It is called
            with torch's optimizer as it would be without an engine: with the model's own parameters, in fp32, and its
            full state.
    """
    module, optimizer = engine.module, engine.basic_optimizer
    groups, weights, states = _full_state(engine)
    kept = {name: getattr(engine, name) for name in _KEPT}
    settings = {
        "config": engine.config,
        "config_class": engine._config,
        "dont_change_device": engine.dont_change_device,
    }
    own_dtypes = {parameter: parameter.dtype for parameter in weights}

    engine.destroy()
    for hook in (engine.module_forward_pre_hook, engine.module_forward_post_hook):
        hook.remove()
    engine.optimizer = None
    for group, parameters in zip(optimizer.param_groups, groups, strict=True):
        group["params"] = parameters
    optimizer.state.clear()
    optimizer.state.update(states)
    for parameter, weight in weights.items():
        parameter.grad, parameter.data = None, weight
    change(optimizer)
    weights, states = {parameter: parameter.detach() for parameter in weights}, dict(optimizer.state)
    for parameter, dtype in own_dtypes.items():
        parameter.data = parameter.data.to(dtype)

    optimizer.state.clear()
    engine.__init__(None, module, optimizer, **settings)
    for name, value in kept.items():
        setattr(engine, name, value)
    _set_full_state(engine, weights, states)


def _full_state(engine: Any) -> tuple[list[list[Any]], dict[nn.Parameter, Tensor], dict[Any, State]]:
    """The model's parameters by optimizer group, their weights in fp32, and their optimizer state."""
    of_basic, flat_parts = engine.basic_optimizer.state, _flat_parts(engine)
    if flat_parts is None:
        copies = _single_copies(engine)
        groups = _groups_of_copies(engine)
        weights = {parameter: copy.detach().clone() for parameter, copy in copies.items()}
        return groups, weights, {parameter: dict(of_basic.get(copy, {})) for parameter, copy in copies.items()}
    _link_states(engine, flat_parts)
    groups, weights, states = [list(group) for group, _ in flat_parts], {}, {}
    for group, flat in flat_parts:
        for parameter in group:
            weights[parameter] = parameter.get_full_hp_param()
            states[parameter] = {
                key: parameter.get_full_hp_param(key) if _has_shape(value, flat) else _copied(value)
                for key, value in of_basic.get(flat, {}).items()
            }
    return groups, weights, states


def _set_full_state(engine: Any, weights: dict[nn.Parameter, Tensor], states: dict[Any, State]) -> None:
    of_basic, flat_parts = engine.basic_optimizer.state, _flat_parts(engine)
    if flat_parts is None:
        for parameter, copy in _single_copies(engine).items():
            copy.data.copy_(weights[parameter])
            of_basic[copy] = states.get(parameter, {})
        return
    for group, flat in flat_parts:
        of_first = states.get(group[0], {})
        of_basic[flat] = {
            key: torch.zeros_like(flat) if _has_shape(value, group[0]) else _copied(value)
            for key, value in of_first.items()
        }
    _link_states(engine, flat_parts)
    for group, _ in flat_parts:
        for parameter in group:
            parameter.set_full_hp_param(weights[parameter])
            for key, value in states.get(parameter, {}).items():
                if _has_shape(value, parameter):
                    parameter.set_full_hp_param(value, key)


def _flat_parts(engine: Any) -> list[tuple[list[Any], Tensor]] | None:
    """Each group's parameters, to which DeepSpeed adds methods, and this process's partition; None without ZeRO."""
    for groups, parts in _FLAT_PARTS:
        if hasattr(engine.optimizer, parts):
            return list(zip(getattr(engine.optimizer, groups), getattr(engine.optimizer, parts), strict=True))
    return None


def _single_copies(engine: Any) -> dict[nn.Parameter, Tensor]:
    """Without ZeRO: the tensor that the optimizer updates for each parameter, the parameter itself or an fp32 copy."""
    copies = [copy for group in engine.basic_optimizer.param_groups for copy in group["params"]]
    return dict(zip([parameter for group in _groups_of_copies(engine) for parameter in group], copies, strict=True))


def _groups_of_copies(engine: Any) -> list[list[nn.Parameter]]:
    groups = getattr(engine.optimizer, "fp16_groups", None)  # DeepSpeed uses this name for bfloat16 too
    return [list(group) for group in groups or (group["params"] for group in engine.basic_optimizer.param_groups)]


def _link_states(engine: Any, flat_parts: list[tuple[list[Any], Tensor]]) -> None:
    """Link every parameter to its part of the flat optimizer state; DeepSpeed 0.19.8 links the first group only."""
    if all(flat in engine.basic_optimizer.state for _, flat in flat_parts):
        engine.optimizer._hp_optimizer_states_linked = False
        engine.optimizer._lazy_init_hp_params_optimizer_state()


def _has_shape(value: Any, like: Tensor) -> bool:
    return isinstance(value, Tensor) and value.shape == like.shape


def _copied(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value


def destroy_engine(engine: Any) -> None:
    """End a DeepSpeed engine, with the hooks that its `destroy` leaves on its module."""
    engine.destroy()
    for hook in (engine.module_forward_pre_hook, engine.module_forward_post_hook):
        hook.remove()

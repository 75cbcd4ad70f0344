"""A DeepSpeed engine (ZeRO 0, 1 or 2) around a model whose parameters change their shapes between two steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

# Of the optimizers with which DeepSpeed wraps torch's: the model's parameters by group, and for each group this process's
# flat part of their fp32 copies.
_FLAT_PARTS = (("bit16_groups", "single_partition_of_fp32_groups"), ("bf16_groups", "fp32_groups_flat_partition"))
# Of an engine that begins anew.
_KEPT = ("global_steps", "global_samples", "micro_steps", "skipped_steps", "lr_scheduler", "client_lr_scheduler")

State = dict[str, Any]  # of one parameter: AdamW's moments and its step


def before_steps(engine: nn.Module, wanted: Callable[[], bool], look: Callable[[], None]) -> None:
    """Call a function just before optimizer steps, when parameters have their whole gradients, clipped.

    DeepSpeed steps as soon as it has gone backward, and keeps parts of gradients apart on every process.

    Args:
        engine: A `deepspeed.DeepSpeedEngine`.
        wanted: Whether to call it before the step at hand, for which gradients are gathered; the same on all processes.
        look: The function.
    """
    step = engine.step

    def step_after_a_look(*args: Any, **kwargs: Any) -> Any:
        if wanted():
            with _whole_gradients(engine):
                look()
        return step(*args, **kwargs)

    engine.step = step_after_a_look


@contextmanager
def _whole_gradients(engine: nn.Module) -> Iterator[None]:
    from deepspeed.utils import safe_get_full_grad

    parameters = [parameter for parameter in engine.module.parameters() if parameter.requires_grad]
    own = [parameter.grad for parameter in parameters]
    try:
        for parameter in parameters:
            whole = safe_get_full_grad(parameter)
            parameter.grad = None if whole is None else whole.to(parameter.dtype, copy=True)
        if engine.gradient_clipping():
            nn.utils.clip_grad_norm_(parameters, engine.gradient_clipping())
        yield
    finally:
        for parameter, gradient in zip(parameters, own, strict=True):
            parameter.grad = gradient


def change_shapes(engine: nn.Module, change: Callable[[torch.optim.Optimizer], None]) -> None:
    """Change a model inside its engine, which then begins anew around it, the same object with the same settings.

    Args:
        engine: A `deepspeed.DeepSpeedEngine`; called on all processes together.
        change: Called with torch's optimizer as if there were no engine: of the model's own parameters, in fp32, with its
            whole state. It gives parameters and state new shapes, the same on all processes.
    """
    module, optimizer = engine.module, engine.basic_optimizer
    groups, weights, states = _whole_state(engine)
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
    _set_whole_state(engine, weights, states)


def _whole_state(engine: nn.Module) -> tuple[list[list[nn.Parameter]], dict[nn.Parameter, Tensor], dict[Any, State]]:
    """The model's parameters by group of the optimizer, their weights in fp32, and their state."""
    of_basic, flat_parts = engine.basic_optimizer.state, _flat_parts(engine)
    if flat_parts is None:
        copies = _single_copies(engine)
        groups = _groups_of_copies(engine)
        weights = {parameter: copy.detach().clone() for parameter, copy in copies.items()}
        return groups, weights, {parameter: dict(of_basic.get(copy, {})) for parameter, copy in copies.items()}
    _link_states(engine)
    groups, weights, states = [list(group) for group, _ in flat_parts], {}, {}
    for group, flat in flat_parts:
        for parameter in group:
            weights[parameter] = parameter.get_full_hp_param()
            states[parameter] = {
                key: parameter.get_full_hp_param(key) if _has_shape(value, flat) else _copied(value)
                for key, value in of_basic.get(flat, {}).items()
            }
    return groups, weights, states


def _set_whole_state(engine: nn.Module, weights: dict[nn.Parameter, Tensor], states: dict[Any, State]) -> None:
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
    _link_states(engine)
    for group, _ in flat_parts:
        for parameter in group:
            parameter.set_full_hp_param(weights[parameter])
            for key, value in states.get(parameter, {}).items():
                if _has_shape(value, parameter):
                    parameter.set_full_hp_param(value, key)


def _flat_parts(engine: nn.Module) -> list[tuple[list[nn.Parameter], Tensor]] | None:
    """By group the model's parameters and this process's flat part of their fp32 copies; None without ZeRO."""
    for groups, parts in _FLAT_PARTS:
        if hasattr(engine.optimizer, parts):
            return list(zip(getattr(engine.optimizer, groups), getattr(engine.optimizer, parts), strict=True))
    return None


def _single_copies(engine: nn.Module) -> dict[nn.Parameter, Tensor]:
    """Without ZeRO: what the optimizer updates for each parameter, itself or a copy in fp32."""
    copies = [copy for group in engine.basic_optimizer.param_groups for copy in group["params"]]
    return dict(zip([parameter for group in _groups_of_copies(engine) for parameter in group], copies, strict=True))


def _groups_of_copies(engine: nn.Module) -> list[list[nn.Parameter]]:
    groups = getattr(engine.optimizer, "fp16_groups", None)  # also of bfloat16
    return [list(group) for group in groups or (group["params"] for group in engine.basic_optimizer.param_groups)]


def _link_states(engine: nn.Module) -> None:
    """Let DeepSpeed find every parameter's part in the flat state. By itself it links the first group only (0.19.8)."""
    if all(flat in engine.basic_optimizer.state for _, flat in _flat_parts(engine)):
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

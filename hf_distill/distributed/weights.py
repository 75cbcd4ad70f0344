"""Gathering of weights that DeepSpeed ZeRO-3 or FSDP2 has sharded over processes.

Functions that gather are called on all processes together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel
from transformers.integrations import deepspeed as integration


@contextmanager
def unsharded_loading() -> Iterator[None]:
    """Create models unsharded within this context, even if `TrainingArguments` have set up ZeRO-3."""
    # transformers 5.23 can unset its DeepSpeed configuration, but not suspend it.
    reference, integration._hf_deepspeed_config_weak_ref = integration._hf_deepspeed_config_weak_ref, None
    try:
        yield
    finally:
        integration._hf_deepspeed_config_weak_ref = reference


@contextmanager
def gathered(model: nn.Module) -> Iterator[None]:
    """Gather the weights of a model sharded by ZeRO-3 within this context, for a forward pass outside of its engine."""
    parts = [parameter for parameter in model.parameters() if _is_zero3(parameter)]
    if not parts:
        yield
        return
    import deepspeed

    with deepspeed.zero.GatheredParameters(parts):
        yield


def is_sharded(model: nn.Module) -> bool:
    """Whether the weights are sharded, so that this process holds only parts of them."""
    return any(_is_zero3(parameter) or isinstance(parameter.data, DTensor) for parameter in model.parameters())


def num_elements(parameter: Tensor) -> int:
    """Number of elements of the full parameter, sharded or not."""
    return cast(Any, parameter).ds_numel if _is_zero3(parameter) else parameter.numel()


def full_state_dict(model: nn.Module) -> dict[str, Tensor]:
    """The full state dict, on every process; gathered onto the CPU if the model is sharded."""
    state = model.state_dict(keep_vars=True)
    if is_sharded(model):
        return {name: _gathered(tensor) for name, tensor in state.items()}
    return {name: tensor.detach() for name, tensor in state.items()}


def load_full_state_dict(model: nn.Module, state: Mapping[str, Tensor], strict: bool = True) -> None:
    """Load a full state dict into a model, sharded or not.

    Args:
        model: The model, which stays sharded if it is.
        state: The full state dict, the same on all processes.
        strict: Whether the state dict must have exactly the model's names; False for a file in which tied weights have
            only one of their names.
    """
    parts = [parameter for parameter in model.parameters() if _is_zero3(parameter)]
    if parts:
        import deepspeed

        with deepspeed.zero.GatheredParameters(parts, modifier_rank=0):
            model.load_state_dict(state, strict=strict)
    elif is_sharded(model):
        from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
        from torch.distributed.fsdp import FSDPModule

        for module in model.modules():
            if isinstance(module, FSDPModule):
                module.reshard()  # a forward pass without a backward pass leaves the outermost module's weights gathered
        set_model_state_dict(model, dict(state), options=StateDictOptions(full_state_dict=True, strict=strict))
    else:
        model.load_state_dict(state, strict=strict)


def gathered_copy(model: nn.Module) -> nn.Module:
    """A copy with gathered weights of a sharded model, or the model itself if it is not sharded.

    Args:
        model: A transformers model, with or without PEFT adapters; any other model is returned itself.

    Returns:
        The copy in the same training mode, or the model.
    """
    wrapper: Any = model
    base = wrapper.get_base_model() if hasattr(model, "get_base_model") else model
    if not (isinstance(base, PreTrainedModel) and is_sharded(model)):
        return model
    state = full_state_dict(model)
    with unsharded_loading():
        copy: Any = type(base)(base.config)
        if base is not model:
            (first, config), *others = wrapper.peft_config.items()
            copy = type(wrapper)(copy, config, first)
            for name, config in others:
                copy.add_adapter(name, config)
            copy.set_adapter(wrapper.active_adapter)
    copy.load_state_dict(state)
    return copy.train(model.training)


def _gathered(tensor: Tensor) -> Tensor:
    if isinstance(tensor, DTensor):
        return tensor.full_tensor().detach().cpu()
    if not _is_zero3(tensor):
        return tensor.detach().cpu()
    import deepspeed

    with deepspeed.zero.GatheredParameters([tensor]):
        return tensor.detach().cpu().clone()


def _is_zero3(parameter: Any) -> bool:
    return hasattr(parameter, "ds_id")

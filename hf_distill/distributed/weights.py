"""Weights in one piece, where DeepSpeed ZeRO-3 or FSDP2 keeps a part of each on every process.

Functions that gather are called on all processes together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel
from transformers.integrations import deepspeed as integration


@contextmanager
def unsharded_loading() -> Iterator[None]:
    """Within it models are made whole, also after `TrainingArguments` with ZeRO-3, which cut up what is made later."""
    # transformers 5.23 can only forget its configuration, not lend it.
    reference, integration._hf_deepspeed_config_weak_ref = integration._hf_deepspeed_config_weak_ref, None
    try:
        yield
    finally:
        integration._hf_deepspeed_config_weak_ref = reference


@contextmanager
def gathered(model: nn.Module) -> Iterator[None]:
    """Within it a model that ZeRO-3 has cut up is whole, for a forward pass outside its engine."""
    parts = [parameter for parameter in model.parameters() if _is_zero3(parameter)]
    if not parts:
        yield
        return
    import deepspeed

    with deepspeed.zero.GatheredParameters(parts):
        yield


def is_sharded(model: nn.Module) -> bool:
    """Whether this process holds only parts of the weights."""
    return any(_is_zero3(parameter) or isinstance(parameter.data, DTensor) for parameter in model.parameters())


def num_elements(parameter: Tensor) -> int:
    """Of the whole parameter."""
    return parameter.ds_numel if _is_zero3(parameter) else parameter.numel()


def full_state_dict(model: nn.Module) -> dict[str, Tensor]:
    """The state dict, in one piece on every process; on the CPU where it was in parts."""
    state = model.state_dict(keep_vars=True)
    if is_sharded(model):
        return {name: _gathered(tensor) for name, tensor in state.items()}
    return {name: tensor.detach() for name, tensor in state.items()}


def load_full_state_dict(model: nn.Module, state: Mapping[str, Tensor], strict: bool = True) -> None:
    """Give a model, in parts or not, the weights of a whole state.

    Args:
        model: Keeps its parts where they are.
        state: The same on all processes.
        strict: Whether it must have the model's names; False where tied weights have one name in a file.
    """
    parts = [parameter for parameter in model.parameters() if _is_zero3(parameter)]
    if parts:
        import deepspeed

        with deepspeed.zero.GatheredParameters(parts, modifier_rank=0):
            model.load_state_dict(state, strict=strict)
    elif is_sharded(model):
        from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict

        set_model_state_dict(model, dict(state), options=StateDictOptions(full_state_dict=True, strict=strict))
    else:
        model.load_state_dict(state, strict=strict)


def gathered_copy(model: nn.Module) -> nn.Module:
    """The model itself, or where it is in parts, of transformers and with PEFT's adapters or without, a copy that is whole."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    if not (isinstance(base, PreTrainedModel) and is_sharded(model)):
        return model
    state = full_state_dict(model)
    with unsharded_loading():
        copy = type(base)(base.config)
        if base is not model:
            (first, config), *others = model.peft_config.items()
            copy = type(model)(copy, config, first)
            for name, config in others:
                copy.add_adapter(name, config)
            copy.set_adapter(model.active_adapter)
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

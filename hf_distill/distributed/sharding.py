"""Shard a teacher's weights over all processes (FSDP2), gathering each layer only while it computes."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

MAX_SHARE_OF_FREE_MEMORY = 0.5


class TeacherSharding(str, Enum):
    """Whether the teacher is sharded over processes or replicated on each."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


def is_to_be_sharded(wanted: str, model: nn.Module, dtype: torch.dtype, device: torch.device) -> bool:
    """Whether a teacher is to be sharded; called on all processes together, with the same result.

    Args:
        wanted: "always", "never", or "auto": shard the teacher if a replica would take more than half of the free GPU
            memory of any process.
        model: The teacher.
        dtype: The precision in which the teacher will run.
        device: The device on which the teacher will run.

    Returns:
        Whether to shard it; always False with a single process.
    """
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return False
    if wanted != "auto" or device.type != "cuda":
        return wanted == "always"
    size = sum(parameter.numel() for parameter in model.parameters()) * dtype.itemsize
    is_too_large = size > MAX_SHARE_OF_FREE_MEMORY * torch.cuda.mem_get_info(device)[0]
    on_each_process = [False] * dist.get_world_size()
    dist.all_gather_object(on_each_process, is_too_large)  # all processes must take the same decision
    return any(on_each_process)


def shard(model: nn.Module, device: torch.device) -> None:
    """Shard a frozen model over all processes with FSDP2, layer by layer, independently of the student's wrapper.

    From then on it runs in inference mode only, on all processes together.

    Args:
        model: The model, which is modified in place.
        device: The device on which the model will run.
    """
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    for module in [*layers_of(model), model]:
        fully_shard(module, mesh=mesh, reshard_after_forward=True)


def layers_of(model: nn.Module) -> Iterator[nn.Module]:
    """The layers of an encoder: the elements of its module lists, since not every model names its layer classes."""
    for part in model.children():
        if isinstance(model, nn.ModuleList) and not isinstance(part, nn.ModuleList):
            yield part
        else:
            yield from layers_of(part)

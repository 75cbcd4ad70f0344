"""Keep a teacher's weights in parts, one on every process, and put a layer together only while it computes."""

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
    """Whether every process holds the whole teacher or a part of it."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


def is_to_be_sharded(wanted: str, model: nn.Module, dtype: torch.dtype, device: torch.device) -> bool:
    """Whether a teacher is kept in parts; asked on all processes together, which get the same answer.

    Args:
        wanted: "always", "never", or "auto": when a replica would take more than half of the GPU memory that is free
            on any process.
        model: The teacher.
        dtype: The precision it will compute in.
        device: Where it will compute.
    """
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return False
    if wanted != "auto" or device.type != "cuda":
        return wanted == "always"
    size = sum(parameter.numel() for parameter in model.parameters()) * dtype.itemsize
    is_too_large = size > MAX_SHARE_OF_FREE_MEMORY * torch.cuda.mem_get_info(device)[0]
    on_each_process = [False] * dist.get_world_size()
    dist.all_gather_object(on_each_process, is_too_large)  # they must do the same
    return any(on_each_process)


def shard(model: nn.Module, device: torch.device) -> None:
    """Cut a frozen model up over all processes (FSDP2), layer by layer, whatever holds the student.

    From then on it answers in inference mode only, on all processes together.

    Args:
        model: Changed in place.
        device: Where it will compute.
    """
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    for module in [*layers_of(model), model]:
        fully_shard(module, mesh=mesh, reshard_after_forward=True)


def layers_of(model: nn.Module) -> Iterator[nn.Module]:
    """The layers of an encoder: what its lists of modules hold. Some model classes name theirs, many do not."""
    for part in model.children():
        if isinstance(model, nn.ModuleList) and not isinstance(part, nn.ModuleList):
            yield part
        else:
            yield from layers_of(part)

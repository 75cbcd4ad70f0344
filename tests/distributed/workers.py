"""What worker processes have in common."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed

REPOSITORY = Path(__file__).parents[2]


def on_two_processes(module: str, *arguments: object, timeout: float = 600) -> subprocess.CompletedProcess:
    """Run a module of this folder under torchrun, as `python -m` would."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--rdzv_backend=c10d"]
    command += ["--rdzv_endpoint=127.0.0.1:0", "--module", f"tests.distributed.{module}", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, cwd=REPOSITORY, check=False)


def without_shared_memory_kernel() -> None:
    """Keep DeepSpeed from compiling a kernel for CPUs, which takes a minute; gloo does without."""
    import deepspeed.ops

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


def main_of_worker(work: Callable[[Path], None]) -> None:
    """Call a function with the folder to report into, in which `done` says that all processes came to the end."""
    folder = Path(sys.argv[1])
    torch.set_num_threads(1)
    without_shared_memory_kernel()
    torch.distributed.init_process_group("gloo")
    import deepspeed

    deepspeed.init_distributed("gloo")
    gc.freeze()
    work(folder)
    torch.distributed.barrier()
    if torch.distributed.get_rank() == 0:
        (folder / "done").touch()
    sys.stdout.flush()
    os._exit(0)  # gloo now and then aborts a process group that is torn down while its peer is still at it

"""Runs a script as its launcher would, without what DeepSpeed compiles for CPUs: launched.py script.py arguments."""

import os
import runpy
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch
import torch.distributed

from tests.distributed.workers import without_shared_memory_kernel

torch.set_num_threads(1)
without_shared_memory_kernel()
sys.argv = sorted(sys.argv[1:], key=lambda argument: argument.startswith("--local_rank"))  # deepspeed puts it in front
sys.path.insert(0, str(Path(sys.argv[0]).parent))
runpy.run_path(sys.argv[0], run_name="__main__")
if torch.distributed.is_initialized():
    torch.distributed.barrier()
sys.stdout.flush()
os._exit(0)  # gloo now and then aborts a process group that is torn down while its peer is still at it

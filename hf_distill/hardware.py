"""The name of the hardware, for run records, and whether it is fast in bfloat16."""

from __future__ import annotations

import os
import platform

import torch


def fast_bfloat16(device: torch.device | str) -> bool:
    """Whether matrix products in bfloat16 are faster than in single precision on a device.

    They are on CPUs with AMX instructions: with AVX512-BF16 alone they took 1.8 times as long as in single precision,
    and without either, where bfloat16 is emulated, three times as long. On CUDA devices they are from compute
    capability 8.0 (Ampere).

    Args:
        device: The device to run on.

    Returns:
        Whether bfloat16 is faster.
    """
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        return torch.cpu._is_amx_tile_supported()
    return False


def hardware_name(device: torch.device | str) -> str:
    """The processor's name, with the threads in use of a CPU, such as "NVIDIA H200" or "Intel Xeon (2 of 2 threads)"."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_cpu_name()} ({torch.get_num_threads()} of {os.cpu_count()} threads)"


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()

"""The name of the hardware, for run records and measurements."""

from __future__ import annotations

import os
import platform

import torch


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

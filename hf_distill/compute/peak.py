"""The peak speed of matrix products on this hardware, measured once and stored in the user's cache."""

from __future__ import annotations

import json
import statistics
import time
from pathlib import Path

import torch

from hf_distill.files import atomic_write, read_json
from hf_distill.hardware import hardware_name
from hf_distill.resources.archives import cache_folder

_FILE = "matmul_peaks.json"
_SECONDS = 0.5  # duration of a measurement
_SIZES = {"cuda": (4096, 8192), "cpu": (512, 1024, 2048)}


def measure_peak(device: torch.device | str, dtype: torch.dtype, seconds: float = _SECONDS) -> float:
    """Measure the speed of square matrix products.

    Args:
        device: The device to measure.
        dtype: The data type of the matrices.
        seconds: Duration for which products of each size are repeated, after a warm-up.

    Returns:
        FLOPs per second, the highest median over a few sizes.
    """
    device = torch.device(device)
    return max(_rate(device, dtype, size, seconds) for size in _SIZES.get(device.type, _SIZES["cpu"]))


def _rate(device: torch.device, dtype: torch.dtype, size: int, seconds: float) -> float:
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    result = torch.empty_like(left)

    def product() -> float:
        begin = time.perf_counter()
        torch.mm(left, right, out=result)
        if device.type != "cpu":
            torch.accelerator.synchronize(device)
        return time.perf_counter() - begin

    for _ in range(3):
        product()
    times = [product()]
    while sum(times) < seconds or len(times) < 3:
        times.append(product())
    return 2 * size**3 / statistics.median(times)


def peaks_file() -> Path:
    """The path of the file with measured peaks."""
    return cache_folder() / _FILE


def remember_peak(device: torch.device | str, dtype: torch.dtype, flops_per_second: float) -> None:
    """Store a measured peak for this hardware and number of threads."""
    path, peaks = peaks_file(), _peaks()
    peaks.setdefault(hardware_name(device), {})[_name(dtype)] = flops_per_second
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, json.dumps(peaks, indent=2) + "\n")


def known_peak(device: torch.device | str, dtype: torch.dtype) -> float | None:
    """The stored peak of this hardware and number of threads in FLOPs per second; None if there is none."""
    return _peaks().get(hardware_name(device), {}).get(_name(dtype))


def _peaks() -> dict[str, dict[str, float]]:
    try:
        return read_json(peaks_file(), kind=dict[str, dict[str, float]])
    except (OSError, ValueError):
        return {}


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")

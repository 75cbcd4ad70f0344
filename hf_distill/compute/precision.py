"""Whether bfloat16 is faster than single precision on this hardware, measured once and stored in the user's cache."""

from __future__ import annotations

import json
import os
import time

import torch
from torch import nn

from hf_distill.files import atomic_write, read_json
from hf_distill.files.locking import folder_lock
from hf_distill.hardware import hardware_name
from hf_distill.resources.archives import cache_folder

MIN_SPEEDUP = 1.15  # below it the loss of precision is not worth the time
SPEEDUP_VARIABLE = "HF_DISTILL_BFLOAT16_SPEEDUP"
_FILE = "bfloat16_speedups.json"
_TOKENS, _HIDDEN, _INTERMEDIATE = 1024, 256, 1024  # the feed-forward layers of BERT-Mini, 32 texts of 32 tokens
_WARM_UP, _ROUNDS = 2, 5
_LOCK_SECONDS = 60

_measured: dict[str, float] = {}


def fast_bfloat16(device: torch.device | str) -> bool:
    """Whether a training step in bfloat16 autocast is faster than in single precision on a device.

    CUDA devices say so by their compute capability, 8.0 (Ampere) or higher. CPUs are timed, since those of the same
    instructions differ: see `bfloat16_speedup`.

    Args:
        device: The device to run on.

    Returns:
        Whether bfloat16 is at least `MIN_SPEEDUP` times as fast.
    """
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu" and bfloat16_speedup() >= MIN_SPEEDUP


def bfloat16_speedup() -> float:
    """How many times as fast as single precision this CPU is in bfloat16 autocast, forward and backward.

    Measured on two linear layers within a fraction of a second, once per processor, number of threads and version of
    torch. Processes of one machine share the measurement, so that they train in the same precision.

    Returns:
        Time in single precision divided by time in bfloat16, casts included; 1 for processes that cannot share a
        measurement, because they are on several machines or the cache folder cannot be written. The environment variable
        `HF_DISTILL_BFLOAT16_SPEEDUP` replaces the measurement, for instance on all machines of a cluster.

    Raises:
        ValueError: The environment variable is not a number above 0.
    """
    if told := os.environ.get(SPEEDUP_VARIABLE):
        return _told(told)
    key = f"{hardware_name('cpu')}, torch {torch.__version__}"
    if key not in _measured:
        _measured[key] = _shared_measurement(key)
    return _measured[key]


def _told(text: str) -> float:
    try:
        speedup = float(text)
    except ValueError:
        speedup = 0.0
    if not speedup > 0:
        raise ValueError(f"{SPEEDUP_VARIABLE} must be a number above 0, such as 1, got {text!r}")
    return speedup


def _shared_measurement(key: str) -> float:
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if processes > int(os.environ.get("LOCAL_WORLD_SIZE", processes)):
        return 1.0
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with folder_lock(folder, "measuring the speed of bfloat16", timeout=_LOCK_SECONDS):
            known = _stored()
            if key not in known:
                known[key] = round(_measure(), 3)
                atomic_write(folder / _FILE, json.dumps(known, indent=2) + "\n")
            return known[key]
    except OSError:
        return round(_measure(), 3) if processes == 1 else 1.0


def _stored() -> dict[str, float]:
    try:
        return read_json(cache_folder() / _FILE, kind=dict[str, float])
    except (OSError, ValueError):
        return {}


def _measure() -> float:
    with torch.random.fork_rng(devices=[]):  # the caller's random numbers stay as they were
        layers = nn.Sequential(nn.Linear(_HIDDEN, _INTERMEDIATE), nn.GELU(), nn.Linear(_INTERMEDIATE, _HIDDEN))
        rows = torch.randn(_TOKENS, _HIDDEN)

    def seconds(bfloat16: bool) -> float:
        begin = time.perf_counter()
        with torch.enable_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            layers(rows).float().square().mean().backward()
        return time.perf_counter() - begin

    for _ in range(_WARM_UP):
        seconds(False), seconds(True)
    # In turn, and the best of each, since other processes may use the machine.
    pairs = [(seconds(False), seconds(True)) for _ in range(_ROUNDS)]
    single, half = (min(times) for times in zip(*pairs, strict=True))
    return single / half

"""Latency of models, measured in turn in one process."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PretrainedConfig

from hf_distill.evaluation.formats import Runner

_UNTIMED_MILLISECONDS = 20.0  # at the beginning of each turn
_TURNS, _CONSECUTIVE = 10, 2  # the most turns of a model, and the fewest timed passes in a turn where there are so many

logger = logging.getLogger(__name__)


def measure_latency(
    models: Mapping[str, nn.Module | Runner],
    batch_size: int = 1,
    sequence_length: int = 32,
    runs: int = 30,
    warm_up: int = 5,
    device: torch.device | str = "cpu",
    inputs: Callable[[int, int], Mapping[str, Tensor]] | None = None,
) -> dict[str, dict[str, Any]]:
    """Time the forward pass of models in turn, so that changes of the machine's speed affect all of them alike.

    In each of up to ten turns a model does several passes in a row, as one does that serves requests. The first pass, and
    all in the first 20 milliseconds, are not timed: they find the weights of another model in the caches, and its threads
    still running.

    Args:
        models: The models by name. Modules are moved to the device and must accept `input_ids` and `attention_mask`;
            functions are called with the inputs, see `in_format`.
        batch_size: The number of sequences per forward pass.
        sequence_length: The number of tokens per sequence, without padding.
        runs: The number of timed forward passes per model.
        warm_up: The number of forward passes per model before all that, in its first turn.
        device: The device to run on.
        inputs: A function from batch size and sequence length to new inputs on the device. None: random tokens.

    Returns:
        The measurements by name: `median_ms` and `p95_ms` (milliseconds per pass), `sequences_per_second` at the median,
        and the conditions `batch_size`, `sequence_length`, `runs`, `consecutive` (the most timed passes in a row), `warm_up`,
        `threads` and `device`.
    """
    device = torch.device(device)
    milliseconds: dict[str, list[float]] = {name: [] for name in models}
    runners = {name: _runner(model, device) for name, model in models.items()}
    inputs = inputs or (lambda size, length: random_tokens(_vocabulary_size(models), size, length, device))
    turns = [len(part) for part in np.array_split(np.arange(runs), min(_TURNS, -(-runs // _CONSECUTIVE)))]
    for turn, timed in enumerate(turns):
        for name, run in runners.items():
            one_pass = lambda run=run: _milliseconds(run, inputs(batch_size, sequence_length), device)  # noqa: E731
            for _ in range(0 if turn else warm_up):
                one_pass()
            untimed = one_pass()
            while untimed < _UNTIMED_MILLISECONDS:
                untimed += one_pass()
            milliseconds[name] += [one_pass() for _ in range(timed)]
    return {
        name: {
            "median_ms": round(float(np.median(times)), 3),
            "p95_ms": round(float(np.percentile(times, 95)), 3),
            "sequences_per_second": round(1000 * batch_size / float(np.median(times)), 1),
            "batch_size": batch_size,
            "sequence_length": sequence_length,
            "runs": runs,
            "consecutive": max(turns),
            "warm_up": warm_up,
            "threads": torch.get_num_threads(),
            "device": device.type,
        }
        for name, times in milliseconds.items()
    }


def _milliseconds(run: Runner, batch: Mapping[str, Tensor], device: torch.device) -> float:
    """The time of one forward pass."""
    _wait_for(device)
    start = time.perf_counter()
    run(batch)
    _wait_for(device)
    return 1000 * (time.perf_counter() - start)


def machine_load() -> dict[str, str]:
    """What else the machine does, as a condition of latencies; empty where it does no more than this process can.

    Returns:
        `busy`, the load average of the last minute in words, where more processes want to run than there are processors.
    """
    processors = os.cpu_count() or 1
    try:
        load = os.getloadavg()[0]
    except (AttributeError, OSError):  # not every system tells
        return {}
    if load <= processors + 1:
        return {}
    busy = f"load average {load:.1f} on {processors} processors"
    logger.warning(f"The machine is busy ({busy}): latencies measured now are longer than on an idle one, and vary.")
    return {"busy": busy}


def random_tokens(vocabulary: int, batch_size: int, length: int, device: torch.device | str) -> dict[str, Tensor]:
    """Model inputs of random tokens, (batch, length), without padding."""
    input_ids = torch.randint(vocabulary, (batch_size, length), device=device)
    return {"input_ids": input_ids, "attention_mask": torch.ones_like(input_ids)}


def random_pixels(config: PretrainedConfig, batch_size: int, device: torch.device | str) -> dict[str, Tensor]:
    """Model inputs of random images in the model's image size, (batch, channels, height, width)."""
    height, width = config.image_size if isinstance(config.image_size, (list, tuple)) else (config.image_size,) * 2
    return {"pixel_values": torch.randn(batch_size, config.num_channels, height, width, device=device)}


def _runner(model: nn.Module | Runner, device: torch.device) -> Runner:
    if not isinstance(model, nn.Module):
        return model
    model.to(device).eval()

    def run(inputs: Mapping[str, Tensor]) -> Any:
        with torch.inference_mode():
            return model(**inputs)

    return run


def _vocabulary_size(models: Mapping[str, nn.Module | Runner]) -> int:
    """The smallest vocabulary size, so that all models have the tokens."""
    sizes = [getattr(getattr(model, "config", None), "vocab_size", None) for model in models.values()]
    return min(filter(None, sizes), default=1000)


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)

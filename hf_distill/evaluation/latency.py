"""Measured latency of models, side by side in one run."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn


def measure_latency(
    models: Mapping[str, nn.Module],
    batch_size: int = 1,
    sequence_length: int = 32,
    runs: int = 30,
    warm_up: int = 5,
    device: torch.device | str = "cpu",
) -> dict[str, dict[str, Any]]:
    """Time of one forward pass of each model, in turn, so that a change of the machine's speed meets all of them.

    Args:
        models: Models by name, taking `input_ids` and `attention_mask`.
        batch_size: Sequences per pass.
        sequence_length: Tokens per sequence, none of them padding.
        runs: Timed passes per model.
        warm_up: Passes before, not timed.
        device: Where to run; the models are moved there.

    Returns:
        Per name `median_ms` and `p95_ms` (milliseconds per pass), `sequences_per_second` at the median, and the
        conditions: `batch_size`, `sequence_length`, `runs`, `threads`, `dtype`.
    """
    device = torch.device(device)
    milliseconds: dict[str, list[float]] = {name: [] for name in models}
    for model in models.values():
        model.to(device).eval()
    with torch.inference_mode():
        for turn in range(warm_up + runs):
            for name, model in models.items():
                elapsed = _time_of_one_pass(model, batch_size, sequence_length, device)
                if turn >= warm_up:
                    milliseconds[name].append(elapsed)
    return {
        name: {
            "median_ms": round(float(np.median(times)), 3),
            "p95_ms": round(float(np.percentile(times, 95)), 3),
            "sequences_per_second": round(1000 * batch_size / float(np.median(times)), 1),
            "batch_size": batch_size,
            "sequence_length": sequence_length,
            "runs": runs,
            "threads": torch.get_num_threads(),
            "dtype": str(next(models[name].parameters()).dtype).removeprefix("torch."),
        }
        for name, times in milliseconds.items()
    }


def _time_of_one_pass(model: nn.Module, batch_size: int, sequence_length: int, device: torch.device) -> float:
    vocabulary = getattr(getattr(model, "config", None), "vocab_size", 1000)
    input_ids = torch.randint(vocabulary, (batch_size, sequence_length), device=device)
    attention_mask = torch.ones_like(input_ids)
    _wait_for(device)
    start = time.perf_counter()
    model(input_ids=input_ids, attention_mask=attention_mask)
    _wait_for(device)
    return 1000 * (time.perf_counter() - start)


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)

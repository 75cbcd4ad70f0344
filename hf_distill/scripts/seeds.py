"""What repetitions with other seeds came to; one alone has no deviation."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any


def mean_and_sd(values: Sequence[float]) -> dict[str, float | None]:
    """`mean`, and `sd`, the standard deviation of a sample: None of a single value."""
    return {"mean": statistics.mean(values), "sd": statistics.stdev(values) if len(values) > 1 else None}


def format_percent(entry: Mapping[str, Any]) -> str:
    """The mean of shares, with its deviation if there is one."""
    spread = "" if entry["sd"] is None else f" ± {100 * entry['sd']:.1f}"
    return f"{100 * entry['mean']:.1f}{spread}"


def bars(entries: Sequence[Mapping[str, Any]]) -> tuple[list[float], list[float] | None]:
    """Means and deviations in percent, as a plot takes them."""
    deviations = [entry["sd"] for entry in entries]
    means = [100 * entry["mean"] for entry in entries]
    return means, None if None in deviations else [100 * deviation for deviation in deviations]


def seeds_label(seeds: int) -> str:
    """Of a table's title."""
    return f"mean ± sd over {seeds} seeds" if seeds > 1 else "of one seed"

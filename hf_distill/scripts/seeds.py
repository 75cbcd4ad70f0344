"""Mean and standard deviation of results over seeds; a single seed has no deviation."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any


def mean_and_sd(values: Sequence[float]) -> dict[str, float | None]:
    """The `mean`, and `sd`, the sample standard deviation: None of a single value."""
    return {"mean": statistics.mean(values), "sd": statistics.stdev(values) if len(values) > 1 else None}


def format_percent(entry: Mapping[str, Any]) -> str:
    """The mean of shares in percent, with its deviation if there is one, such as "81.0 ± 1.4"."""
    spread = "" if entry["sd"] is None else f" ± {100 * entry['sd']:.1f}"
    return f"{100 * entry['mean']:.1f}{spread}"


def bars(entries: Sequence[Mapping[str, Any]]) -> tuple[list[float], list[float] | None]:
    """Heights and error bars of a bar plot in percent; no error bars where an entry has no deviation."""
    deviations = [entry["sd"] for entry in entries]
    means = [100 * entry["mean"] for entry in entries]
    return means, None if None in deviations else [100 * deviation for deviation in deviations]


def seeds_label(seeds: int) -> str:
    """Part of a table's title that says over how many seeds its numbers are."""
    return f"mean ± sd over {seeds} seeds" if seeds > 1 else "of one seed"

"""Latency and size in the row of a comparison, in a number format."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def shortest_latency(row: Mapping[str, Any], number_format: str | None = None) -> Mapping[str, Any]:
    """What was measured of the smallest batch and length in a format, by default the row's own; empty if nothing was."""
    wanted = number_format or row.get("format", "fp32")
    found = [each for each in row.get("latency", ()) if each["format"] == wanted]
    return min(found, key=lambda each: (each["batch_size"], each.get("sequence_length") or 0), default={})


def latency_of(row: Mapping[str, Any], number_format: str | None = None, value: str = "median_ms") -> float | None:
    """A latency (ms) of the smallest batch and length measured in a format, by default the row's own; None without one."""
    return shortest_latency(row, number_format).get(value)


def megabytes_of_row(row: Mapping[str, Any], number_format: str | None = None) -> float | None:
    """The size of a model's file in a format (10^6 bytes), by default the row's own; None if it is not known."""
    wanted = number_format or row.get("format", "fp32")
    weights = row.get("megabytes") if wanted == "fp32" else None
    return (row.get("megabytes_by_format") or {}).get(wanted, weights)


def megabytes_text(size: float | None) -> str:
    """A size (10^6 bytes) as text with three digits; "" if it is not known."""
    return "" if size is None else f"{size:.0f}" if size >= 100 else f"{size:.3g}"


def parameters_text(count: int) -> str:
    """A number of parameters as text with its unit, thousands below 100,000 and millions above."""
    return f"{count / 1e3:.0f}k" if count < 1e5 else f"{count / 1e6:.1f}M"

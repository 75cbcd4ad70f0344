"""Students beside their teacher: a table for the terminal and a plot of quality, size and latency."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table


@dataclass(frozen=True)
class ReportRow:
    """One model of a comparison.

    Attributes:
        name: As shown.
        training: How it was trained: "teacher", "labels only" or "distilled".
        accuracy: On the test set, in [0, 1].
        agreement: Share of test examples with the teacher's prediction, in [0, 1]; None for the teacher.
        parameters: Number of parameters.
        latency_ms: Median of one forward pass, milliseconds.
    """

    name: str
    training: str
    accuracy: float
    agreement: float | None
    parameters: int
    latency_ms: float


def report_table(rows: Sequence[ReportRow], title: str) -> Table:
    """A `rich` table of the rows; size and speed also as multiples of the first row, the teacher."""
    table = Table(title=title)
    for heading in ("model", "trained on"):
        table.add_column(heading)
    for heading in ("accuracy %", "agreement %", "parameters", "smaller", "latency ms", "faster"):
        table.add_column(heading, justify="right")
    teacher = rows[0]
    for row in rows:
        table.add_row(
            row.name,
            row.training,
            f"{100 * row.accuracy:.1f}",
            "" if row.agreement is None else f"{100 * row.agreement:.1f}",
            f"{row.parameters / 1e6:.1f}M",
            f"{teacher.parameters / row.parameters:.1f}x",
            f"{row.latency_ms:.2f}",
            f"{teacher.latency_ms / row.latency_ms:.1f}x",
        )
    return table


def report_plot(rows: Sequence[ReportRow], title: str, path: str | os.PathLike) -> Path:
    """Accuracy over latency (log scale), area of a mark in proportion to parameters, written as PNG.

    Both trainings of a student stand above one another, joined by a line: the distance is what distillation brought.
    """
    from matplotlib.figure import Figure  # a figure without pyplot needs no display and keeps no state

    figure = Figure(figsize=(8, 5), dpi=150, layout="constrained")
    axes = figure.subplots()
    colours = {"teacher": "#444444", "labels only": "#e08a1e", "distilled": "#1f6fb2"}
    largest = max(row.parameters for row in rows)
    for training, colour in colours.items():
        found = [row for row in rows if row.training == training]
        axes.scatter(
            [row.latency_ms for row in found],
            [100 * row.accuracy for row in found],
            s=[max(900 * row.parameters / largest, 30) for row in found],
            color=colour, alpha=0.75, edgecolor="white", linewidth=1.5, zorder=3,
        )  # fmt: skip
        axes.scatter([], [], s=60, color=colour, label=training)
    for name in dict.fromkeys(row.name for row in rows):
        same = [row for row in rows if row.name == name]
        latency = sum(row.latency_ms for row in same) / len(same)
        heights = [100 * row.accuracy for row in same]
        axes.plot([row.latency_ms for row in same], heights, color="#999999", linewidth=1, zorder=1)
        label = f"{name}\n{same[0].parameters / 1e6:.1f}M"
        place = dict(xytext=(0, -20), textcoords="offset points", ha="center", va="top")
        axes.annotate(label, (latency, min(heights)), **place)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("{x:g}")
    axes.set_xlabel("latency of one text (ms, median, log scale): left is faster")
    axes.set_ylabel("test accuracy (%)")
    axes.set_title(f"{title}\narea of a mark: parameters")
    axes.margins(x=0.15, y=0.25)
    axes.grid(alpha=0.25)
    figure.legend(loc="outside lower center", ncols=len(colours), frameon=False)
    figure.savefig(path)
    return Path(path)


def shrinking_plot(progress: Sequence[Mapping[str, float]], path: str | os.PathLike) -> Path:
    """Loss, hidden size and time per step of a student that shrinks, over its optimizer steps, written as PNG.

    Args:
        progress: Entries with step, loss, hidden_size and step_ms, in order.
        path: Of the PNG.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 6), dpi=150, layout="constrained")
    steps = [entry["step"] for entry in progress]
    panels = {"loss": "loss", "hidden_size": "hidden size", "step_ms": "ms per step"}
    for axes, (name, label) in zip(figure.subplots(len(panels), sharex=True), panels.items(), strict=True):
        axes.plot(steps, [entry[name] for entry in progress], drawstyle="steps-pre" if name == "hidden_size" else None)
        axes.set_ylabel(label)
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.25)
    axes.set_xlabel("optimizer step")
    figure.savefig(path)
    return Path(path)

"""The plots of a comparison, by quality, size and latency, and of a student that shrinks."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hf_distill.evaluation.label_placement import label_marks
from hf_distill.evaluation.metric_text import data_label, examples_label, is_share, metric_label
from hf_distill.evaluation.row_values import latency_of, parameters_text
from hf_distill.extras import require_extra
from hf_distill.files import replacing
from hf_distill.text.plain import shortened

_COLORS = {"teacher": "#444444", "distilled": "#1f6fb2", "labels only": "#e08a1e", "other": "#7a9a3a"}
_LABELED = 12  # the largest number of marks with their names
_NAME, _METRIC = 50, 50  # the largest numbers of characters of a name and of a metric


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """The Pareto front of points: those for which no other has at most the cost and at least the quality.

    Args:
        points: The cost (lower is better) and the quality (higher is better) of each point.

    Returns:
        The indices of the points on the front, by ascending cost; the first of equal points.
    """
    front: list[int] = []
    for index in sorted(range(len(points)), key=lambda index: (points[index][0], -points[index][1])):
        if not front or points[index][1] > points[front[-1]][1]:
            front.append(index)
    return front


def report_plot(evaluation: Mapping[str, Any], path: str | os.PathLike) -> Path:
    """Plot quality over latency (over parameters if latency was not measured) as a PNG file.

    The area of a mark is proportional to the model's parameters. A line connects the Pareto front: the models for which
    no other is at least as good and at least as fast. Of many models those on the front, the teacher and the student that
    the comparison belongs to are labeled with their names.

    Args:
        evaluation: The comparison, as `compare` returns it.
        path: The path of the PNG file to write.

    Returns:
        The path.
    """
    require_extra("matplotlib", "eval", "the plot of a comparison")
    from matplotlib.figure import Figure  # a figure without pyplot needs no display and keeps no state

    rows, scale = evaluation["rows"], 100 if is_share(evaluation) else 1
    latencies = [latency for row in rows if (latency := latency_of(row))]
    is_timed = len(latencies) == len(rows)
    costs = latencies if is_timed else [max(row["parameters"], 1) / 1e6 for row in rows]
    worths = [scale * row["metrics"][evaluation["metric"]] for row in rows]
    figure = Figure(figsize=(8, 5), dpi=150, layout="constrained")
    axes = figure.subplots()
    shown = [index for index in range(len(rows)) if math.isfinite(costs[index]) and math.isfinite(worths[index])]
    front = [shown[index] for index in pareto_front([(costs[index], worths[index]) for index in shown])]
    line = [costs[index] for index in front], [worths[index] for index in front]
    if len(front) > 1:
        axes.plot(*line, color="#999999", linewidth=1.2, linestyle="--", zorder=1, label="Pareto front")
    _draw_marks(axes, rows, shown, costs, worths)
    _label_axes(axes, evaluation, is_timed)
    if metric_label(evaluation).endswith("%"):
        low, high = axes.get_ylim()
        axes.set_ylim(
            max(low, min([0, *(worths[each] for each in shown)])),
            min(high, max([100, *(worths[each] for each in shown)])),
        )
    figure.legend(loc="outside lower center", ncols=len(_COLORS) + 1, frameon=False)
    figure.canvas.draw()  # places the axes, which the labels are kept inside of
    first = [index for index in shown if index == evaluation.get("this") or rows[index]["role"] == "teacher"]
    names = {index: _name(rows[index]) for index in list(dict.fromkeys([*first, *front, *shown]))[:_LABELED]}
    points = {index: (costs[index], worths[index]) for index in shown}
    label_marks(axes, names, points, {index: _area(rows[index], rows) for index in shown}, front)
    return _saved(figure, path)


def _draw_marks(
    axes: Any, rows: Sequence[Mapping[str, Any]], shown: list[int], costs: list[float], worths: list[float]
) -> None:
    from matplotlib.markers import MarkerStyle

    for role in [each for each in _COLORS if any(rows[index]["role"] == each for index in shown)]:
        axes.scatter([], [], s=60, color=_COLORS[role], label=role)
    for index in shown:
        same = [other for other in shown if (costs[other], worths[other]) == (costs[index], worths[index])]
        # Of two at the same place each is a half, so that none hides the other.
        half = MarkerStyle("o", fillstyle="left" if index == same[0] else "right")
        axes.scatter(
            costs[index], worths[index], s=_area(rows[index], rows), marker=half if len(same) == 2 else "o", clip_on=False,
            color=_COLORS[rows[index]["role"]], alpha=0.75, edgecolor="white", linewidth=1.5, zorder=3,
        )  # fmt: skip


def _area(row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> float:
    """Area of a model's mark in square points."""
    largest = max(1, *(each["parameters"] for each in rows))
    return max(900 * row["parameters"] / largest, 30)


def _label_axes(axes: Any, evaluation: Mapping[str, Any], is_timed: bool) -> None:
    from matplotlib.ticker import LogLocator

    data = evaluation["data"]
    axes.set_xscale("log")
    axes.margins(x=0.18, y=0.2)
    low, high = axes.get_xlim()
    axes.xaxis.set_minor_locator(LogLocator(subs=range(2, 10) if high < 10 * low else (2, 5)))
    for formatter in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        formatter("{x:g}")
    axes.tick_params(which="both", labelsize=9, length=3.5, pad=3.5)
    axes.set_xlabel("latency of one example (ms, median, log scale): left is faster" if is_timed else "parameters (M)")
    axes.set_ylabel(_literal(metric_label(evaluation), _METRIC))
    title = f"{_literal(data_label(data), 60)}: {examples_label(evaluation)}"
    axes.set_title(f"{title}\narea of a mark: parameters", pad=16)  # a mark at 100 % reaches above the axes
    axes.grid(alpha=0.25)


def _name(row: Mapping[str, Any]) -> str:
    return f"{_literal(row['name'], _NAME)}\n{parameters_text(row['parameters'])} {row.get('format', '')}".rstrip()


def _literal(text: str, most: int) -> str:
    """Text shortened to at most so many characters, with dollar signs escaped, so that it is not read as a formula."""
    return shortened(text, most).replace("$", r"\$")


def shrinking_plot(progress: Sequence[Mapping[str, float]], path: str | os.PathLike) -> Path:
    """Plot loss, hidden size and time per step of a student that is pruned in training, as a PNG file.

    Args:
        progress: The log entries in order, with step, loss, hidden_size and step_ms (milliseconds).
        path: The path of the PNG file to write.

    Returns:
        The path.
    """
    require_extra("matplotlib", "eval", "the plot of a student that shrinks")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 6), dpi=150, layout="constrained")
    steps = [entry.get("step", index) for index, entry in enumerate(progress)]
    panels = {"loss": "loss", "hidden_size": "hidden size", "step_ms": "ms per step"}
    for axes, (name, label) in zip(figure.subplots(len(panels), sharex=True), panels.items(), strict=True):
        axes.plot(
            steps,
            [entry.get(name, math.nan) for entry in progress],
            drawstyle="steps-pre" if name == "hidden_size" else None,
        )
        axes.set_ylabel(label)
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.25)
    axes.set_xlabel("optimizer step")
    return _saved(figure, path)


def _saved(figure: Any, path: str | os.PathLike) -> Path:
    with replacing(path) as file:
        figure.savefig(file, format="png")
    return Path(path)

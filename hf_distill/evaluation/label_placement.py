"""Where the names of a plot's marks go, so that they cover neither one another nor the marks and their line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

_DIRECTIONS = 24
_GAPS = (0.3, 1.0, 1.8, 2.8, 4.0, 5.5, 7.5)  # from a mark's edge to its name, in heights of a name
_WITH_LEADER = 0.6  # heights of a name, beyond which a line joins the name and its mark
_ROUNDS = 6
# What it costs to cover a name's area of other names, of marks and their line or outside of the axes; a gap of one
# height; and a leader that crosses other names or marks all the way.
_OF_NAMES, _OF_MARKS, _OUTSIDE, _OF_GAP, _OF_LEADER = 60.0, 40.0, 100.0, 0.15, 2.0
_COLOR, _STEP = "#bbbbbb", 8  # pixels


def label_marks(
    axes: Any,
    texts: Mapping[int, str],
    points: Mapping[int, tuple[float, float]],
    areas: Mapping[int, float],
    line: Sequence[int],
) -> None:
    """Write names beside the marks of a scatter plot.

    Args:
        axes: Axes of a matplotlib figure that was drawn before, which placed them.
        texts: Names by the index of their mark; not every mark has one.
        points: Centers of the marks in data coordinates, by index.
        areas: Areas of the marks in square points, by index.
        line: Indices of the marks that a line joins, in order.
    """
    pixels_per_point = axes.figure.dpi / 72
    centers = {index: axes.transData.transform(point) for index, point in points.items()}
    radii = {index: area**0.5 / 2 * pixels_per_point for index, area in areas.items()}
    style = {"arrowstyle": "-", "color": _COLOR, "shrinkA": 0, "shrinkB": 0}
    labels = [
        axes.annotate(
            text, points[index], (0, 0), textcoords="offset points", fontsize=8, zorder=2, in_layout=False,
            ha="center", va="center", arrowprops=style,
        )
        for index, text in texts.items()
    ]  # fmt: skip
    if not labels:
        return
    own = np.array([centers[index] for index in texts]), np.array([radii[index] for index in texts])
    sizes = np.array([label.get_window_extent().size for label in labels])
    marks = [[*(centers[index] - radii[index]), *(centers[index] + radii[index])] for index in points]
    corners = [centers[index] for index in line]
    margin = sizes[0, 1] / 4 * np.array([1, 1, -1, -1])
    places = place_labels(*own, sizes, np.array(marks), _boxes_of_line(corners), np.array(axes.bbox.extents) + margin)
    for label, center, radius, size, place in zip(labels, *own, sizes, places, strict=True):
        label.set_position((place - center) / pixels_per_point)
        distance = np.hypot(*np.clip(np.abs(place - center) - size / 2, 0, None)) - radius
        label.arrow_patch.set_visible(bool(distance > _WITH_LEADER * size[1]))


def place_labels(
    points: np.ndarray,
    radii: np.ndarray,
    sizes: np.ndarray,
    marks: np.ndarray,
    line: Sequence[np.ndarray],
    bounds: np.ndarray,
) -> np.ndarray:
    """Find a place for every label near its point: first each for itself, then a few rounds with respect to the others.

    Args:
        points: Centers of the marks that are labeled, (labels, 2), in pixels as everything here.
        radii: Radii of these marks, (labels,).
        sizes: Widths and heights of the labels, (labels, 2).
        marks: Boxes of all marks as left, bottom, right, top, (marks, 4).
        line: Boxes that cover the line between the marks, each (4,).
        bounds: Box that the labels should stay in, (4,).

    Returns:
        Centers of the labels, (labels, 2).
    """
    centers, gaps = _candidates(points, radii, sizes)
    boxes = np.concatenate([centers - sizes[:, None] / 2, centers + sizes[:, None] / 2], axis=-1)
    leaders = _leaders(points, radii, boxes)
    area = sizes.prod(axis=-1)[:, None]
    outside = area - _overlap(boxes, bounds)
    covered = sum(_overlap(boxes, each) for each in [*marks, *line])
    crossed = sum(_crossed(leaders, each) for each in marks)
    alone = (_OUTSIDE * outside + _OF_MARKS * covered) / area + _OF_GAP * gaps + _OF_LEADER * crossed
    chosen, rows = alone.argmin(axis=-1), np.arange(len(points))
    for _ in range(_ROUNDS):
        for row in rows:
            others = boxes[rows != row, chosen[rows != row]]
            covered = sum((_overlap(boxes[row], each) for each in others), np.zeros(len(gaps)))
            crossed = sum((_crossed(leaders[row], each) for each in others), np.zeros(len(gaps)))
            chosen[row] = (alone[row] + _OF_NAMES * covered / area[row] + _OF_LEADER * crossed).argmin()
    return centers[rows, chosen]


def _candidates(points: np.ndarray, radii: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centers of boxes around each mark, (labels, candidates, 2), and their gaps in heights, (candidates,)."""
    angles = np.arange(_DIRECTIONS) * 2 * np.pi / _DIRECTIONS
    toward = np.tile(np.stack([np.cos(angles), np.sin(angles)], axis=-1), (len(_GAPS), 1))
    gaps = np.repeat(_GAPS, _DIRECTIONS)
    reach = radii[:, None] + gaps * sizes[:, 1:]  # (labels, candidates)
    half = np.clip(1.5 * toward, -1, 1) * sizes[:, None] / 2  # diagonally the corner of the box is what is nearest
    return points[:, None] + toward * reach[..., None] + half, gaps


def _leaders(points: np.ndarray, radii: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Points on the lines from the edges of the marks to the boxes, (labels, candidates, points, 2)."""
    ends = np.clip(points[:, None], boxes[..., :2], boxes[..., 2:])
    ways = ends - points[:, None]
    starts = points[:, None] + ways * (radii[:, None] / np.maximum(np.hypot(*ways.T).T, 1e-9))[..., None]
    parts = np.linspace(0.3, 1, 6)[:, None]
    return starts[..., None, :] + parts * (ends - starts)[..., None, :]


def _crossed(leaders: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Share of the points of each leader that lies in a box (4,)."""
    return ((leaders > box[:2]) & (leaders < box[2:])).all(axis=-1).mean(axis=-1)


def _overlap(boxes: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Area that each of the boxes (..., 4) shares with one box (4,)."""
    low, high = np.maximum(boxes[..., :2], box[:2]), np.minimum(boxes[..., 2:], box[2:])
    return np.clip(high - low, 0, None).prod(axis=-1)


def _boxes_of_line(corners: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Small boxes along a line through the corners."""
    found = []
    for start, end in pairwise(corners):
        for part in np.linspace(0, 1, 2 + int(np.hypot(*(end - start)) / _STEP)):
            center = start + part * (end - start)
            found.append(np.concatenate([center - _STEP / 2, center + _STEP / 2]))
    return found

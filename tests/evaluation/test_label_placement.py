"""Names beside marks: inside of the axes, and neither over one another nor over a mark."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from hf_distill.evaluation.label_placement import label_marks


def labeled(count: int, seed: int = 0) -> tuple[list[Bbox], list[Bbox], Bbox]:
    """Axes with marks in places drawn at random, each with a name: the boxes of names, marks and axes."""
    draw = np.random.default_rng(seed)
    figure = Figure(figsize=(8, 5), dpi=150)
    axes = figure.subplots()
    axes.set(xlim=(0, 1), ylim=(0, 1))
    points = dict(enumerate(draw.uniform(0.1, 0.9, (count, 2)).tolist()))
    areas = dict(enumerate(draw.uniform(30, 900, count).tolist()))
    figure.canvas.draw()
    label_marks(axes, {index: f"student-{index}\n4.4M" for index in points}, points, areas, line=[0])
    figure.canvas.draw()
    names = [Text.get_window_extent(text) for text in axes.texts]  # that of an annotation is with its line
    radii = {index: area**0.5 / 2 * 150 / 72 for index, area in areas.items()}
    centers = {index: axes.transData.transform(point) for index, point in points.items()}
    marks = [Bbox([centers[index] - radii[index], centers[index] + radii[index]]) for index in points]
    return names, marks, axes.bbox


@pytest.mark.parametrize("count", [1, 3, 8, 20])
def test_names_cover_neither_one_another_nor_marks(count):
    names, marks, bounds = labeled(count)
    assert len(names) == count
    assert all(bounds.x0 <= name.x0 and name.x1 <= bounds.x1 for name in names)
    assert all(bounds.y0 <= name.y0 and name.y1 <= bounds.y1 for name in names)
    assert not [pair for pair in combinations(range(count), 2) if names[pair[0]].overlaps(names[pair[1]])]
    covered = [Bbox.intersection(name, mark) for name in names for mark in marks]
    shares = [box.width * box.height / (names[0].width * names[0].height) for box in covered if box]
    assert max(shares, default=0) < 0.05  # corners of a mark's box, where the round mark is not


def test_a_name_far_from_its_mark_has_a_line_to_it():
    figure = Figure()
    axes = figure.subplots()
    axes.set(xlim=(0, 1), ylim=(0, 1))
    points = dict.fromkeys(range(8), (0.5, 0.5))
    figure.canvas.draw()
    label_marks(axes, {index: f"student-{index}\n4.4M" for index in points}, points, dict.fromkeys(points, 30), [0])
    joined = [text.arrow_patch.get_visible() for text in axes.texts]
    assert True in joined and False in joined


def test_without_names_nothing_is_written():
    axes = Figure().subplots()
    label_marks(axes, {}, {0: (0, 0)}, {0: 30}, [])
    assert not axes.texts

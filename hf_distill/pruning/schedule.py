"""How wide a model is as its training advances."""

from __future__ import annotations

from enum import Enum


class Shrinking(str, Enum):
    """How a size falls from the first event to the last."""

    CUBIC = "cubic"
    LINEAR = "linear"
    ONE_SHOT = "one_shot"


def event_steps(start: int, end: int, events: int) -> list[int]:
    """The optimizer steps after which a model shrinks, evenly spaced.

    Args:
        start: Of the first event, at least 1.
        end: Of the last, at least `start`; equal to it for a single event.
        events: How many.

    Raises:
        ValueError: There are fewer steps than events.
    """
    if events < 1 or start < 1 or end - start + 1 < events:
        raise ValueError(f"{events} events need as many steps from {start} to {end}, each at least 1")
    return [start + round(index * (end - start) / max(events - 1, 1)) for index in range(events)]


def size_at(event: int, events: int, initial: int, target: int, shrinking: Shrinking | str = Shrinking.CUBIC) -> int:
    """The size after an event: target + (initial - target) · (1 - p)³ with p from 1 / events to 1, or linear in p.

    Every event takes something away. In the papers p is 0 at the first event, which leaves the size as it is, and so they are
    one event behind.

    Args:
        event: From 0 to `events` - 1.
        events: How many there are.
        initial: Size before the first.
        target: Size after the last.
        shrinking: Cubic, linear, or all of it at the first event.

    Source:
        Zhu and Gupta 2017, arXiv 1710.01878, equation 1 (of sparsity), for the cubic schedule, which HomoDistil takes over.
    """
    shrinking = Shrinking(shrinking)
    rest = 1 - (event + 1) / events
    left = {Shrinking.CUBIC: rest**3, Shrinking.LINEAR: rest, Shrinking.ONE_SHOT: 0.0}[shrinking]
    return target + round((initial - target) * left)

"""The schedule of pruning: the steps of its events, and the size of the model after each event."""

from __future__ import annotations

from enum import Enum


class Shrinking(str, Enum):
    """The course of a size from the first pruning event to the last."""

    CUBIC = "cubic"
    LINEAR = "linear"
    ONE_SHOT = "one_shot"


def event_steps(start: int, end: int, events: int) -> list[int]:
    """The optimizer steps after which a model is pruned, evenly spaced.

    Args:
        start: The step of the first event, at least 1.
        end: The step of the last event, at least `start`; equal to it for a single event.
        events: The number of events, at least 1.

    Returns:
        The steps, counted from 1, ascending.

    Raises:
        ValueError: There are fewer steps than events.
    """
    if events < 1 or start < 1 or end - start + 1 < events:
        raise ValueError(f"{events} events need as many steps from {start} to {end}, each at least 1")
    return [start + round(index * (end - start) / max(events - 1, 1)) for index in range(events)]


def size_at(event: int, events: int, initial: int, target: int, shrinking: Shrinking | str = Shrinking.CUBIC) -> int:
    """The size after an event: target + (initial - target) · (1 - p)³ with p from 1 / events to 1, or linear in p.

    Every event reduces the size. In the papers p is 0 at the first event, which therefore leaves the size unchanged; the
    sizes here are those of the papers one event later.

    Args:
        event: The index of the event, from 0 to `events` - 1.
        events: The number of events.
        initial: The size before the first event.
        target: The size after the last event.
        shrinking: The course of the size: cubic, linear, or the whole reduction at the first event.

    Returns:
        The size, rounded to an integer.

    Source:
        Zhu and Gupta 2017, arXiv 1710.01878, equation 1 (of sparsity), for the cubic schedule, which HomoDistil adopts.
    """
    shrinking = Shrinking(shrinking)
    rest = 1 - (event + 1) / events
    left = {Shrinking.CUBIC: rest**3, Shrinking.LINEAR: rest, Shrinking.ONE_SHOT: 0.0}[shrinking]
    return target + round((initial - target) * left)

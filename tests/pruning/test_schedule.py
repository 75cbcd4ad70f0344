"""Events and sizes by hand."""

import pytest

from hf_distill.pruning.schedule import event_steps, size_at


def test_events_are_evenly_spaced():
    assert event_steps(10, 50, 5) == [10, 20, 30, 40, 50]
    assert event_steps(7, 7, 1) == [7] and event_steps(3, 5, 3) == [3, 4, 5]
    for wrong in ((3, 4, 3), (0, 5, 2), (1, 5, 0)):
        with pytest.raises(ValueError, match="events need as many steps"):
            event_steps(*wrong)


@pytest.mark.parametrize(
    ("shrinking", "expected"),
    [("cubic", [142, 112, 102, 100]), ("linear", [175, 150, 125, 100]), ("one_shot", [100] * 4)],
)
def test_sizes_fall_to_the_target(shrinking, expected):
    assert [size_at(event, 4, 200, 100, shrinking) for event in range(4)] == expected


def test_the_papers_cubic_schedule_runs_one_event_behind():
    papers = [round(100 + 100 * (1 - event / 4) ** 3) for event in range(5)]
    assert papers == [200, *(size_at(event, 4, 200, 100) for event in range(4))]

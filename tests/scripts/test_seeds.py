"""One seed has no deviation, and none is shown."""

from __future__ import annotations

import pytest

from hf_distill.scripts.seeds import bars, format_percent, mean_and_sd, seeds_label


def test_several_seeds():
    found = mean_and_sd([0.8, 0.82])
    assert found == {"mean": pytest.approx(0.81), "sd": pytest.approx(0.0141421, rel=1e-4)}
    assert format_percent(found) == "81.0 ± 1.4" and seeds_label(2) == "mean ± sd over 2 seeds"
    assert bars([found]) == ([pytest.approx(81.0)], [pytest.approx(1.41421, rel=1e-4)])


def test_one_seed():
    found = mean_and_sd([0.8])
    assert found == {"mean": 0.8, "sd": None} and format_percent(found) == "80.0"
    assert bars([found]) == ([80.0], None) and seeds_label(1) == "of one seed"

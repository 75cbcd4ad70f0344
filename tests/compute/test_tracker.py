"""The account of a training, without a trainer."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hf_distill.compute import tracker as module
from hf_distill.compute.budget import ComputeBudget, RunCost
from hf_distill.compute.tracker import CostTracker
from hf_distill.objectives.objective import Objective
from hf_distill.objectives.terms import hard_label_term
from tests.tiny_models import tiny_bert

OBJECTIVE = Objective([hard_label_term(1.0, ["labels"])])
INPUTS = {"input_ids": torch.ones(2, 8, dtype=torch.long), "attention_mask": torch.ones(2, 8, dtype=torch.long)}


@pytest.fixture
def seconds(monkeypatch) -> list[float]:
    """The time that the tracker reads; a test moves it."""
    now = [0.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])
    return now


def alone(values: Tensor) -> Tensor:
    return values


def started(budget: ComputeBudget, sums=alone, **options) -> CostTracker:
    tracker = CostTracker(sums, **options)
    tracker.start(budget, budget, RunCost())
    tracker.start_clock(None)
    return tracker


def test_steps_and_seconds_add_up(seconds):
    tracker, student = started(ComputeBudget(max_tokens=64)), tiny_bert()
    for step in range(1, 4):
        tracker.add_step(student, (), INPUTS, OBJECTIVE)
        seconds[0] += 2
        tracker.update_share(0.0)
        assert tracker.share == pytest.approx(16 * step / 64)
    tracker.sync()
    assert tracker.total.tokens == 48 and tracker.total.seconds == 6 and not tracker.is_spent
    assert tracker.total.flops == tracker.total.student_flops == 3 * tracker.step_flops
    tracker.sync()
    assert tracker.total.tokens == 48  # nothing is counted twice
    tracker.add_step(student, (), INPUTS, OBJECTIVE)
    tracker.update_share(0.0)
    assert tracker.is_spent


def test_time_between_stop_and_start_does_not_count(seconds):
    tracker = started(ComputeBudget())
    seconds[0] += 1
    tracker.sync()
    seconds[0] += 100  # an evaluation
    tracker.continue_clock()
    seconds[0] += 1
    tracker.sync()
    assert tracker.total.seconds == 2


def test_a_checkpoint_carries_the_account(seconds):
    tracker, student = started(ComputeBudget(max_flops=1e9)), tiny_bert()
    tracker.add_step(student, (), INPUTS, OBJECTIVE)
    tracker.sync()
    again = CostTracker(alone)
    again.start(ComputeBudget(max_flops=1e9), ComputeBudget(max_flops=1e9), RunCost())
    again.start_clock(tracker.state_dict())
    assert again.total == tracker.total and again.stage_start == tracker.stage_start


def test_earlier_cost_counts_in_the_whole_budget_and_not_in_the_stage():
    tracker = CostTracker(alone)
    tracker.previous = RunCost(student_flops=60.0)
    tracker.start(ComputeBudget(max_flops=100.0), ComputeBudget(max_flops=200.0), RunCost(labeling_flops=5.0))
    tracker.update_share(0.0)
    assert tracker.share == 0.0 and tracker.run_share == pytest.approx(0.3)  # labeling is charged once


def test_all_processes_are_summed_and_one_clock_counts(seconds):
    def of_two(values: Tensor) -> Tensor:  # the other process did the same, and has no clock
        other = values.clone()
        other[-1] = 0.0
        return values + other

    tracker = started(ComputeBudget(), of_two)
    tracker.add_step(tiny_bert(), (), INPUTS, OBJECTIVE)
    seconds[0] += 3
    tracker.sync()
    assert tracker.total.tokens == 32 and tracker.total.seconds == 3
    without_clock = started(ComputeBudget(), has_clock=False)
    seconds[0] += 3
    without_clock.sync()
    assert without_clock.total.seconds == 0

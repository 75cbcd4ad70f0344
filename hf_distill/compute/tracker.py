"""Tracks the cost of a training and the share of its budget that is used, independently of Trainer."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hf_distill.compute.budget import ComputeBudget, RunCost
from hf_distill.compute.step_cost import StepCosts
from hf_distill.objectives.objective import Objective


class CostTracker:
    """Adds up the cost of a training over all its processes, stages and interruptions.

    Args:
        sum_over_processes: Function that sums a float64 tensor over all processes; all of them call it together.
        has_clock: Whether this process measures the seconds; one of several processes does.

    Attributes:
        total: The cost until the last `sync`.
        stage_start: The total when the training, or its current stage, started.
        previous: The cost of other trainings and of earlier stages, with which the next training starts.
        budget: The maximum total when the current stage ends.
        run_budget: The maximum total when all stages have ended.
        share: The share of the stage's budget that is used; 1 or more: the stage must end.
        run_share: The share of the whole budget that is used.
        step_costs: The costs that are not yet part of `total`.
        step_flops: FLOPs of the last micro-batch.
        peak_flops: Peak FLOPs per second of all devices together. None: unknown.
    """

    def __init__(self, sum_over_processes: Callable[[Tensor], Tensor], has_clock: bool = True):
        self.total = self.stage_start = self.previous = RunCost()
        self.budget = self.run_budget = ComputeBudget()
        self.share = self.run_share = self.step_flops = 0.0
        self.step_costs = StepCosts()
        self.peak_flops: float | None = None
        self._sum_over_processes, self._has_clock = sum_over_processes, has_clock
        self._logged = RunCost()
        self._started: float | None = None

    def start(self, budget: ComputeBudget, run_budget: ComputeBudget, labeling: RunCost) -> None:
        """Start tracking a training.

        Args:
            budget: The budget of the current stage.
            run_budget: The budget of all stages.
            labeling: The cost of precomputing teacher outputs, charged where `previous` is empty.
        """
        self.budget, self.run_budget = budget, run_budget
        self.total = self.stage_start = self.previous if any(self.previous.values()) else labeling

    def start_clock(self, state: Mapping[str, Mapping[str, float]] | None) -> None:
        """Measure time from now on.

        Args:
            state: The `state_dict` in the checkpoint that is resumed. None: the training starts.
        """
        if state:
            self.total, self.stage_start = (RunCost.from_dict(state[name]) for name in ("total", "stage_start"))
        self.step_costs.forget_shapes()
        self.step_costs.clear()
        self._logged, self._started = self.total, time.perf_counter()

    def stop_clock(self) -> None:
        """Stop measuring time."""
        self._started = None

    def continue_clock(self) -> None:
        """Exclude the time since the last `sync`, such as that of an evaluation."""
        self._started = time.perf_counter()

    def add_step(
        self,
        student: nn.Module,
        members: Sequence[Any],
        inputs: Mapping[str, Any],
        objective: Objective,
        predictions: int | None = None,
    ) -> None:
        """Add the cost of a micro-batch, see `StepCosts.add`."""
        self.step_flops = self.step_costs.add(student, members, inputs, objective, predictions)

    def sync(self) -> None:
        """Update `total`. All processes must call it; it synchronizes with the device."""
        self.total = self._up_to_now(wait=True)
        self.step_costs.clear()
        if self._started is not None:
            self._started = time.perf_counter()

    def update_share(self, share_of_steps: float) -> None:
        """Update `share` and `run_share`. All processes must call it.

        Args:
            share_of_steps: The share of its optimizer steps that the stage has made, which may end it too; 0: unlimited.
        """
        if self.budget:
            cost = self._up_to_now(wait=self.budget.max_tokens is not None)
            self.share = max(self.budget.share_spent(cost, self.stage_start), share_of_steps)
            self.run_share = self.run_budget.share_spent(cost, RunCost())

    @property
    def is_spent(self) -> bool:
        """Whether there is a budget and it is used up."""
        return bool(self.budget) and self.share >= 1

    @property
    def stage_seconds(self) -> float:
        """Seconds of the stage, without evaluations and interruptions."""
        return self.total.seconds - self.stage_start.seconds

    def log_entries(self) -> dict[str, float]:
        """Cost, speed since the last call, and the remaining share of the budget, by log key; called after a `sync`."""
        before, self._logged = self._logged, self.total
        seconds = max(self.total.seconds - before.seconds, 1e-9)
        entries = {
            "spent_flops": self.total.flops,
            "tokens_per_second": (self.total.tokens - before.tokens) / seconds,
        }
        if self.peak_flops:
            entries["flops_utilization"] = (self.total.flops - before.flops) / seconds / self.peak_flops
        if self.budget:
            entries["budget_left"] = max(1 - self.share, 0.0)
        return entries

    def state_dict(self) -> dict[str, dict[str, float]]:
        """The total and the start of the stage, for a checkpoint."""
        return {"total": self.total.as_dict(), "stage_start": self.stage_start.as_dict()}

    def _up_to_now(self, wait: bool) -> RunCost:
        pending = self.step_costs.pending(wait)
        if self._started is not None and self._has_clock:
            pending.seconds = time.perf_counter() - self._started
        values = self._sum_over_processes(torch.tensor(pending.values(), dtype=torch.float64))
        return self.total + RunCost(*values.tolist())

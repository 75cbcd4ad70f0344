"""The account of a training: what it has cost so far, and how much of its budget that is. It knows no Trainer."""

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
        sum_over_processes: Sums a float64 tensor over all processes; all of them call it together.
        has_clock: The seconds of this process count; of several processes one has the clock.

    Attributes:
        total: The cost up to the last `sync`.
        stage_start: The total when the training, or its present stage, started.
        previous: The cost of other trainings and of earlier stages, which the next training starts with.
        budget: What may have been spent when the stage ends.
        run_budget: What may have been spent when all stages have ended.
        share: The part of the stage's budget that is spent; 1 and more: the stage has to end.
        run_share: The part of the whole budget that is spent.
        step_costs: Counts what is not yet in `total`.
        step_flops: FLOPs of the last micro-batch.
        peak_flops: FLOPs per second of which all devices together are capable. None: not known.
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
        """Start the account of a training.

        Args:
            budget: The stage's.
            run_budget: That of all stages.
            labeling: What is charged for labeling the transfer set, where nothing was spent before.
        """
        self.budget, self.run_budget = budget, run_budget
        self.total = self.stage_start = self.previous if any(self.previous.values()) else labeling

    def start_clock(self, state: Mapping[str, Mapping[str, float]] | None) -> None:
        """Let time count from now on.

        Args:
            state: What `state_dict` gave when a checkpoint was written. None: the training starts.
        """
        if state:
            self.total, self.stage_start = (RunCost.from_dict(state[name]) for name in ("total", "stage_start"))
        self.step_costs.forget_shapes()
        self.step_costs.clear()
        self._logged, self._started = self.total, time.perf_counter()

    def stop_clock(self) -> None:
        """Let time count no more."""
        self._started = None

    def continue_clock(self) -> None:
        """Leave out the time since the last `sync`, such as that of an evaluation."""
        self._started = time.perf_counter()

    def add_step(
        self,
        student: nn.Module,
        members: Sequence[Any],
        inputs: Mapping[str, Any],
        objective: Objective,
        predictions: int | None = None,
    ) -> None:
        """Count a micro-batch; see `StepCosts.add`."""
        self.step_flops = self.step_costs.add(student, members, inputs, objective, predictions)

    def sync(self) -> None:
        """Bring `total` up to date. All processes must call it, and the device is waited for."""
        self.total = self._up_to_now(wait=True)
        self.step_costs.clear()
        if self._started is not None:
            self._started = time.perf_counter()

    def update_share(self, share_of_steps: float) -> None:
        """Find out how much of the budgets is spent. All processes must call it.

        Args:
            share_of_steps: The part of its steps that the stage has made, which may end it too; 0: they are not limited.
        """
        if self.budget:
            cost = self._up_to_now(wait=self.budget.max_tokens is not None)
            self.share = max(self.budget.share_spent(cost, self.stage_start), share_of_steps)
            self.run_share = self.run_budget.share_spent(cost, RunCost())

    @property
    def is_spent(self) -> bool:
        """Whether there is a budget and nothing is left of it."""
        return bool(self.budget) and self.share >= 1

    @property
    def stage_seconds(self) -> float:
        """Seconds of the stage, without evaluations and interruptions."""
        return self.total.seconds - self.stage_start.seconds

    def log_entries(self) -> dict[str, float]:
        """Cost, speed since the last call, and what is left of the budget, by name; to be logged after a `sync`."""
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
        """The account, for a checkpoint."""
        return {"total": self.total.as_dict(), "stage_start": self.stage_start.as_dict()}

    def _up_to_now(self, wait: bool) -> RunCost:
        pending = self.step_costs.pending(wait)
        if self._started is not None and self._has_clock:
            pending.seconds = time.perf_counter() - self._started
        values = self._sum_over_processes(torch.tensor(pending.values(), dtype=torch.float64))
        return self.total + RunCost(*values.tolist())

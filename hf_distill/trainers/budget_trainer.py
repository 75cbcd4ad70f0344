"""A trainer that tracks the cost of training, and ends it when a compute budget is used up."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState
from transformers.trainer_utils import TrainOutput

from hf_distill.compute.budget import ComputeBudget, RunCost
from hf_distill.compute.peak import known_peak
from hf_distill.compute.tracker import CostTracker
from hf_distill.tasks import unwrapped
from hf_distill.trainers.base_trainer import BaseTrainer, is_training
from hf_distill.trainers.budget_arguments import BudgetArguments, budget_of, labeling_cost_of
from hf_distill.trainers.callback_state import saved_attributes
from hf_distill.trainers.training_log import group_for_trackers, readable

# Parts of a budget, which serve as steps of learning-rate schedules and of what else changes in the course of a run.
PARTS = 100_000
_ENDLESS = 10**12  # steps of a training that its budget ends


class BudgetTrainer(BaseTrainer):
    """`BaseTrainer` within a compute budget: FLOPs, tokens or seconds (`BudgetArguments`).

    Without `max_steps` the training takes as many epochs as the budget allows; learning rates follow the share that is used.
    With plain `TrainingArguments` nothing is counted, until they are given a budget.

    Args:
        *args: Positional arguments of Trainer.
        **kwargs: Keyword arguments of Trainer.

    Attributes:
        cost_tracker: Tracks the cost of the training and the share of its budget that is used.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.cost_tracker = CostTracker(self.sum_over_processes, has_clock=self.args.process_index == 0)
        self._add_budget_callbacks()

    @property
    def is_plain(self) -> bool:
        """Whether the arguments are plain and hold no budget, so that nothing is counted."""
        return not isinstance(self.args, BudgetArguments) and not budget_of(self.args)

    @property
    def stage_budget(self) -> ComputeBudget:
        """The maximum total cost when the current stage of the training ends."""
        return budget_of(self.args)

    def cost(self) -> dict[str, float]:
        """The cost of the run, over all processes and stages, until the last log or checkpoint, or its end.

        Returns:
            FLOPs of student and teacher, tokens and seconds by name, see `RunCost`.

        Raises:
            ValueError: Nothing is counted, because the arguments are plain `TrainingArguments`.
        """
        if self.is_plain:
            raise ValueError(
                f"without a teacher {type(self.args).__name__} count no cost, as with Trainer: pass "
                "DistillationTrainingArguments"
            )
        return self.cost_tracker.total.as_dict()

    def continue_from(self, cost: Mapping[str, float]) -> None:
        """Add the cost of an earlier training by another trainer to this one, so that budgets cover both.

        Learning rates follow the rest of the budget. To be called before `train`, also before resuming.

        Args:
            cost: The `cost()` of the earlier trainer, including the cost charged for labeling.
        """
        self.cost_tracker.previous = RunCost.from_dict(cost)

    def training_position(self) -> tuple[int, int]:
        """The current and the final position of the training, in optimizer steps, or in parts of its budget."""
        if self.cost_tracker.budget:
            return min(int(self.cost_tracker.share * PARTS), PARTS), PARTS
        return self.state.global_step, self.state.max_steps

    def budget_position(self) -> tuple[int, int]:
        """The parts of the whole budget, over all stages, that are used, and their total number."""
        return min(int(self.cost_tracker.run_share * PARTS), PARTS), PARTS

    def sync_cost(self) -> None:
        """Update the cost; all processes must call it, and it synchronizes with the device."""
        if not self.is_plain:
            self.cost_tracker.sync()
            for callback in self.callback_handler.callbacks:
                if isinstance(callback, CostCallback):
                    callback.cost = self.cost_tracker.state_dict()

    def is_finished(self, state: TrainerState) -> bool:
        """Whether a checkpoint's state is that of a finished run."""
        self._start_account()
        self._start_clock(state)
        steps = self.args.max_steps if self.args.max_steps > 0 else state.max_steps
        return state.global_step >= steps or self.cost_tracker.share >= 1

    def train(self, *args: Any, **kwargs: Any) -> TrainOutput:
        """Trainer's training within the budget; a checkpoint that has used it up is not trained further."""
        self._add_budget_callbacks()  # plain arguments may have been given a budget
        self._start_account()
        return super().train(*args, **kwargs)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | float | None = None,
    ) -> Tensor | tuple[Tensor, Any]:
        """`BaseTrainer`'s loss; the micro-batch's cost is counted."""
        if is_training(model) and not self.is_plain:
            self.cost_tracker.add_step(unwrapped(self.model), (), inputs, self.training_objective)
        return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)

    def get_batch_samples(
        self, epoch_iterator: Iterator, num_batches: int, device: torch.device
    ) -> tuple[list[dict], Tensor | None]:
        """`BaseTrainer`'s; none where the budget is used up, and data of unknown length are repeated until it is."""
        is_spent = self.cost_tracker.is_spent
        batches, num_items = super().get_batch_samples(epoch_iterator, 0 if is_spent else num_batches, device)
        if not batches and is_spent:
            self.control.should_training_stop = True
        elif not batches and self._is_endless():
            self.control.should_epoch_stop = True
        return batches, num_items

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> Any:
        """Trainer's scheduler; under a budget its steps are parts of the budget."""
        if not self.cost_tracker.budget or self.lr_scheduler is not None:
            return super().create_scheduler(num_training_steps, optimizer)
        given = self.args.lr_scheduler_kwargs
        options: dict[str, Any] = dict(given) if isinstance(given, dict) else {}
        self.args.lr_scheduler_kwargs = options | {
            name: round(PARTS * share) for name, share in options.items() if name.endswith("_steps")
        }
        try:
            scheduler = super().create_scheduler(PARTS, optimizer)
        finally:
            self.args.lr_scheduler_kwargs = given
        if isinstance(scheduler, LambdaLR):
            scheduler.lr_lambdas = [
                partial(_at_share, schedule, self.cost_tracker) for schedule in scheduler.lr_lambdas
            ]
        return scheduler

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """FLOPs of the micro-batch just trained on, of student and teacher; Trainer adds them up to `total_flos`."""
        return super().floating_point_ops(inputs) if self.is_plain else cast(int, self.cost_tracker.step_flops)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Trainer's log; training steps also report cost, speed, and the remaining share of the budget."""
        if "loss" in logs and not self.is_plain:
            self.sync_cost()
            logs.update(self.cost_tracker.log_entries())
        if not self.is_plain:
            group_for_trackers(self.callback_handler.callbacks, lambda: self.training_objective)
        super().log(logs, start_time)

    def set_initial_training_values(self, args: TrainingArguments, dataloader: Any) -> tuple:
        """Trainer's; without `max_steps` the budget alone ends the training."""
        if self._is_endless():
            args = copy.copy(args)
            args.max_steps = _ENDLESS
        return super().set_initial_training_values(args, dataloader)

    def _validate_args(self) -> None:
        given = self.args.max_steps
        if budget_of(self.args) and given <= 0:
            self.args.max_steps = _ENDLESS  # data of unknown length need no number of steps where a budget ends them
        try:
            super()._validate_args()
        finally:
            self.args.max_steps = given

    def _evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        self.sync_cost()
        metrics = super()._evaluate(*args, **kwargs)
        self.cost_tracker.continue_clock()
        return metrics

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        self.sync_cost()
        super()._save_checkpoint(model, trial)

    def _finalize_training(self, trial: Any, num_train_samples: float, start_time: float) -> TrainOutput:
        self.sync_cost()
        self.cost_tracker.stop_clock()
        if self._is_endless():
            num_train_samples = self.state.max_steps * self.get_total_train_batch_size(self.args)
        return super()._finalize_training(trial, num_train_samples, start_time)

    def _add_budget_callbacks(self) -> None:
        """Add the callbacks that track the cost, and make logs readable, unless that is done or nothing is counted."""
        if not self.is_plain and not any(isinstance(each, CostCallback) for each in self.callback_handler.callbacks):
            self.add_callback(CostCallback())
            self.add_callback(_BudgetCallback(self))
            readable(self.callback_handler.callbacks)

    def _start_account(self) -> None:
        self.cost_tracker.start(self.stage_budget, budget_of(self.args), labeling_cost_of(self.args))

    def _start_clock(self, state: TrainerState) -> None:
        """Start measuring time, from the cost in a checkpoint's state if there is one."""
        self.cost_tracker.start_clock(saved_attributes(state, CostCallback).get("cost"))
        self._update_share(state.global_step)
        if self.cost_tracker.is_spent:
            state.max_steps = state.global_step
        dtype = torch.bfloat16 if self.args.bf16 else torch.float16 if self.args.fp16 else torch.float32
        peak, devices = known_peak(self.args.device, dtype), self.accelerator.num_processes * max(self.args.n_gpu, 1)
        self.cost_tracker.peak_flops = peak and peak * devices

    def _update_share(self, step: int) -> None:
        self.cost_tracker.update_share(0.0 if self.args.max_steps <= 0 else step / self.args.max_steps)

    def _is_endless(self) -> bool:
        return bool(self.cost_tracker.budget) and self.args.max_steps <= 0


def _at_share(schedule: Callable[[Any], float], tracker: CostTracker, step: int) -> float:
    """A schedule's factor at the share of the budget that is used, whatever the step."""
    return schedule(min(tracker.share, 1.0) * PARTS)


class CostCallback(TrainerCallback, ExportableState):
    """Saves the cost in checkpoints, and restores it from them.

    Attributes:
        cost: The cost tracker's `state_dict`.
    """

    def __init__(self) -> None:
        self.cost: dict[str, dict[str, float]] = {}

    def state(self) -> dict[str, Any]:
        """The content of `trainer_state.json`."""
        return {"args": {}, "attributes": {"cost": self.cost}}


class _BudgetCallback(TrainerCallback):
    def __init__(self, trainer: BudgetTrainer):
        self._trainer = trainer

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._trainer._start_clock(state)
        if self._trainer._is_endless():  # progress bars know no end
            for callback in self._trainer.callback_handler.callbacks:
                if (bar := getattr(callback, "training_bar", None)) is not None:
                    bar.total = None

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Make the step that uses up the budget the last one."""
        self._trainer._update_share(state.global_step + 1)
        if self._trainer.cost_tracker.is_spent:
            state.max_steps = state.global_step + 1

"""A trainer that counts what its training costs, and ends it when a compute budget is spent."""

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

# What is spent of a budget, in parts: the steps of learning-rate schedules, and of what else changes in the course of a run.
PARTS = 100_000
_ENDLESS = 10**12  # steps of a training that its budget ends


class BudgetTrainer(BaseTrainer):
    """`BaseTrainer` within a compute budget: FLOPs, tokens or seconds (`BudgetArguments`).

    Without `max_steps` the training takes as many epochs as the budget allows; learning rates follow the share that is spent.
    With plain `TrainingArguments` nothing is counted, until they are given a budget.

    Args:
        args: The positional arguments of Trainer.
        kwargs: The keyword arguments of Trainer.

    Attributes:
        cost_tracker: The account of the training.
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
        """What may have been spent when the present stage of the training ends."""
        return budget_of(self.args)

    def cost(self) -> dict[str, float]:
        """What the run has cost, over all processes and stages, up to the last log or checkpoint, or to its end.

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
        """Count the cost of an earlier training, of another trainer, to this one: budgets are over both.

        Learning rates follow what is left. To be called before `train`, also to resume.

        Args:
            cost: What `cost()` said there; what is charged for labeling is among it.
        """
        self.cost_tracker.previous = RunCost.from_dict(cost)

    def training_position(self) -> tuple[int, int]:
        """How far the training is, and how far it will be: optimizer steps, or parts of its budget."""
        if self.cost_tracker.budget:
            return min(int(self.cost_tracker.share * PARTS), PARTS), PARTS
        return self.state.global_step, self.state.max_steps

    def budget_position(self) -> tuple[int, int]:
        """How much is spent of the whole budget, over all stages, in parts, and how many there are."""
        return min(int(self.cost_tracker.run_share * PARTS), PARTS), PARTS

    def sync_cost(self) -> None:
        """Bring the account up to date; all processes must call it, and the device is waited for."""
        if not self.is_plain:
            self.cost_tracker.sync()
            for callback in self.callback_handler.callbacks:
                if isinstance(callback, CostCallback):
                    callback.cost = self.cost_tracker.state_dict()

    def is_finished(self, state: TrainerState) -> bool:
        """Whether a checkpoint's state is that of the last step."""
        self._start_account()
        self._start_clock(state)
        steps = self.args.max_steps if self.args.max_steps > 0 else state.max_steps
        return state.global_step >= steps or self.cost_tracker.share >= 1

    def train(self, *args: Any, **kwargs: Any) -> TrainOutput:
        """Trainer's, within the budget; if a checkpoint has spent it, nothing is left to do."""
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
        """`BaseTrainer`'s; the micro-batch's cost is counted."""
        if is_training(model) and not self.is_plain:
            self.cost_tracker.add_step(unwrapped(self.model), (), inputs, self.training_objective)
        return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)

    def get_batch_samples(
        self, epoch_iterator: Iterator, num_batches: int, device: torch.device
    ) -> tuple[list[dict], Tensor | None]:
        """`BaseTrainer`'s; none where the budget is spent, and data of unknown length begin again until it is."""
        is_spent = self.cost_tracker.is_spent
        batches, num_items = super().get_batch_samples(epoch_iterator, 0 if is_spent else num_batches, device)
        if not batches and is_spent:
            self.control.should_training_stop = True
        elif not batches and self._is_endless():
            self.control.should_epoch_stop = True
        return batches, num_items

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> Any:
        """Trainer's; under a budget its steps are parts of the budget."""
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
        """Trainer's log; training steps also say what was spent, how fast, and how much of the budget is left."""
        if "loss" in logs and not self.is_plain:
            self.sync_cost()
            logs.update(self.cost_tracker.log_entries())
        super().log(logs, start_time)

    def set_initial_training_values(self, args: TrainingArguments, dataloader: Any) -> tuple:
        """Trainer's; a budget, where no number of steps is given, is the only end."""
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
        """Add the callbacks that follow the cost, unless they are there or nothing is counted."""
        if not self.is_plain and not any(isinstance(each, CostCallback) for each in self.callback_handler.callbacks):
            self.add_callback(CostCallback())
            self.add_callback(_BudgetCallback(self))

    def _start_account(self) -> None:
        self.cost_tracker.start(self.stage_budget, budget_of(self.args), labeling_cost_of(self.args))

    def _start_clock(self, state: TrainerState) -> None:
        """At the beginning of training, or where a checkpoint left it."""
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
    """A schedule's factor where the budget is spent as far as it is, whatever the step."""
    return schedule(min(tracker.share, 1.0) * PARTS)


class CostCallback(TrainerCallback, ExportableState):
    """Carries the account into checkpoints, and out of them."""

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
        """The step that spends the budget is the last."""
        self._trainer._update_share(state.global_step + 1)
        if self._trainer.cost_tracker.is_spent:
            state.max_steps = state.global_step + 1

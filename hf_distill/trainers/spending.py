"""What a training spends, while it spends it, and its end when the budget does."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from transformers import TrainerCallback, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState
from transformers.trainer_utils import TrainOutput

from hf_distill.compute.budget import ComputeBudget, RunCost
from hf_distill.compute.peak import known_peak
from hf_distill.compute.step_cost import StepCosts
from hf_distill.objectives.objective import Objective
from hf_distill.tasks import unwrapped
from hf_distill.teachers.base import TeacherOutputs
from hf_distill.trainers.budget_arguments import BudgetArguments, budget_of

# What is spent of a budget, in parts: the steps of learning-rate schedules, and of what else changes in the course of a run.
PARTS = 100_000
_ENDLESS = 10**12  # steps of a training that its budget ends


class Spending:
    """The part of `DistillationTrainer` that counts what a run costs and ends it when its budget is spent."""

    def __init__(self, *args: Any, **kwargs: Any):
        self._costs, self._total, self._begun = StepCosts(), RunCost(), RunCost()
        self._earlier = RunCost()  # by other trainers
        self._carried = RunCost()  # by them, and by this one's stages before the present
        self._logged, self._share, self._clock, self._step_flops = RunCost(), 0.0, None, 0.0
        self._share_of_all = 0.0
        self._budget, self._peak = ComputeBudget(), None
        super().__init__(*args, **kwargs)

    def _validate_args(self) -> None:
        given = self.args.max_steps
        if budget_of(self.args) and given <= 0:
            self.args.max_steps = _ENDLESS  # data of unknown length need no number of steps where a budget ends them
        try:
            super()._validate_args()
        finally:
            self.args.max_steps = given

    def _is_trainer(self) -> bool:
        """Whether nothing is added to Trainer: there is no teacher, and the arguments are plain and hold no budget."""
        return self.teacher is None and not isinstance(self.args, BudgetArguments) and not budget_of(self.args)

    def _keep_accounts(self) -> None:
        """Add the callbacks that count what is spent, unless they are there, or nothing is added to Trainer."""
        counts = any(isinstance(callback, SpentCallback) for callback in self.callback_handler.callbacks)
        if not counts and not self._is_trainer():
            self.add_callback(SpentCallback())
            self.add_callback(_FollowTheBudget(self))

    def spent(self) -> dict[str, float]:
        """What the run has cost, over all processes and stages, up to the last log or checkpoint, or to its end.

        Raises:
            ValueError: Nothing is counted, because there is no teacher and the arguments are plain `TrainingArguments`.
        """
        if self._is_trainer():
            raise ValueError(
                f"without a teacher {type(self.args).__name__} count nothing that is spent, as with Trainer: pass "
                "DistillationTrainingArguments"
            )
        return self._total.as_dict()

    def training_seconds(self) -> float:
        """How long the training has taken, over all its interruptions, evaluations and what came before it left out."""
        return self._total.seconds - self._begun.seconds

    def continue_from(self, spent: Mapping[str, float]) -> None:
        """Count what an earlier training, of another trainer, has cost: budgets are over both, and so is what is spent.

        Learning rates follow what is left. To be called before `train`, also to resume.

        Args:
            spent: What `spent()` said there; what is charged for labeling is among it.
        """
        self._earlier = self._carried = RunCost.from_dict(spent)

    def train(self, *args: Any, **kwargs: Any) -> TrainOutput:
        """Trainer's, within the budget; of one that a checkpoint has spent nothing is left to do."""
        self._budget = self._budget_of_stage()
        self._keep_accounts()  # a budget may have come into plain arguments
        flops, seconds = self.args.teacher_labeling_flops, self.args.teacher_labeling_seconds
        labeling = RunCost(labeling_flops=flops or 0.0, seconds=seconds or 0.0)
        self._total = self._begun = self._carried if any(self._carried.values()) else labeling
        self._export()
        return super().train(*args, **kwargs)

    def training_position(self) -> tuple[int, int]:
        """How far the training is, and how far it will be: optimizer steps, or parts of its budget."""
        if self._budget:
            return min(int(self._share * PARTS), PARTS), PARTS
        return self.state.global_step, self.state.max_steps

    def budget_position(self) -> tuple[int, int]:
        """How much is spent of the whole budget, over all stages, in parts, and how many there are."""
        return min(int(self._share_of_all * PARTS), PARTS), PARTS

    def settle(self) -> None:
        """Add up what all processes have spent; they must all call it, and the device is waited for."""
        if self._is_trainer():
            return
        self._total = self._so_far(wait=True)
        self._costs.clear()
        if self._clock is not None:
            self._clock = time.perf_counter()

    def _budget_of_stage(self) -> ComputeBudget:
        return budget_of(self.args)

    def _so_far(self, wait: bool) -> RunCost:
        pending = self._costs.pending(wait)
        if self._clock is not None and self.args.process_index == 0:
            pending.seconds = time.perf_counter() - self._clock
        if self.accelerator.num_processes > 1:
            values = torch.tensor(pending.values(), dtype=torch.float64, device=self.args.device)
            pending = RunCost(*self.accelerator.reduce(values, reduction="sum").tolist())
        return self._total + pending

    def _count_step(
        self,
        inputs: Mapping[str, Any],
        objective: Objective,
        answer: TeacherOutputs | None,
        outputs: Mapping[str, Any],
        picked: bool,
    ) -> None:
        """Called for every micro-batch of training; `picked`: the heads ran at chosen positions."""
        if self._is_trainer():
            return
        teacher = None if answer is None or self._columns_suffice(inputs) else self.teacher
        predictions = len(outputs["logits"]) if picked else None
        self._step_flops = self._costs.add(unwrapped(self.model), teacher, inputs, objective, predictions)

    def _open_accounts(self, state: TrainerState) -> None:
        """At the beginning of training, or where a checkpoint left it."""
        left = state.stateful_callbacks.get(SpentCallback.__name__, {}).get("attributes", {}).get("accounts")
        if left:
            self._total, self._begun = (RunCost.from_dict(left[name]) for name in ("spent", "begun"))
        self._costs.forget_shapes()
        self._costs.clear()
        self._logged, self._clock = self._total, time.perf_counter()
        self._look_at_budget(state.global_step)
        if self._is_spent():
            state.max_steps = state.global_step
        bits = "bfloat16" if self.args.bf16 else "float16" if self.args.fp16 else "float32"
        self._peak = known_peak(self.args.device, getattr(torch, bits))
        if self._is_endless():
            for callback in self.callback_handler.callbacks:
                if getattr(callback, "training_bar", None) is not None:
                    callback.training_bar.total = None

    def _note_progress(self, state: TrainerState) -> None:
        """After the optimizer's step: where in its budget the training is; the step that spends it is the last."""
        self._look_at_budget(state.global_step + 1)
        if self._is_spent():
            state.max_steps = state.global_step + 1

    def _look_at_budget(self, step: int) -> None:
        """How much of it is spent after a step: of the stage's, which a number of steps may end too, and of all stages'."""
        if not self._budget:
            return
        so_far = self._so_far(wait=self._budget.max_tokens is not None)
        steps = 0 if self._is_endless() else step / self.args.max_steps
        self._share = max(self._budget.share_spent(so_far, self._begun), steps)
        self._share_of_all = budget_of(self.args).share_spent(so_far, RunCost())

    def _is_endless(self) -> bool:
        return bool(self._budget) and self.args.max_steps <= 0

    def _is_finished(self, state: TrainerState) -> bool:
        """Whether a checkpoint's state is that of the last step."""
        self._budget = self._budget_of_stage()
        self._open_accounts(state)
        steps = self.args.max_steps if self.args.max_steps > 0 else state.max_steps
        return state.global_step >= steps or self._share >= 1

    def _export(self) -> None:
        accounts = {"spent": self._total.as_dict(), "begun": self._begun.as_dict()}
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, SpentCallback):
                callback.accounts = accounts

    def set_initial_training_values(self, args: TrainingArguments, dataloader: Any) -> tuple:
        """Trainer's; a budget, where no number of steps is given, is the only end."""
        if self._is_endless():
            args = copy.copy(args)
            args.max_steps = _ENDLESS
        return super().set_initial_training_values(args, dataloader)

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> Any:
        """Trainer's; under a budget its steps are parts of the budget."""
        if not self._budget or self.lr_scheduler is not None:
            return super().create_scheduler(num_training_steps, optimizer)
        given = self.args.lr_scheduler_kwargs
        shares = {name: value for name, value in (given or {}).items() if name.endswith("_steps")}
        self.args.lr_scheduler_kwargs = (given or {}) | {name: round(PARTS * value) for name, value in shares.items()}
        try:
            scheduler = super().create_scheduler(PARTS, optimizer)
        finally:
            self.args.lr_scheduler_kwargs = given
        if isinstance(scheduler, LambdaLR):
            scheduler.lr_lambdas = [self._following(schedule) for schedule in scheduler.lr_lambdas]
        return scheduler

    def _following(self, schedule: Callable[[float], float]) -> Callable[[int], float]:
        return lambda step: schedule(min(self._share, 1.0) * PARTS)

    def floating_point_ops(self, inputs: dict[str, Any]) -> float:
        """Operations of the micro-batch just trained on, of student and teacher; Trainer adds them up to `total_flos`."""
        return super().floating_point_ops(inputs) if self._is_trainer() else self._step_flops

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Trainer's log; training steps also say what was spent, how fast, and how much of the budget is left."""
        if "loss" in logs and not self._is_trainer():
            self.settle()
            seconds = max(self._total.seconds - self._logged.seconds, 1e-9)
            rate = (self._total.flops - self._logged.flops) / seconds
            logs["spent_flops"] = self._total.flops
            logs["tokens_per_second"] = (self._total.tokens - self._logged.tokens) / seconds
            if self._peak:
                logs["flops_utilization"] = rate / (
                    self._peak * self.accelerator.num_processes * max(self.args.n_gpu, 1)
                )
            if self._budget:
                logs["budget_left"] = max(1 - self._share, 0.0)
            self._logged = self._total
        super().log(logs, start_time)

    def _evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        self.settle()
        metrics = super()._evaluate(*args, **kwargs)
        self._clock = time.perf_counter()
        return metrics

    def _is_spent(self) -> bool:
        return bool(self._budget) and self._share >= 1

    def _meet_the_end_of_data(self) -> None:
        """No batches are left: a run whose budget was spent before ends; data of unknown length begin again."""
        if self._is_spent():
            self.control.should_training_stop = True
        elif self._is_endless():
            self.control.should_epoch_stop = True

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        self.settle()
        self._export()
        super()._save_checkpoint(model, trial)

    def _finalize_training(self, trial: Any, num_train_samples: float, start_time: float) -> TrainOutput:
        self.settle()
        self._clock = None
        if self._is_endless():
            num_train_samples = self.state.max_steps * self.get_total_train_batch_size(self.args)
        return super()._finalize_training(trial, num_train_samples, start_time)


class SpentCallback(TrainerCallback, ExportableState):
    """Carries what is spent into checkpoints, and out of them."""

    def __init__(self) -> None:
        self.accounts: dict[str, dict[str, float]] = {}

    def state(self) -> dict[str, Any]:
        """For `trainer_state.json`."""
        return {"args": {}, "attributes": {"accounts": self.accounts}}


class _FollowTheBudget(TrainerCallback):
    def __init__(self, trainer: Spending):
        self._trainer = trainer

    def on_train_begin(self, args, state, control, **kwargs):
        self._trainer._open_accounts(state)

    def on_optimizer_step(self, args, state, control, **kwargs):
        self._trainer._note_progress(state)

"""Arguments of a compute budget: limits of FLOPs, seconds and tokens."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hf_distill.compute.budget import ComputeBudget, RunCost


# A mixin for dataclasses derived from TrainingArguments, which it stands before.
@dataclass
class BudgetArguments:
    """A compute budget. With one, warm-up and decay of the learning rate follow the share of the budget that is used.

    Without `max_steps`, training continues epoch after epoch (`num_train_epochs` is ignored) until the budget is used up;
    with it, until the first of both ends.

    Raises:
        ValueError: A limit is not positive and finite, or another argument is a share of an unknown number of steps.
    """

    max_flops: float | None = field(
        default=None,
        metadata={
            "help": "Maximum FLOPs of student, teacher and pruning together, over all processes, such as 1e15. The run ends "
            "with the step that reaches it, or with max_steps if that comes first. None: no limit."
        },
    )
    max_seconds: float | None = field(
        default=None, metadata={"help": "Maximum seconds of training, without evaluations. None: no limit."}
    )
    max_tokens: float | None = field(
        default=None,
        metadata={
            "help": "Maximum tokens that the student reads, without padding, over all processes. Counting them synchronizes "
            "with the device at every step. None: no limit."
        },
    )
    teacher_labeling_flops: float | None = field(
        default=None,
        metadata={
            "help": "FLOPs of precomputing the teacher outputs (printed by hf-distill label, stored in cost.json; see "
            "hf_distill.compute.flops.batch_flops for other labels), charged to this run before its first step. None: not "
            "charged, since several runs can share the outputs."
        },
    )
    teacher_labeling_seconds: float | None = field(
        default=None,
        metadata={
            "help": "Seconds of precomputing the teacher outputs (printed by hf-distill label, stored in cost.json), charged to "
            "this run before its first step. None: not charged, since several runs can share the outputs."
        },
    )

    def __post_init__(self) -> None:
        super().__post_init__()  # type: ignore[misc]  # that of TrainingArguments
        require_valid_budget(self)


def budget_of(args: Any) -> ComputeBudget:
    """The budget in some arguments; none in plain `TrainingArguments`."""
    return ComputeBudget(*(vars(args).get(name) for name in ("max_flops", "max_seconds", "max_tokens")))


def labeling_cost_of(args: Any) -> RunCost:
    """What the arguments charge for labeling the transfer set."""
    flops, seconds = (vars(args).get(f"teacher_labeling_{unit}") or 0.0 for unit in ("flops", "seconds"))
    return RunCost(labeling_flops=flops, seconds=seconds)


def require_valid_budget(args: Any) -> None:
    """Refuse limits that are not positive and finite, and schedules that need a known number of steps.

    Args:
        args: Training arguments with the fields of `BudgetArguments`.

    Raises:
        ValueError: Names the field, the value got and the values allowed.
    """
    budget = budget_of(args)
    for unit in ("flops", "seconds"):
        name = f"teacher_labeling_{unit}"
        charged, limit = getattr(args, name), getattr(args, f"max_{unit}")
        if charged is not None and not 0 <= charged < float("inf"):
            raise ValueError(f"{name} must be None or a finite number of at least 0, got {charged}")
        if charged is not None and limit is not None and charged >= limit:
            raise ValueError(f"{name} {charged:g} leave nothing of max_{unit} {limit:g}")
    if not budget:
        return
    if args.warmup_steps >= 1:
        raise ValueError(
            f"with a budget the warm-up is a share of it: warmup_steps must be at least 0 and below 1, got {args.warmup_steps}"
        )
    for name, value in (args.lr_scheduler_kwargs or {}).items():
        if name.endswith("_steps") and not 0 <= value <= 1:
            raise ValueError(f"with a budget {name} of lr_scheduler_kwargs is a share of it, 0 to 1, got {value}")
    for name in ("logging_steps", "eval_steps", "save_steps"):
        value = getattr(args, name)
        if args.max_steps <= 0 and value is not None and 0 < value < 1:
            raise ValueError(
                f"{name} {value} is a share of max_steps, which a budget leaves open: give a number of steps, or max_steps"
            )

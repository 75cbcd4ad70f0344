"""Schedules of the general stage: which checkpoint is the teacher at which step, and temperature and scale of its logits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from itertools import accumulate
from typing import Any

from transformers import Trainer, TrainingArguments

QUALITIES = ("accuracy", "f1", "matthews_correlation", "pearson", "exact_match", "mrr")  # of which more is better


class GeneralStageLoss(str, Enum):
    """The loss of the general stage, between the logits of student and teacher checkpoint."""

    LOGIT_MSE = "logit_mse"
    FORWARD_KL = "forward_kl"


def last_steps(shares: Sequence[float], total_steps: int) -> list[int]:
    """The step before which each checkpoint stops being the teacher.

    Args:
        shares: One number above 0 per checkpoint; only their proportions matter.
        total_steps: Number of optimizer steps of the stage.

    Returns:
        The steps in ascending order, the last one `total_steps`; every checkpoint has at least one step.

    Raises:
        ValueError: There are fewer steps than checkpoints.
    """
    if total_steps < len(shares):
        raise ValueError(
            f"the general stage has {total_steps} steps for {len(shares)} teacher checkpoints; each needs at least one"
        )
    ends = [round(total_steps * reached / sum(shares)) for reached in accumulate(shares)]
    for index in range(len(ends)):
        earliest = (ends[index - 1] if index else 0) + 1
        latest = total_steps - (len(ends) - 1 - index)
        ends[index] = min(max(ends[index], earliest), latest)
    return ends


def annealed_temperature(step: int, total_steps: int, max_temperature: int) -> int:
    """The temperature t, which falls from τ_max to 1 over a stage, by 1 at a time where the stage has enough steps.

    Args:
        step: Number of optimizer steps done, from 0 to `total_steps` - 1.
        total_steps: Number of optimizer steps of the stage.
        max_temperature: The initial temperature τ_max, at least 1.

    Returns:
        The temperature, from 1 to `max_temperature`; 1 at the last step.

    Source:
        Jafari et al. 2021, arXiv 2104.07163, section 3.1.
    """
    values = min(max_temperature, total_steps)
    if values == 1:
        return 1
    part = min(step * values // total_steps, values - 1)
    return max_temperature - round(part * (max_temperature - 1) / (values - 1))


def logit_scale(temperature: float, max_temperature: int) -> float:
    """The factor φ = 1 - (t - 1) / τ_max of the teacher's logits: 1 / τ_max at first, 1 in the end.

    Args:
        temperature: The temperature t, from 1 to `max_temperature`.
        max_temperature: The initial temperature τ_max, at least 1.

    Returns:
        The factor, above 0 and at most 1.

    Source:
        Jafari et al. 2021, arXiv 2104.07163, equation 6.
    """
    return 1 - (temperature - 1) / max_temperature


def choosing_the_best(args: TrainingArguments, eval_dataset: Any) -> dict[str, Any]:
    """Arguments that load the best checkpoint when the general stage ends; none where saves and evaluations do not coincide."""
    coincide = args.eval_strategy == args.save_strategy and args.eval_strategy != "no"
    if args.eval_strategy == "steps":
        coincide = coincide and args.save_steps % (args.eval_steps or args.save_steps) == 0
    if eval_dataset is None or not coincide:
        return {}
    metric = args.metric_for_best_model or "hard_label_loss"
    return {
        "load_best_model_at_end": True,
        "metric_for_best_model": metric,
        "greater_is_better": _greater_is_better(args, metric),
    }


def can_compare_stages(trainer: Trainer) -> bool:
    """Whether evaluations after both stages can tell which student is better, see `quality`."""
    is_by_loss = trainer.args.metric_for_best_model in ("loss", "eval_loss")
    return trainer.eval_dataset is not None and trainer.compute_metrics is not None and not is_by_loss


def quality(args: TrainingArguments, metrics: Mapping[str, float]) -> tuple[str, float] | None:
    """The metric by which the students of two stages are compared.

    Args:
        args: The training arguments.
        metrics: The metrics of an evaluation.

    Returns:
        The key and the value, negative where lower is better, of `metric_for_best_model`; without it of the first of
        `QUALITIES` among the metrics. None: there is none of these, or it is the loss, which is another one in each stage.
        Without a metric the loss on labels is not taken either: a student that is trained on few labels predicts more of
        them rightly at a higher loss.
    """
    names = [args.metric_for_best_model] if args.metric_for_best_model else QUALITIES
    keys = (name if name.startswith("eval_") else f"eval_{name}" for name in names)
    key = next((each for each in keys if each in metrics), None)
    if key in (None, "eval_loss"):
        return None
    return key, metrics[key] if _greater_is_better(args, key) else -metrics[key]


def _greater_is_better(args: TrainingArguments, metric: str) -> bool:
    named = args.greater_is_better if args.metric_for_best_model else None
    return not metric.endswith("loss") if named is None else named

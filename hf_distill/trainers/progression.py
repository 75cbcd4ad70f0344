"""How a general stage advances: which checkpoint teaches when, and how much of its logits is to be reached."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from itertools import accumulate
from typing import Any

from transformers import TrainingArguments


class GeneralStageLoss(str, Enum):
    """How a student follows its teacher's checkpoints."""

    LOGIT_MSE = "logit_mse"
    FORWARD_KL = "forward_kl"


def last_steps(shares: Sequence[float], total_steps: int) -> list[int]:
    """The step before which each checkpoint's turn ends.

    Args:
        shares: One number above 0 per checkpoint; only their proportions count.
        total_steps: Optimizer steps of the stage.

    Returns:
        Ascending, the last is `total_steps`; every checkpoint has at least one step.

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
    """t, which falls from τ_max to 1 in equal parts of a stage; where it has fewer steps than that, by more than 1 at once.

    Args:
        step: Optimizer steps done, from 0 to `total_steps` - 1.
        total_steps: Of the stage.
        max_temperature: τ_max, at least 1.

    Returns:
        1 at the last step.

    Source:
        Jafari et al. 2021, arXiv 2104.07163, section 3.1.
    """
    values = min(max_temperature, total_steps)
    if values == 1:
        return 1
    part = min(step * values // total_steps, values - 1)
    return max_temperature - round(part * (max_temperature - 1) / (values - 1))


def logit_scale(temperature: float, max_temperature: int) -> float:
    """φ = 1 - (t - 1) / τ_max, which multiplies the teacher's logits: 1 / τ_max at first, 1 in the end.

    Source:
        Jafari et al. 2021, arXiv 2104.07163, equation 6.
    """
    return 1 - (temperature - 1) / max_temperature


def choosing_the_best(args: TrainingArguments, eval_dataset: Any) -> dict[str, Any]:
    """Arguments of a general stage that ends with its best checkpoint, where it can be known; else none."""
    coincide = args.eval_strategy == args.save_strategy and args.eval_strategy != "no"
    if args.eval_strategy == "steps":
        coincide = coincide and args.save_steps % (args.eval_steps or args.save_steps) == 0
    if eval_dataset is None or not coincide:
        return {}
    metric = args.metric_for_best_model or "hard_label_loss"
    greater = args.greater_is_better
    greater = not metric.endswith("loss") if greater is None else greater
    return {"load_best_model_at_end": True, "metric_for_best_model": metric, "greater_is_better": greater}

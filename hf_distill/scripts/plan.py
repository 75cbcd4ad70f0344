"""What a compute budget buys of each way to train a student: steps, tokens and time, counted without loading weights."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hf_distill.compute.budget import GPU_PEAKS, BudgetSpec
from hf_distill.text.suggestions import choice

# PyTorch and transformers take seconds to import, and the command line reads its options' defaults off this module: the
# functions that need them import them.
if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from hf_distill.objectives.objective import Objective
    from hf_distill.tasks import Task

# The recipe of each arm. A cached teacher computes its outputs once per text, which later epochs read from disk.
ARMS = {
    "no_kd": None,
    "vanilla_kd": "vanilla_kd",
    "tinybert": "tinybert_general",
    "minilmv2": "minilmv2",
    "cached_kd": "vanilla_kd",
}
ASSUMED_UTILIZATION = 0.3


@dataclass(frozen=True)
class StepShape:
    """Shape of the batch of one optimizer step, over all devices.

    Attributes:
        batch_size: Sequences per step.
        length: Tokens per sequence, padding included.
        padding: Share of the positions that are padding, from 0 to 1.
        masked: Share of the positions that a masked-language model predicts, from 0 to 1.
    """

    batch_size: int
    length: int
    padding: float = 0.0
    masked: float = 0.15

    @property
    def tokens(self) -> float:
        """Tokens per step, without padding."""
        return self.batch_size * self.length * (1 - self.padding)

    @property
    def predictions(self) -> int:
        """Positions per step that a masked-language model predicts."""
        return int(self.masked * self.batch_size * self.length)


@dataclass(frozen=True)
class StepFlops:
    """FLOPs of one optimizer step.

    Attributes:
        student: FLOPs of the student's forward and backward pass, and of its side of the comparison with the teacher.
        teacher: FLOPs of the teacher's forward pass, and of its side of the comparison; 0 without a teacher.
    """

    student: float
    teacher: float


@dataclass(frozen=True)
class ArmPlan:
    """What one way to train costs, and what the budget buys of it.

    Attributes:
        arm: A key of `ARMS`.
        student_flops_per_token: FLOPs of the student per token: forward and backward pass, and its side of the comparison.
        teacher_flops_per_token: FLOPs of the teacher per token: forward pass, and its side of the comparison.
        labeling_flops: FLOPs of the teacher before the first step.
        teacher_share: The teacher's share of all FLOPs, from 0 to 1.
        tokens: Tokens that the student reads, without padding.
        steps: Optimizer steps.
        epochs: Passes over the transfer set; None where its size is not known.
        seconds: Wall-clock seconds; None where the speed is not known.
    """

    arm: str
    student_flops_per_token: float
    teacher_flops_per_token: float
    labeling_flops: float
    teacher_share: float
    tokens: float
    steps: int
    epochs: float | None
    seconds: float | None


def training_speed(budget: BudgetSpec, flops_per_second: float | None, utilization: float) -> float | None:
    """FLOPs per second that a training reaches on all devices together.

    Args:
        budget: The budget, which names the devices.
        flops_per_second: The measured speed of a training on one device. None: estimated from the device's peak.
        utilization: The share of the peak that trainings reach, from 0 to 1.

    Returns:
        FLOPs per second; None where no peak is known for the machine at hand.
    """
    if flops_per_second is not None:
        return budget.devices * flops_per_second
    if budget.gpu is not None:
        return budget.devices * GPU_PEAKS[budget.gpu] * utilization
    import torch

    from hf_distill.compute.peak import known_peak
    from hf_distill.compute.precision import fast_bfloat16

    device = "cuda" if torch.cuda.is_available() else "cpu"
    peak = known_peak(device, torch.bfloat16 if fast_bfloat16(device) else torch.float32)
    return None if peak is None else peak * utilization


def step_flops_by_arm(
    teacher: str, student: str, task: str, shape: StepShape
) -> tuple[dict[str, StepFlops], list[str]]:
    """Count the FLOPs of one step of each arm as trainings count them, on models without weights.

    Args:
        teacher: The teacher's folder, its id on the Hub, or layers/hidden size of a BERT, such as "12/768".
        student: The student's folder, its id on the Hub, layers/hidden size, or the name of a miniature.
        task: A value of `Task`.
        shape: The batch of one step.

    Returns:
        The FLOPs by arm, and remarks on terms of an objective that had to be left out.

    Raises:
        ValueError: There is no such task or model shape.
        OSError: There is no such model.
    """
    import torch

    from hf_distill.compute.step_cost import student_cost, teacher_cost
    from hf_distill.tasks import Task

    wanted = choice(Task, task, "task")
    found: dict[str, StepFlops] = {}
    remarks: list[str] = []
    with torch.device("meta"):
        teacher_model = _model(teacher, None, wanted)
        for arm, recipe in ARMS.items():
            student_model = _model(student, teacher_model, wanted)
            objective = _objective(recipe, student_model, teacher_model, wanted, remarks)
            size = shape.batch_size, shape.length, shape.predictions
            taught = 0.0 if recipe is None else teacher_cost(teacher_model, objective).of(*size)
            found[arm] = StepFlops(student_cost(student_model, objective).of(*size), taught)
    return found, remarks


def _model(name: str, teacher: PreTrainedModel | None, task: Task) -> PreTrainedModel:
    """Make a model of the named shape on the current device, the meta device, which allocates no weights."""
    from hf_distill.pretrained.loading import SavedModel
    from hf_distill.students.create import create_student
    from hf_distill.students.miniatures import MINIATURES

    if re.fullmatch(r"\d+/\d+", name) or name in {miniature.name for miniature in MINIATURES.values()}:
        return create_student(name, teacher, "random", task=task)
    try:
        config = SavedModel.find(name).config
    except OSError as error:
        raise OSError(f"no configuration of {name!r}: {error}") from None
    auto_class: Any = task.auto_class
    return auto_class.from_config(config, trust_remote_code=False)


def _objective(
    recipe: str | None, student: PreTrainedModel, teacher: PreTrainedModel, task: Task, remarks: list[str]
) -> Objective:
    """Build a recipe's objective; the student gets projections where the objective needs them."""
    from hf_distill.features.projections import attach
    from hf_distill.teachers.frozen import FrozenTeacher
    from hf_distill.trainers.distillation_arguments import DistillationTrainingArguments
    from hf_distill.trainers.feature_terms import build_projections
    from hf_distill.trainers.objective_builder import build_objective

    heads = [model.config.num_attention_heads for model in (student, teacher)]
    widths = [model.config.hidden_size for model in (student, teacher)]
    settings: dict[str, Any] = {"recipe": recipe, "use_cpu": True, "report_to": "none"}
    if recipe == "minilmv2":
        settings["relation_heads"] = math.gcd(*widths)  # as costly as any number of them
    if recipe == "tinybert_general" and heads[0] != heads[1]:
        settings["attention_weight"] = 0.0
        remarks.append(f"tinybert without its attention term: {heads[0]} heads cannot be compared with {heads[1]}.")
    args = DistillationTrainingArguments("unused", **settings)
    frozen = None if recipe is None else FrozenTeacher(teacher, "float32")
    objective = build_objective(args, student, frozen, task, "single_label_classification", ["labels"])
    projections = build_projections(args, objective, student, frozen)
    if projections is not None:
        attach(student, projections)
    return objective


def plan_arm(
    arm: str, step: StepFlops, flops: float, tokens_per_step: float, transfer_tokens: float | None, speed: float | None
) -> ArmPlan:
    """Compute what a budget buys of an arm.

    Args:
        arm: A key of `ARMS`.
        step: FLOPs of one step.
        flops: The budget in FLOPs.
        tokens_per_step: Tokens of one step, without padding.
        transfer_tokens: Tokens of the transfer set. None: it is large enough to read each token once.
        speed: FLOPs per second of all devices. None: not known.

    Returns:
        The arm's costs, steps, tokens and time.
    """
    student, teacher = step.student / tokens_per_step, step.teacher / tokens_per_step
    tokens, labeling = flops / (student + teacher), 0.0
    if arm == "cached_kd":
        labeled = tokens if transfer_tokens is None else min(tokens, transfer_tokens)
        labeling = teacher * labeled
        tokens = (flops - labeling) / student
    by_teacher = labeling if arm == "cached_kd" else teacher * tokens
    return ArmPlan(
        arm=arm,
        student_flops_per_token=student,
        teacher_flops_per_token=teacher,
        labeling_flops=labeling,
        teacher_share=by_teacher / flops,
        tokens=tokens,
        steps=int(tokens / tokens_per_step),
        epochs=None if transfer_tokens is None else tokens / transfer_tokens,
        seconds=None if speed is None else flops / speed,
    )


def plan_arms(
    steps: Mapping[str, StepFlops], flops: float, shape: StepShape, transfer_tokens: float | None, speed: float | None
) -> tuple[list[ArmPlan], list[str]]:
    """Compute what a budget buys of every arm.

    Args:
        steps: FLOPs of one step by arm, see `step_flops_by_arm`.
        flops: The budget in FLOPs.
        shape: The batch of one step.
        transfer_tokens: Tokens of the transfer set. None: it is large enough to read each token once.
        speed: FLOPs per second of all devices. None: not known.

    Returns:
        The plans in the order of `ARMS`, and remarks on what would change the choice between them.
    """
    arms = [plan_arm(arm, steps[arm], flops, shape.tokens, transfer_tokens, speed) for arm in ARMS]
    return arms, _remarks(arms, transfer_tokens)


def _remarks(plans: Sequence[ArmPlan], transfer_tokens: float | None) -> list[str]:
    by_name = {plan.arm: plan for plan in plans}
    alone, kd, cached = (by_name[name] for name in ("no_kd", "vanilla_kd", "cached_kd"))
    ratio = alone.tokens / kd.tokens
    saved = kd.teacher_flops_per_token / (kd.student_flops_per_token + kd.teacher_flops_per_token)
    remarks = [
        f"The teacher takes {100 * kd.teacher_share:.0f} % of the FLOPs of vanilla KD: without it the student reads "
        f"{ratio:.1f} times as much. With a teacher of {kd.student_flops_per_token / 4:.2g} FLOPs per token (now "
        f"{kd.teacher_flops_per_token:.2g}), a quarter of the student's, it would be 1.25 times.",
        "A cached teacher costs as much as a live one in the first epoch, and less from the second epoch on: of e epochs it "
        f"saves {saved:.0%} · (1 - 1/e). It needs inputs that stay the same (fixed masks); outputs that other runs reuse are "
        "paid for once.",
    ]
    if transfer_tokens is None:
        remarks.append("Give --transfer-tokens to see how many epochs each arm would train.")
    elif alone.epochs is not None and alone.epochs > 1:
        remarks.append(
            f"The data are limited: without a teacher every text is read {alone.epochs:.1f} times, with vanilla KD "
            f"{kd.epochs:.1f} times, with cached teacher outputs {cached.epochs:.1f} times. Teachers helped most where data "
            "were repeated (Bui et al. 2024, arXiv 2404.19319); more text would favor no_kd."
        )
    else:
        remarks.append(
            f"The data are not limited: no arm reads all of them (no_kd reads {100 * (alone.epochs or 0.0):.0f} %). There "
            "vanilla KD was no better than no_kd, TinyBERT and MiniLMv2 were (Bui et al. 2024, arXiv 2404.19319)."
        )
    return remarks

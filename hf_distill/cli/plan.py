"""`hf-distill plan`: what a budget buys, for each way to train a student."""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hf_distill.cli.json_output import print_json
from hf_distill.compute.budget import GPU_PEAKS, BudgetSpec, parse_budget_spec
from hf_distill.text.suggestions import choice

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Recipes by arm; a cached teacher answers once about every text and is read from disk afterwards.
ARMS = {
    "no_kd": None,
    "vanilla_kd": "vanilla_kd",
    "tinybert": "tinybert_general",
    "minilmv2": "minilmv2",
    "cached_kd": "vanilla_kd",
}
_ASSUMED_UTILIZATION = 0.3


@dataclass
class Arm:
    """What a way to train costs, and what a budget buys of it.

    Attributes:
        arm: A key of `ARMS`.
        student_flops_per_token: Forward and backward, with its side of what is compared.
        teacher_flops_per_token: Forward, with its side.
        labeling_flops: Spent before the first step.
        teacher_share: Of all operations.
        tokens: That the student reads, padding left out.
        steps: Of the optimizer.
        epochs: Readings of the transfer set; None where its size is not known.
        seconds: Of wall-clock time; None where the speed is not known.
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


def plan(
    teacher: Annotated[str, typer.Option(help="Hub id, local path, or layers/hidden size of a BERT, such as 12/768.")],
    student: Annotated[str, typer.Option(help="The same, or the name of a miniature (tiny, mini, small, medium).")],
    budget: Annotated[str, typer.Option(help="Like 8xH200x13h, 3e18 (operations) or 2h on this machine.")],
    task: Annotated[str, typer.Option(help="What the heads are for, such as sequence_classification.")] = "masked_lm",
    length: Annotated[int, typer.Option(min=1, help="Tokens per sequence, padding included.")] = 128,
    batch_size: Annotated[int, typer.Option(min=1, help="Sequences per optimizer step, over all devices.")] = 1024,
    padding: Annotated[float, typer.Option(min=0, max=0.99, help="Share of the positions that is padding.")] = 0.0,
    masked: Annotated[float, typer.Option(min=0, max=1, help="Share of the positions that is predicted.")] = 0.15,
    transfer_tokens: Annotated[
        float | None, typer.Option(help="Tokens of the transfer set; by default read once.")
    ] = None,
    flops_per_second: Annotated[float | None, typer.Option(help="That trainings reach on a device, measured.")] = None,
    utilization: Annotated[
        float,
        typer.Option(min=0.001, max=1, help="Share of the device's peak that trainings reach (flops_utilization)."),
    ] = _ASSUMED_UTILIZATION,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Steps, tokens and time that a budget buys without a teacher and with it, and what would change the choice.

    Example: hf-distill plan --teacher 12/768 --student 6/384 --budget 8xH200x13h
    """
    for name, value in (("--flops-per-second", flops_per_second), ("--transfer-tokens", transfer_tokens)):
        if value is not None and not (math.isfinite(value) and value > 0):
            raise typer.BadParameter(f"must be a number above 0, got {value}", param_hint=name)
    try:
        allowance = parse_budget_spec(budget)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--budget") from None
    speed = speed_of(allowance, flops_per_second, utilization)
    if allowance.flops is None and speed is None:
        raise typer.BadParameter(
            "the speed of this machine is not known: run `hf-distill peak` once, or give --flops-per-second",
            param_hint="--budget",
        )
    flops = speed * allowance.seconds if allowance.flops is None else allowance.flops
    try:
        costs, remarks = costs_of(teacher, student, task, batch_size, length, int(masked * batch_size * length))
    except (ValueError, OSError) as error:
        raise typer.BadParameter(str(error), param_hint="--teacher, --student or --task") from None
    real = batch_size * length * (1 - padding)
    arms = [bought(arm, *costs[arm], flops, real, transfer_tokens, speed) for arm in ARMS]
    remarks += remarks_on({each.arm: each for each in arms}, transfer_tokens)
    if flops_per_second is None and speed is not None and utilization == _ASSUMED_UTILIZATION:
        remarks.append(f"A utilization of {utilization:g} is assumed; trainings log their own as flops_utilization.")
    if as_json:
        content = {"budget": asdict(allowance), "flops": flops, "flops_per_second": speed}
        print_json(content | {"arms": [asdict(each) for each in arms], "remarks": remarks})
        return
    _show(arms, remarks, f"{budget}: {flops:.3g} FLOPs, {batch_size} x {length} tokens a step")


def speed_of(allowance: BudgetSpec, flops_per_second: float | None, utilization: float) -> float | None:
    """Operations per second of all devices; None where nothing is known of them."""
    if flops_per_second is not None:
        return allowance.devices * flops_per_second
    if allowance.gpu is not None:
        return allowance.devices * GPU_PEAKS[allowance.gpu] * utilization
    import torch

    from hf_distill.compute.peak import known_peak
    from hf_distill.hardware import fast_bfloat16

    device = "cuda" if torch.cuda.is_available() else "cpu"
    peak = known_peak(device, torch.bfloat16 if fast_bfloat16(device) else torch.float32)
    return None if peak is None else peak * utilization


def costs_of(
    teacher: str, student: str, task: str, batch_size: int, length: int, predictions: int
) -> tuple[dict[str, tuple[float, float]], list[str]]:
    """Operations of student and teacher in one step, by arm; counted as trainings count them, on models without weights.

    Returns:
        The operations, and what had to be left out.

    Raises:
        ValueError: There is no such task or shape.
        OSError: There is no such model.
    """
    import torch

    from hf_distill.compute.step_cost import student_cost, teacher_cost
    from hf_distill.tasks import Task

    wanted = choice(Task, task, "task")
    found, remarks = {}, []
    with torch.device("meta"):
        master = _model(teacher, None, wanted)
        for arm, recipe in ARMS.items():
            learner = _model(student, master, wanted)
            objective = _objective(recipe, learner, master, wanted, remarks)
            own = student_cost(learner, objective).of(batch_size, length, predictions)
            asked = 0.0 if recipe is None else teacher_cost(master, objective).of(batch_size, length, predictions)
            found[arm] = own, asked
    return found, remarks


def _model(name: str, teacher: PreTrainedModel | None, task: Any) -> PreTrainedModel:
    """With the shape of a model, but without weights."""
    from hf_distill.pretrained.loading import SavedModel
    from hf_distill.students.create import create_student
    from hf_distill.students.miniatures import MINIATURES

    if re.fullmatch(r"\d+/\d+", name) or name in {miniature.name for miniature in MINIATURES.values()}:
        return create_student(name, teacher, "random", task=task)
    try:
        config = SavedModel.find(name).config
    except OSError as error:
        raise OSError(f"no configuration of {name!r}: {error}") from None
    return task.auto_class.from_config(config, trust_remote_code=False)


def _objective(recipe: str | None, student: Any, teacher: Any, task: Any, remarks: list[str]) -> Any:
    """What a recipe trains for; student gets projections where it needs them."""
    from hf_distill.features.projections import attach
    from hf_distill.teachers.frozen import FrozenTeacher
    from hf_distill.trainers.distillation_arguments import DistillationTrainingArguments
    from hf_distill.trainers.objective_builder import build_objective, build_projections

    heads = [model.config.num_attention_heads for model in (student, teacher)]
    widths = [model.config.hidden_size for model in (student, teacher)]
    changes = {"relation_heads": math.gcd(*widths)} if recipe == "minilmv2" else {}  # as costly as any number of them
    if recipe == "tinybert_general" and heads[0] != heads[1]:
        changes["attention_weight"] = 0.0
        remarks.append(f"tinybert without its attention term: {heads[0]} heads cannot be compared with {heads[1]}.")
    args = DistillationTrainingArguments("unused", recipe=recipe, use_cpu=True, report_to="none", **changes)
    frozen = None if recipe is None else FrozenTeacher(teacher, "float32")
    objective = build_objective(args, student, frozen, task, "single_label_classification", ["labels"])
    projections = build_projections(args, objective, student, frozen)
    if projections is not None:
        attach(student, projections)
    return objective


def bought(
    arm: str,
    student: float,
    teacher: float,
    flops: float,
    tokens_a_step: float,
    transfer_tokens: float | None,
    speed: float | None,
) -> Arm:
    """What a budget buys of an arm.

    Args:
        arm: A key of `ARMS`.
        student: Operations of a step.
        teacher: Its own.
        flops: The budget.
        tokens_a_step: Without padding.
        transfer_tokens: Tokens of the transfer set. None: each is read once.
        speed: Operations per second of all devices.
    """
    learning, asking = student / tokens_a_step, teacher / tokens_a_step
    tokens, labeling = flops / (learning + asking), 0.0
    if arm == "cached_kd":
        labeled = tokens if transfer_tokens is None else min(tokens, transfer_tokens)
        labeling = asking * labeled
        tokens = (flops - labeling) / learning
    taught = labeling if arm == "cached_kd" else asking * tokens
    return Arm(
        arm=arm,
        student_flops_per_token=learning,
        teacher_flops_per_token=asking,
        labeling_flops=labeling,
        teacher_share=taught / flops,
        tokens=tokens,
        steps=int(tokens / tokens_a_step),
        epochs=None if transfer_tokens is None else tokens / transfer_tokens,
        seconds=None if speed is None else flops / speed,
    )


def remarks_on(arms: dict[str, Arm], transfer_tokens: float | None) -> list[str]:
    """What would change the choice, in plain words."""
    alone, kd, cached = (arms[name] for name in ("no_kd", "vanilla_kd", "cached_kd"))
    ratio = alone.tokens / kd.tokens
    remarks = [
        f"The teacher takes {100 * kd.teacher_share:.0f} % of vanilla KD: without it the student reads {ratio:.1f} times as "
        f"much. With a teacher of {kd.student_flops_per_token / 4:.2g} FLOPs per token (now {kd.teacher_flops_per_token:.2g}), "
        "a quarter of what the student takes, it would be 1.25 times.",
        "A cached teacher costs as much as a live one when each text is read once, and less from the second reading on: of e "
        f"readings it saves {kd.teacher_flops_per_token / (kd.student_flops_per_token + kd.teacher_flops_per_token):.0%} · "
        "(1 - 1/e). It needs inputs that stay the same (fixed masks), and labels that other runs use too are paid once.",
    ]
    if transfer_tokens is None:
        remarks.append("Give --transfer-tokens to see how often each arm would read what there is.")
    elif alone.epochs > 1:
        remarks.append(
            f"The data are limited: without a teacher every text is read {alone.epochs:.1f} times, with vanilla KD "
            f"{kd.epochs:.1f} times, with its answers cached {cached.epochs:.1f} times. Repetition is where teachers helped "
            "most (Bui et al. 2024, arXiv 2404.19319); more text would favor no_kd."
        )
    else:
        remarks.append(
            f"The data are not limited: no arm comes to the end of them (no_kd reads {100 * alone.epochs:.0f} %). There vanilla "
            "KD was no better than no_kd, TinyBERT and MiniLMv2 were (Bui et al. 2024, arXiv 2404.19319)."
        )
    return remarks


def _show(arms: list[Arm], remarks: list[str], title: str) -> None:
    from rich.console import Console
    from rich.table import Table

    caption = (
        "student, teacher: MFLOPs per token; share: the teacher's, of all operations; readings: of the transfer set"
    )
    table = Table("arm", title=title, caption=caption)
    for name in ("student", "teacher", "share", "steps", "tokens", "readings", "hours"):
        table.add_column(name, justify="right")
    for arm in arms:
        table.add_row(
            arm.arm,
            f"{arm.student_flops_per_token / 1e6:.3g}",
            f"{arm.teacher_flops_per_token / 1e6:.3g}",
            f"{100 * arm.teacher_share:.0f} %",
            f"{arm.steps:,}",
            f"{arm.tokens:.3g}",
            "" if arm.epochs is None else f"{arm.epochs:.2f}",
            "" if arm.seconds is None else f"{arm.seconds / 3600:.3g}",
        )
    console = Console(soft_wrap=True, highlight=False)
    console.print(table)
    for remark in remarks:
        console.print(f"- {remark}", markup=False)

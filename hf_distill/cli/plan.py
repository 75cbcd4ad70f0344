"""`hf-distill plan`: what a compute budget buys of each way to train a student."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer

from hf_distill.cli.json_output import print_json
from hf_distill.compute.budget import BudgetSpec, parse_budget_spec
from hf_distill.scripts.plan import (
    ASSUMED_UTILIZATION,
    ArmPlan,
    StepShape,
    plan_arms,
    step_flops_by_arm,
    training_speed,
)


def plan(
    teacher: Annotated[str, typer.Option(help="Hub id, local path, or layers/hidden size of a BERT, such as 12/768.")],
    student: Annotated[str, typer.Option(help="The same, or the name of a miniature (tiny, mini, small, medium).")],
    budget: Annotated[str, typer.Option(help="Like 8xH200x13h, 3e18 (FLOPs) or 2h on this machine.")],
    task: Annotated[str, typer.Option(help="The heads' task, such as sequence_classification.")] = "masked_lm",
    length: Annotated[int, typer.Option(min=1, help="Tokens per sequence, padding included.")] = 128,
    batch_size: Annotated[int, typer.Option(min=1, help="Sequences per optimizer step, over all devices.")] = 1024,
    padding: Annotated[float, typer.Option(min=0, max=0.99, help="Share of the positions that is padding.")] = 0.0,
    masked: Annotated[float, typer.Option(min=0, max=1, help="Share of the positions that is predicted.")] = 0.15,
    transfer_tokens: Annotated[
        float | None, typer.Option(help="Tokens of the transfer set; by default it is read once.")
    ] = None,
    flops_per_second: Annotated[
        float | None, typer.Option(help="Measured FLOPs per second of a training on one device.")
    ] = None,
    utilization: Annotated[
        float,
        typer.Option(min=0.001, max=1, help="Share of the device's peak that trainings reach (flops_utilization)."),
    ] = ASSUMED_UTILIZATION,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Show the steps, tokens and time that a budget buys without and with a teacher, and what would change the choice.

    Example: hf-distill plan --teacher 12/768 --student 6/384 --budget 8xH200x13h
    """
    for name, value in (("--flops-per-second", flops_per_second), ("--transfer-tokens", transfer_tokens)):
        if value is not None and not (math.isfinite(value) and value > 0):
            raise typer.BadParameter(f"must be a number above 0, got {value}", param_hint=name)
    spec = _budget_spec(budget)
    speed = training_speed(spec, flops_per_second, utilization)
    flops, shape = _flops_of(spec, speed), StepShape(batch_size, length, padding, masked)
    try:
        step_flops, remarks = step_flops_by_arm(teacher, student, task, shape)
    except (ValueError, OSError) as error:
        raise typer.BadParameter(str(error), param_hint="--teacher, --student or --task") from None
    arms, more = plan_arms(step_flops, flops, shape, transfer_tokens, speed)
    remarks += more
    if flops_per_second is None and speed is not None and utilization == ASSUMED_UTILIZATION:
        remarks.append(f"A utilization of {utilization:g} is assumed; trainings log their own as flops_utilization.")
    if as_json:
        content = {"budget": asdict(spec), "flops": flops, "flops_per_second": speed}
        print_json(content | {"arms": [asdict(each) for each in arms], "remarks": remarks})
        return
    _show(arms, remarks, f"{budget}: {flops:.3g} FLOPs, {batch_size} x {length} tokens a step")


def _budget_spec(budget: str) -> BudgetSpec:
    try:
        return parse_budget_spec(budget)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--budget") from None


def _flops_of(budget: BudgetSpec, speed: float | None) -> float:
    """The budget in FLOPs; of a time on devices, what they compute in it at this speed."""
    if budget.flops is not None:
        return budget.flops
    if speed is None or budget.seconds is None:
        raise typer.BadParameter(
            "the speed of this machine is not known: run `hf-distill peak` once, or give --flops-per-second",
            param_hint="--budget",
        )
    return speed * budget.seconds


def _show(arms: Sequence[ArmPlan], remarks: Sequence[str], title: str) -> None:
    from rich.console import Console

    from hf_distill.evaluation.fitted_table import FittedColumn, FittedTable

    caption = "student, teacher: MFLOPs per token; share: the teacher's, of all FLOPs; epochs: over the transfer set"
    columns = [
        FittedColumn("arm", [arm.arm for arm in arms], "left"),
        FittedColumn("student", [f"{arm.student_flops_per_token / 1e6:.3g}" for arm in arms]),
        FittedColumn("teacher", [f"{arm.teacher_flops_per_token / 1e6:.3g}" for arm in arms]),
        FittedColumn("share", [f"{100 * arm.teacher_share:.0f} %" for arm in arms]),
        FittedColumn("steps", [f"{arm.steps:,}" for arm in arms]),
        FittedColumn("tokens", [f"{arm.tokens:.3g}" for arm in arms]),
        FittedColumn("epochs", ["" if arm.epochs is None else f"{arm.epochs:.2f}" for arm in arms]),
        FittedColumn("hours", ["" if arm.seconds is None else f"{arm.seconds / 3600:.3g}" for arm in arms]),
    ]
    shown = [each for each in columns if any(each.cells)]
    console = Console(soft_wrap=True, highlight=False)
    tokens = next(index for index, each in enumerate(shown) if each.heading == "tokens")
    console.print(FittedTable(shown, title, caption, least_use=[tokens]), soft_wrap=False)
    for remark in remarks:
        console.print(f"- {remark}", markup=False)

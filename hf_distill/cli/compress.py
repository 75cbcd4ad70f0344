"""`hf-distill compress`: a teacher compressed to a target in one command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hf_distill.cli.compression_options import (
    CHECKPOINTS,
    OutputFolder,
    PlanOnly,
    StartLayers,
    Teacher,
    checked_choices,
    remark,
)
from hf_distill.cli.evaluate import numbers
from hf_distill.cli.json_output import print_json
from hf_distill.cli.options import (
    BatchSizes,
    DatasetConfig,
    DatasetName,
    LabelColumn,
    Lengths,
    MaxLength,
    PrintsJson,
    TextColumns,
    UnlabeledTexts,
)
from hf_distill.cli.train import training_arguments
from hf_distill.text.plain import printable

if TYPE_CHECKING:
    from hf_distill.compression.plan import CompressionPlan

Target = Annotated[str, typer.Option(help="How many times fewer parameters than the teacher, such as 10x.")]
Vocabulary = Annotated[
    str | None, typer.Option(help="full, texts (the tokens of the texts), or of these at most so many. Default: texts.")
]
NumberFormat = Annotated[
    str, typer.Option("--format", help="The file to deploy: onnx-int8, onnx-fp16, onnx or fp32 (no export).")
]
RequiredAgreement = Annotated[
    float | None, typer.Option(help="Refuse an export that gives fewer of the student's predictions, such as 0.99.")
]


def compress(
    context: typer.Context,
    teacher: Teacher,
    dataset: DatasetName,
    target: Target,
    output_dir: OutputFolder,
    plan_only: PlanOnly = False,
    layers: StartLayers = None,
    vocabulary: Vocabulary = None,
    number_format: NumberFormat = "onnx-int8",
    require_agreement: RequiredAgreement = None,
    dataset_config: DatasetConfig = None,
    text_column: TextColumns = None,
    label_column: LabelColumn = None,
    max_length: MaxLength = 128,
    transfer_set: UnlabeledTexts = None,
    batch_sizes: BatchSizes = "1,32",
    lengths: Lengths = "32,128",
    as_json: PrintsJson = False,
) -> None:
    """Compress a classifier of texts: plan, trim the vocabulary, truncate, distill, quantize, and compare with the teacher.

    Each step leaves an ordinary folder: teacher-outputs, start (the untrained student), student, export. The teacher labels
    with its whole vocabulary. After an interruption the same command resumes.

    All other options are training arguments, as for `hf-distill train`, such as --max_steps 500 or --learning_rate 1e-4.

    Example: hf-distill compress outputs/teacher --dataset movie_reviews --target 3x --output-dir compressed
    """
    from hf_distill.compression.compress import compress as run
    from hf_distill.compression.compress import workspace_of
    from hf_distill.compression.material import CompressionMaterial, CompressionRequest
    from hf_distill.compression.plan import STUDENT, plan_compression, target_of
    from hf_distill.evaluation.comparison import LatencySettings
    from hf_distill.exporting.settings import ExportSettings
    from hf_distill.pretrained.progress_bars import without_progress_bars

    times, timed = target_of(target), LatencySettings(numbers(batch_sizes), numbers(lengths))
    checked_choices(layers, vocabulary, number_format)
    ExportSettings(require_agreement=require_agreement)
    args = training_arguments(context, output_dir / STUDENT, *CHECKPOINTS)
    request = CompressionRequest(
        teacher, dataset, output_dir, args, dataset_config, text_column, label_column, transfer_set, max_length
    )
    say = remark(as_json)
    with without_progress_bars():
        material = CompressionMaterial(request)
        plan = plan_compression(material, times, layers, vocabulary, number_format, say)
        workspace_of(material, plan)
        if not as_json:
            _show(plan)
        found = None if plan_only else run(material, plan, timed, say, require_agreement=require_agreement)
    if as_json:
        print_json({"plan": plan.as_dict(), "evaluation": found})
    elif not plan_only:
        _report(found, output_dir)


def _show(plan: CompressionPlan) -> None:
    from hf_distill.cli.consoles import table_console
    from hf_distill.evaluation.fitted_table import FittedColumn, FittedTable

    steps, whole = plan.steps, plan.steps[0].parameters
    columns = [
        FittedColumn("step", [f"{step.name}: {step.what}" for step in steps], "left"),
        FittedColumn("why", [step.why for step in steps], "left"),
        FittedColumn("parameters", [f"{step.parameters / 1e6:.2f}M" for step in steps]),
        FittedColumn("smaller", [f"{whole / step.parameters:.1f}x" for step in steps]),
        FittedColumn("MB", [f"{step.megabytes:.1f}" for step in steps]),
        FittedColumn("folder", [step.folder or "" for step in steps], "left"),
    ]
    title = f"Plan: {plan.target:g}x fewer parameters"
    table_console().print(FittedTable(columns, title, "sizes by calculation", named_by=2, separator="; "))


def _report(found: dict[str, Any] | None, folder: Path) -> None:
    from hf_distill.cli.consoles import table_console
    from hf_distill.evaluation.report import report_table

    if found is None:
        typer.echo("Not compared: no split has labels.")
    else:
        table_console().print(report_table(found))
        typer.echo(f"Compared on the split {printable(found['data']['split'])}, by which nothing was chosen.")
    typer.echo(f"Student: {folder / 'student'} (with its record and card where it was trained)")
    if (folder / "export").is_dir():
        typer.echo(f"Export: {folder / 'export'} (serves without torch)")

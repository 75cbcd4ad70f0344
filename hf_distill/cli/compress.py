"""`hf-distill compress`: a teacher compressed to a target in one command."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hf_distill.cli.evaluate import numbers, without_progress_bars
from hf_distill.cli.json_output import print_json
from hf_distill.cli.options import DatasetConfig, DatasetName, LabelColumn, MaxLength, TextColumns, UnlabeledTexts
from hf_distill.cli.train import training_arguments
from hf_distill.extras import require_extra
from hf_distill.text.plain import printable

if TYPE_CHECKING:
    from hf_distill.compression.plan import CompressionPlan

# A training that is interrupted goes on from the last fifth.
CHECKPOINTS = ("--save_steps", "0.2", "--save_total_limit", "1")
Teacher = Annotated[str, typer.Argument(help="A trained classifier of texts: a folder, or an id on the Hub.")]


def compress(
    context: typer.Context,
    teacher: Teacher,
    dataset: DatasetName,
    target: Annotated[str, typer.Option(help="How many times fewer parameters than the teacher, such as 10x.")],
    output_dir: Annotated[
        Path, typer.Option(help="Folder for teacher outputs, start, student, export and comparison.")
    ],
    plan_only: Annotated[
        bool, typer.Option("--plan", "--dry-run", help="Print the plan, with sizes by calculation, and do nothing.")
    ] = False,
    layers: Annotated[
        str | None,
        typer.Option(
            help="The teacher's layers that the student starts from: bottom, top or uniform. Default: uniform of a teacher "
            "of more than 6 layers, else bottom."
        ),
    ] = None,
    vocabulary: Annotated[
        str | None,
        typer.Option(help="full, texts (the tokens of the texts), or of these at most so many. Default: texts."),
    ] = None,
    number_format: Annotated[
        str, typer.Option("--format", help="The file to deploy: onnx-int8, onnx-fp16, onnx or fp32 (no export).")
    ] = "onnx-int8",
    require_agreement: Annotated[
        float | None, typer.Option(help="Refuse an export that gives fewer of the student's predictions, such as 0.99.")
    ] = None,
    dataset_config: DatasetConfig = None,
    text_column: TextColumns = None,
    label_column: LabelColumn = None,
    max_length: MaxLength = 128,
    transfer_set: UnlabeledTexts = None,
    batch_sizes: Annotated[str, typer.Option(help="Sequences per timed forward pass, separated by commas.")] = "1,32",
    lengths: Annotated[str, typer.Option(help="Tokens per timed sequence, separated by commas.")] = "32,128",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
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


def checked_choices(layers: str | None, vocabulary: str | None, number_format: str) -> None:
    """Refuse unknown names before the models are loaded.

    Args:
        layers: The teacher's layers, or None.
        vocabulary: The vocabulary, or None.
        number_format: The format of the file.

    Raises:
        ValueError: There is no such name.
        ImportError: A package that makes files of the format is not installed.
    """
    from hf_distill.compression.candidate import DEPLOYED
    from hf_distill.compression.vocabularies import checked_vocabulary
    from hf_distill.students.initialization import LayerSelection
    from hf_distill.text.suggestions import choice, suggestion

    if layers is not None:
        choice(LayerSelection, layers, "layers")
    if vocabulary is not None:
        checked_vocabulary(vocabulary)
    if number_format not in DEPLOYED:
        raise ValueError(
            f"format must be one of {', '.join(DEPLOYED)}, got {number_format!r}{suggestion(number_format, DEPLOYED)}"
        )
    if number_format != DEPLOYED[0]:
        for module in ("onnx", "onnxruntime", "onnxscript"):
            require_extra(module, "onnx", f"format {number_format!r}")


def remark(as_json: bool) -> Callable[[str], None]:
    """A function that prints a remark: to standard error where standard output is JSON."""
    return lambda text: typer.echo(printable(text), err=as_json)


def _show(plan: CompressionPlan) -> None:
    from rich.console import Console
    from rich.table import Table

    first = plan.steps[0]
    table = Table(title=f"Plan: {plan.target:g}x fewer parameters", caption="sizes by calculation")
    for heading in ("step", "what", "why"):
        table.add_column(heading, overflow="fold")
    for heading in ("parameters", "smaller", "MB"):
        table.add_column(heading, justify="right")
    table.add_column("folder")
    for step in plan.steps:
        size = f"{step.parameters / 1e6:.2f}M", f"{first.parameters / step.parameters:.1f}x", f"{step.megabytes:.1f}"
        table.add_row(step.name, step.what, step.why, *size, step.folder or "")
    Console(width=None if Console().is_terminal else 160).print(table)


def _report(found: dict[str, Any] | None, folder: Path) -> None:
    from rich.console import Console

    from hf_distill.evaluation.report import report_table

    if found is None:
        typer.echo("Not compared: no split has labels.")
    else:
        Console(width=None if Console().is_terminal else 160).print(report_table(found))
        typer.echo(f"Compared on the split {printable(found['data']['split'])}, by which nothing was chosen.")
    typer.echo(f"Student: {folder / 'student'} (with its record and card where it was trained)")
    if (folder / "export").is_dir():
        typer.echo(f"Export: {folder / 'export'} (serves without torch)")

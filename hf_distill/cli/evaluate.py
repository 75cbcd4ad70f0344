"""`hf-distill evaluate`: compare students with their teacher."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hf_distill.cli.json_output import print_json
from hf_distill.cli.options import (
    BatchSizes,
    CascadePoints,
    CascadeSplit,
    DatasetConfig,
    DatasetName,
    LabelColumn,
    Lengths,
    MaxLength,
    MeasuresLatency,
    PrintsJson,
    TextColumns,
    Threads,
)
from hf_distill.text.plain import printable

if TYPE_CHECKING:
    from rich.console import Console

_OF_FORMATS = ("latency", "megabytes", "megabytes_by_format")  # in the rows of a comparison
Formats = Annotated[
    str, typer.Option(help="Some of fp32, bf16, int8, onnx, onnx-fp16 and onnx-int8, separated by commas.")
]
PrintsClasses = Annotated[bool, typer.Option("--by-class", help="Also print the F1 of each class, or type of entity.")]


def evaluate(
    students: Annotated[list[str], typer.Argument(help="Student folders, or ids on the Hub.")],
    dataset: DatasetName,
    teacher: Annotated[str | None, typer.Option(help="Their teacher: a folder, or an id on the Hub.")] = None,
    dataset_config: DatasetConfig = None,
    split: Annotated[str | None, typer.Option(help="A split of --dataset. Default: test, else validation.")] = None,
    text_column: TextColumns = None,
    label_column: LabelColumn = None,
    max_examples: Annotated[
        int | None, typer.Option(min=2, help="Evaluate on at most so many rows, drawn at random.")
    ] = None,
    max_length: MaxLength = 128,
    by_class: PrintsClasses = False,
    latency: MeasuresLatency = True,
    formats: Formats = "fp32",
    batch_sizes: BatchSizes = "1,32",
    lengths: Lengths = "32,128",
    runs: Annotated[int, typer.Option(min=1, help="The most timed passes of each size.")] = 50,
    threads: Threads = None,
    device: Annotated[str, typer.Option(help="Where to run: cpu, cuda, ...")] = "cpu",
    cascade: CascadePoints = None,
    cascade_split: CascadeSplit = "validation",
    output_dir: Annotated[Path | None, typer.Option(help="Folder for evaluation.json and evaluation.png.")] = None,
    write_cards: Annotated[
        bool,
        typer.Option("--write-cards", help="Replace the comparison in each student's run.json, and render its card."),
    ] = False,
    as_json: PrintsJson = False,
) -> None:
    """Compare students with their teacher on labeled data, or embeddings on bare texts: quality, fidelity, size and latency.

    Example: hf-distill evaluate outputs/student-a outputs/student-b --teacher outputs/teacher --dataset movie_reviews
    """
    import torch
    from rich.console import Console

    from hf_distill.evaluation.comparison import LatencySettings
    from hf_distill.pretrained.progress_bars import without_progress_bars
    from hf_distill.scripts.datasets import label_column_for, load_splits, sample, with_columns
    from hf_distill.scripts.evaluated_models import load_evaluated_models

    settings = LatencySettings(numbers(batch_sizes), numbers(lengths), _formats(formats), runs)
    if threads is not None:
        torch.set_num_threads(threads)
    splits = load_splits(dataset, dataset_config)
    label_column = label_column_for(students[0], splits, label_column)
    parts = {
        key: sample(with_columns(part, text_column, label_column), max_examples)
        for key, part in _chosen(splits, split, None if cascade is None else cascade_split).items()
    }
    console = Console(stderr=True)
    with console.status("") as status, without_progress_bars():
        found = _compared(
            load_evaluated_models(teacher, students), parts, Path(dataset).stem, cascade,
            latency=settings if latency else None, max_length=max_length, device=device,
            progress=lambda doing: status.update(literal(doing)),
        )  # fmt: skip
    _report(found, output_dir, as_json, by_class)
    if write_cards:
        _write_cards(students, found, console)


def _chosen(splits: dict[str, Any], split: str | None, fitted: str | None) -> dict[str, Any]:
    """The split to compare on, and after it the one that a cascade is fitted on, if there is one."""
    from hf_distill.scripts.datasets import choose_split, fitting_split

    name, rows = choose_split(splits, split)
    return {name: rows} | ({} if fitted is None else {fitted: fitting_split(splits, name, fitted)})


def _compared(models: Any, splits: dict[str, Any], name: str, points: float | None, **options: Any) -> dict[str, Any]:
    """The comparison of models, also in cascades that may lose so many points, if they are not None."""
    from hf_distill.evaluation.cascade import compare_with_cascades
    from hf_distill.evaluation.comparison import compare

    if points is not None:
        return compare_with_cascades(models, splits, name, points / 100, **options)
    ((split, rows),) = splits.items()
    return compare(models, rows, name, split, **options)


def literal(text: str) -> str:
    """The text with control characters written out and rich's markup escaped."""
    from rich.markup import escape

    return escape(printable(text))


def _print_tables(console: Console, found: dict[str, Any]) -> None:
    """Print the table of the models, and where they were compared in several formats, speed and size in another one."""
    from hf_distill.evaluation.report import report_table
    from hf_distill.evaluation.rows_by_format import formats_of, rows_by_format

    formats = formats_of(found)
    if all(len(each) == 1 for each in formats.values()):
        console.print(report_table(found))
        return
    quality = [{name: value for name, value in row.items() if name not in _OF_FORMATS} for row in found["rows"]]
    console.print(report_table(found | {"rows": quality}))
    console.print(report_table(rows_by_format(found, formats)))


def _report(found: dict[str, Any], output_dir: Path | None, as_json: bool, by_class: bool) -> None:
    """Print the comparison as tables or JSON, and save it as JSON and as a plot."""
    from hf_distill.cli.consoles import table_console
    from hf_distill.evaluation.cascade import cascade_table
    from hf_distill.evaluation.class_scores import NO_CLASSES, class_table
    from hf_distill.evaluation.plots import report_plot
    from hf_distill.files import atomic_write

    if as_json:
        print_json(found)
    else:
        console = table_console()
        _print_tables(console, found)
        if "cascade" in found["rows"][-1]:
            console.print(cascade_table(found))
        if by_class:
            console.print(class_table(found) or NO_CLASSES)
    if output_dir is not None:
        output_dir.mkdir(parents=True, exist_ok=True)
        atomic_write(output_dir / "evaluation.json", json.dumps(found, indent=2) + "\n")
        report_plot(found, output_dir / "evaluation.png")


def _write_cards(students: list[str], found: dict[str, Any], console: Console) -> None:
    """Save the results, whose last rows are the students', in the record and the card of each student that has a record."""
    from hf_distill.publishing.model_card import add_evaluation
    from hf_distill.publishing.run_record import RUN_RECORD_NAME

    for folder, row in zip(students, found["rows"][-len(students) :], strict=True):
        if Path(folder, RUN_RECORD_NAME).exists():
            console.print(f"card: {add_evaluation(folder, found, row['name'])}", markup=False)
        else:
            console.print(f"{folder} has no {RUN_RECORD_NAME}: no card", markup=False)


def numbers(text: str) -> tuple[int, ...]:
    """The positive whole numbers of an option, which are separated by commas."""
    parts = text.split(",")
    if not all(part.strip().isdigit() and int(part) > 0 for part in parts):
        raise typer.BadParameter(f"must be positive whole numbers separated by commas, got {text!r}")
    return tuple(map(int, parts))


def _formats(text: str) -> tuple[str, ...]:
    from hf_distill.evaluation.formats import Format

    parts, allowed = tuple(part.strip() for part in text.split(",")), [each.value for each in Format]
    if not set(parts) <= set(allowed):
        raise typer.BadParameter(f"formats must be among {', '.join(allowed)}, got {text!r}")
    return parts

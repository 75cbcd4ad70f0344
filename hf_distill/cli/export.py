"""`hf-distill export`: a student as ONNX files that need no torch, compared with it on real rows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from hf_distill.cli.evaluate import literal, numbers
from hf_distill.cli.json_output import print_json
from hf_distill.cli.options import (
    BatchSizes,
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


def export(
    student: Annotated[str, typer.Argument(help="The student: a folder, or an id on the Hub.")],
    dataset: DatasetName,
    output_dir: Annotated[Path, typer.Option(help="Folder for the export.")],
    formats: Annotated[
        str, typer.Option(help="Some of onnx, onnx-fp16, onnx-int8 and onnx-int8-static, separated by commas.")
    ] = "onnx,onnx-int8",
    require_agreement: Annotated[
        float | None, typer.Option(help="Refuse a format that gives fewer of the student's predictions, such as 0.99.")
    ] = None,
    keep_layers: Annotated[
        str | None, typer.Option(help="Layers that int8 leaves in fp32; auto: as few as --require-agreement needs.")
    ] = None,
    dataset_config: DatasetConfig = None,
    split: Annotated[str | None, typer.Option(help="The split to compare on. Default: test, else validation.")] = None,
    calibration_split: Annotated[
        str | None, typer.Option(help="The split that int8 is calibrated on. Default: train if there is one.")
    ] = None,
    text_column: TextColumns = None,
    label_column: LabelColumn = None,
    max_examples: Annotated[int, typer.Option(min=2, help="Compare on at most so many rows, drawn at random.")] = 1000,
    max_length: MaxLength = 128,
    latency: MeasuresLatency = True,
    batch_sizes: BatchSizes = "1,32",
    lengths: Lengths = "32,128",
    threads: Threads = None,
    write_card: Annotated[
        bool, typer.Option(help="Save the results in the student's run.json, and render its model card.")
    ] = True,
    as_json: PrintsJson = False,
) -> None:
    """Export a student as ONNX files, and compare size, quality, agreement and latency of every format with the student's.

    Example: hf-distill export outputs/student --dataset movie_reviews --output-dir exports/student --require-agreement 0.9
    """
    import torch
    from rich.console import Console

    from hf_distill.evaluation.comparison import LatencySettings
    from hf_distill.exporting.settings import AUTO
    from hf_distill.exporting.student import export_student
    from hf_distill.pretrained.progress_bars import without_progress_bars
    from hf_distill.scripts.datasets import choose_split, label_column_for, load_splits, sample, splits_with_columns

    if threads is not None:
        torch.set_num_threads(threads)
    splits = load_splits(dataset, dataset_config)
    splits = splits_with_columns(splits, text_column, label_column_for(student, splits, label_column))
    split, rows = choose_split(splits, split)
    wanted = calibration_split or ("train" if "train" in splits else split)
    names = [each.strip() for each in (keep_layers or "").split(",") if each.strip()]
    with Console(stderr=True).status("") as status, without_progress_bars():
        report = export_student(
            student, output_dir, sample(rows, max_examples), calibration_rows=sample(choose_split(splits, wanted)[1], 256),
            data=(Path(dataset).stem, split), write_card=write_card, progress=lambda doing: status.update(literal(doing)),
            formats=tuple(each.strip() for each in formats.split(",")), require_agreement=require_agreement,
            keep_layers=AUTO if names == [AUTO] else names, max_length=max_length,
            latency=LatencySettings(numbers(batch_sizes), numbers(lengths)) if latency else None,
        )  # fmt: skip
    _print(report, output_dir, as_json)


def _print(report: dict[str, Any], folder: Path, as_json: bool) -> None:
    from hf_distill.cli.consoles import table_console
    from hf_distill.exporting.report import export_table

    if as_json:
        print_json(report)
    else:
        table_console().print(export_table(report))
        typer.echo(f"Files: {folder} (docs/exporting.md has the lines that serve them without torch)")

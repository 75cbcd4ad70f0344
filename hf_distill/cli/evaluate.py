"""`hf-distill evaluate`: students beside their teacher."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hf_distill.cli.json_output import print_json
from hf_distill.cli.options import DatasetConfig, DatasetName, LabelColumn, MaxLength, TextColumns
from hf_distill.text.plain import printable

if TYPE_CHECKING:
    from rich.console import Console

    from hf_distill.evaluation.comparison import EvaluatedModel


def evaluate(
    students: Annotated[list[str], typer.Argument(help="Student folders, or ids on the Hub.")],
    dataset: DatasetName,
    teacher: Annotated[str | None, typer.Option(help="Their teacher: a folder, or an id on the Hub.")] = None,
    dataset_config: DatasetConfig = None,
    split: Annotated[str | None, typer.Option(help="Of --dataset. Default: test, else validation.")] = None,
    text_column: TextColumns = None,
    label_column: LabelColumn = None,
    max_examples: Annotated[int | None, typer.Option(min=2, help="Only so many, drawn at random.")] = None,
    max_length: MaxLength = 128,
    latency: Annotated[bool, typer.Option(help="Measure how long a pass takes.")] = True,
    formats: Annotated[str, typer.Option(help="Any of fp32, bf16, int8 and onnx, with commas between them.")] = "fp32",
    batch_sizes: Annotated[str, typer.Option(help="Sequences per timed pass.")] = "1,32",
    lengths: Annotated[str, typer.Option(help="Tokens per sequence of a timed pass.")] = "32,128",
    runs: Annotated[int, typer.Option(min=1, help="Timed passes of each, at most.")] = 50,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads. Default: as torch chooses.")] = None,
    device: Annotated[str, typer.Option(help="Where to run: cpu, cuda, ...")] = "cpu",
    output_dir: Annotated[Path | None, typer.Option(help="Leave evaluation.json and evaluation.png here.")] = None,
    write_cards: Annotated[
        bool, typer.Option("--write-cards", help="Keep the results in each student's run.json, and render its card.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Compare students with their teacher on labeled data: quality, fidelity, calibration, size and latency.

    Example: hf-distill evaluate outputs/student-a outputs/student-b --teacher outputs/teacher --dataset movie_reviews
    """
    import torch
    from rich.console import Console

    from hf_distill.evaluation.comparison import LatencySettings, compare
    from hf_distill.evaluation.report import report_plot, report_table
    from hf_distill.files import atomic_write
    from hf_distill.scripts.datasets import choose_split, load_splits, with_columns

    settings = LatencySettings(_numbers(batch_sizes), _numbers(lengths), _formats(formats), runs)
    if threads is not None:
        torch.set_num_threads(threads)
    split, rows = choose_split(load_splits(dataset, dataset_config), split)
    rows = with_columns(rows, text_column, label_column)
    if max_examples is not None and max_examples < len(rows):
        rows = rows.shuffle(seed=0).select(range(max_examples))
    console = Console(stderr=True)
    with console.status("") as status, _without_progress_bars():
        found = compare(
            _contestants(teacher, students), rows, Path(dataset).stem, split, settings if latency else None,
            max_length=max_length, device=device, progress=lambda doing: status.update(_literal(doing)),
        )  # fmt: skip
    if as_json:
        print_json(found)
    else:
        shown = Console()
        # A log file counts as 80 columns, which would cut the table.
        Console(width=None if shown.is_terminal else 160).print(report_table(found))
    if output_dir is not None:
        output_dir.mkdir(parents=True, exist_ok=True)
        atomic_write(output_dir / "evaluation.json", json.dumps(found, indent=2) + "\n")
        report_plot(found, output_dir / "evaluation.png")
    if write_cards:
        _write_cards(students, found, console)


def _literal(text: str) -> str:
    from rich.markup import escape

    return escape(printable(text))


def names_of(places: list[str]) -> list[str]:
    """How models are shown: by the last part of their places, or the last two where that tells them apart."""
    short = [Path(place).name for place in places]
    return short if len(set(short)) == len(short) else ["/".join(Path(place).parts[-2:]) for place in places]


def _contestants(teacher: str | None, students: list[str]) -> list[EvaluatedModel]:
    from hf_distill.evaluation.comparison import TEACHER
    from hf_distill.evaluation.loading import load_evaluated_model

    places = [*([teacher] if teacher else []), *students]
    names = names_of(places)
    roles = [TEACHER if teacher and index == 0 else None for index in range(len(places))]
    return [load_evaluated_model(place, name, role) for place, name, role in zip(places, names, roles, strict=True)]


def _write_cards(students: list[str], found: dict[str, Any], console: Console) -> None:
    """The students are the last rows; those without a record have no card."""
    from hf_distill.publishing.model_card import add_evaluation
    from hf_distill.publishing.run_record import RUN_RECORD_NAME

    for folder, row in zip(students, found["rows"][-len(students) :], strict=True):
        if Path(folder, RUN_RECORD_NAME).exists():
            console.print(f"card: {add_evaluation(folder, found, row['name'])}", markup=False)
        else:
            console.print(f"{folder} has no {RUN_RECORD_NAME}: no card", markup=False)


def _numbers(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.strip().isdigit() and int(part) > 0 for part in parts):
        raise typer.BadParameter(f"must be positive whole numbers with commas between them, got {text!r}")
    return tuple(map(int, parts))


def _formats(text: str) -> tuple[str, ...]:
    from hf_distill.evaluation.formats import Format

    parts, allowed = tuple(part.strip() for part in text.split(",")), [each.value for each in Format]
    if not set(parts) <= set(allowed):
        raise typer.BadParameter(f"formats must be among {', '.join(allowed)}, got {text!r}")
    return parts


def _without_progress_bars():
    """Those of datasets and transformers, which would run into the table."""
    from contextlib import contextmanager

    import datasets
    import transformers

    @contextmanager
    def quiet():
        datasets.disable_progress_bars()
        transformers.logging.disable_progress_bar()
        try:
            yield
        finally:
            datasets.enable_progress_bars()
            transformers.logging.enable_progress_bar()

    return quiet()

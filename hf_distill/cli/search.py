"""`hf-distill search`: the best student of a teacher under limits, on this machine."""

from __future__ import annotations

import re
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
    DatasetConfig,
    DatasetName,
    LabelColumn,
    MaxLength,
    PrintsJson,
    TextColumns,
    UnlabeledTexts,
)
from hf_distill.cli.train import training_arguments

if TYPE_CHECKING:
    from hf_distill.compression.search import Search, SearchResult
    from hf_distill.compression.search_space import SearchSpace


MaxLatency = Annotated[float | None, typer.Option(help="The largest median time of one text, in milliseconds.")]
MaxParameters = Annotated[str | None, typer.Option(help="The most parameters, such as 5M or 800000.")]
MinAccuracy = Annotated[
    float | None,
    typer.Option(help="The smallest metric on validation, from 0 to 1; the fastest student that reaches it is best."),
]
Depths = Annotated[
    str | None,
    typer.Option(help="Numbers of layers, separated by commas. Default: a sixth, a third and half of the teacher's."),
]
Widths = Annotated[
    str | None, typer.Option(help="Hidden sizes. Default: the teacher's, and smaller ones of 128, 256, 512 and 768.")
]
VocabularyNames = Annotated[
    str, typer.Option(help="Some of full, texts (the tokens of the texts), or of these at most so many.")
]
InitializationNames = Annotated[
    str | None,
    typer.Option(help="Some of truncated, width, embeddings and random. Default: the first that fits a shape."),
]
FormatNames = Annotated[str, typer.Option(help="Some of onnx-int8, onnx-fp16, onnx and fp32, separated by commas.")]
ReductionFactor = Annotated[
    int, typer.Option(min=2, help="One student in so many is trained for as many times more steps.")
]
Length = Annotated[int, typer.Option(min=1, help="Tokens of the timed text.")]
Runs = Annotated[int, typer.Option(min=1, help="The most timed passes.")]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads. Default: PyTorch's.")]


def search(
    context: typer.Context,
    teacher: Teacher,
    dataset: DatasetName,
    output_dir: OutputFolder,
    max_latency_ms: MaxLatency = None,
    max_parameters: MaxParameters = None,
    min_accuracy: MinAccuracy = None,
    plan_only: PlanOnly = False,
    depths: Depths = None,
    widths: Widths = None,
    vocabularies: VocabularyNames = "texts",
    initializations: InitializationNames = None,
    formats: FormatNames = "onnx,onnx-int8",
    layers: StartLayers = None,
    reduction_factor: ReductionFactor = 3,
    dataset_config: DatasetConfig = None,
    text_column: TextColumns = None,
    label_column: LabelColumn = None,
    max_length: MaxLength = 128,
    transfer_set: UnlabeledTexts = None,
    length: Length = 32,
    runs: Runs = 50,
    threads: Threads = None,
    as_json: PrintsJson = False,
) -> None:
    """Search for the best student under a limit of latency, parameters or accuracy, on this machine.

    Candidates that are too large, or too slow as predicted from layers that are measured, are never trained. The others are
    trained by successive halving on outputs of the teacher that are recorded once, and chosen on the split validation; the
    best one is compared with the teacher on the split test. After an interruption the same command resumes.

    All other options are training arguments, as for `hf-distill train`; --max_steps is the length of the longest training.

    Example: hf-distill search outputs/teacher --dataset movie_reviews --max-latency-ms 50 --output-dir searched
    """
    import torch

    from hf_distill.compression.material import CompressionMaterial, CompressionRequest
    from hf_distill.compression.search import Search, SearchSettings
    from hf_distill.compression.search_space import Limits
    from hf_distill.evaluation.comparison import LatencySettings
    from hf_distill.pretrained.progress_bars import without_progress_bars

    if threads is not None:
        torch.set_num_threads(threads)
    limits = Limits(max_latency_ms, _parameters(max_parameters), min_accuracy)
    args = training_arguments(context, output_dir, *CHECKPOINTS)
    request = CompressionRequest(
        teacher, dataset, output_dir, args, dataset_config, text_column, label_column, transfer_set, max_length
    )
    space = _space(depths, widths, vocabularies, initializations, formats, layers)
    with without_progress_bars():
        material = CompressionMaterial(request)
        chosen = SearchSettings(
            limits, space(material.teacher.model.config.num_hidden_layers), LatencySettings((1,), (length,), runs=runs),
            reduction_factor,
        )  # fmt: skip
        found = Search(material, chosen, lambda folder, steps: _arguments_of(context, folder, steps), remark(as_json))
        _report(found, None if plan_only else found.run(), as_json)


def _arguments_of(context: typer.Context, folder: Path, steps: int) -> Any:
    """The arguments of one of several trainings, each of which needs its own object."""
    args = training_arguments(context, folder, *CHECKPOINTS)
    args.max_steps = steps
    return args


def _parameters(text: str | None) -> int | None:
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kKmM]?)", text.strip().replace(",", ""))
    if match is None:
        raise ValueError(f"max_parameters must be a number, such as 800000 or 5M, got {text!r}")
    return int(float(match[1]) * {"": 1, "k": 1_000, "m": 1_000_000}[match[2].lower()])


def _space(
    depths: str | None,
    widths: str | None,
    vocabularies: str,
    initializations: str | None,
    formats: str,
    layers: str | None,
) -> Any:
    """A function from the teacher's number of layers to the candidates that the options name."""
    from hf_distill.compression.plan import default_selection
    from hf_distill.compression.search_space import SearchSpace
    from hf_distill.students.create import Initialization
    from hf_distill.text.suggestions import choice

    named = None if initializations is None else _words(initializations)
    for each in named or ():
        if choice(Initialization, each, "initialization") is Initialization.PRETRAINED:
            raise ValueError(
                "a published checkpoint has a vocabulary of its own: initializations cannot have 'pretrained'"
            )
    for vocabulary in _words(vocabularies):
        for each in _words(formats):
            checked_choices(layers, vocabulary, each)

    def space(teacher_layers: int) -> SearchSpace:
        return SearchSpace(
            None if depths is None else numbers(depths), None if widths is None else numbers(widths),
            _words(vocabularies), named, _words(formats), layers or default_selection(teacher_layers).value,
        )  # fmt: skip

    return space


def _words(text: str) -> list[str]:
    return [each.strip() for each in text.split(",") if each.strip()]


def _report(search: Search, result: SearchResult | None, as_json: bool) -> None:
    from hf_distill.cli.consoles import table_console
    from hf_distill.evaluation.report import report_table

    left = [each for each in search.sizes if each not in search.feasible]
    if as_json:
        content: dict[str, Any] = {"candidates": [each.as_dict() for each in search.feasible]}
        found = {} if result is None else {"best": result.best.as_dict(), "evaluation": result.comparison}
        print_json(content | {"excluded": [each.as_dict() for each in left]} | found)
        return
    console = table_console()
    if result is None:
        _list_candidates(search, console)
    if left:
        typer.echo(f"Never trained, because a limit rules them out: {', '.join(each.name for each in left)}")
    if result is None:
        return
    folder, metric = search.material.request.output_dir, result.candidates["metric"]
    for name, (steps, value) in result.stopped.items():
        typer.echo(
            f"Stopped after {steps:,} steps: {name} ({metric} {value:.3f} on {result.candidates['data']['split']})"
        )
    console.print(report_table(result.candidates))
    typer.echo(f"Chosen on {result.candidates['data']['split']}: {result.best.student} in {result.best.number_format}")
    console.print(report_table(result.comparison))
    typer.echo(f"Student: {folder / 'student'} (with record and card); plot: {folder / 'search.png'}")


def _list_candidates(search: Search, console: Any) -> None:
    from hf_distill.evaluation.fitted_table import FittedColumn, FittedTable

    is_predicted = search.settings.limits.max_latency_ms is not None or search.settings.limits.min_accuracy is not None
    chosen, sizes = search.feasible, [search.sizes[each] for each in search.feasible]
    columns = [
        FittedColumn("student", [each.student for each in chosen], "left"),
        FittedColumn("format", [each.number_format for each in chosen], "left"),
        FittedColumn("parameters", [f"{size.parameters / 1e6:.2f}M" for size in sizes]),
        FittedColumn(
            "MB", [f"{size.megabytes(each.number_format):.1f}" for each, size in zip(chosen, sizes, strict=True)]
        ),
    ]
    if is_predicted:
        columns.append(FittedColumn("predicted ms", [f"{search.predicted[each.name]:.2f}" for each in chosen]))
    console.print(FittedTable(columns, "Candidates, in the order in which they are trained", "by calculation"))

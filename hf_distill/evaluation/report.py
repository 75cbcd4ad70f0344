"""The table of a comparison for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hf_distill.evaluation.metric_text import (
    agreement_label,
    agreement_text,
    data_label,
    difference_text,
    examples_label,
    is_of_similarities,
    metric_label,
    value_text,
)
from hf_distill.evaluation.row_values import (
    latency_of,
    megabytes_of_row,
    megabytes_text,
    parameters_text,
    shortest_latency,
)
from hf_distill.extras import require_extra
from hf_distill.tasks import Task

if TYPE_CHECKING:
    from rich.table import Table

_OF_QUESTIONS = {"HasAns_f1": "f1 % with an answer", "NoAns_f1": "without one"}  # where some questions have none
_NEVER_CUT = ("question_answering", "image_classification")  # long passages are read in parts
_P = "p: exact McNemar test of which"
_OF_FORMATS = ("against teacher", "parameters", "fewer", "MB", "smaller", "ms", "p95 ms", "per second", "faster")
_OF_FIRST = ("fewer", "smaller", "faster")  # relative to the first row
# What a narrow table leaves out, of least use first; a table of formats is printed below one with the parameters.
_LEAST_USE = ("p", "ECE %", "fp32 MB")
_LEAST_USE_OF_FORMATS = ("p95 ms", "per second", "fewer", "parameters")


def report_table(evaluation: Mapping[str, Any]) -> Table:
    """A table of a comparison (see `compare`); sizes and latencies are also given relative to the first row, the teacher.

    Of rows of one format each (see `rows_by_format`) the files are compared as well. On a narrow console columns of least use
    are left out, and names have lines of their own.
    """
    require_extra("rich", "eval", "the table of a comparison")
    from hf_distill.evaluation.fitted_table import FittedColumn, FittedTable

    rows = evaluation["rows"]
    by_format = any("format" in row for row in rows)
    formats = list(dict.fromkeys(each["format"] for row in rows for each in row.get("latency", ())))
    sized = [name for name in formats or ["fp32"] if any(megabytes_of_row(row, name) is not None for row in rows)]
    headings, least_use = _headings(evaluation, formats, sized), [*_LEAST_USE, agreement_label(evaluation), "fewer"]
    if by_format:
        headings, least_use = [metric_label(evaluation), *_OF_FORMATS], [*_LEAST_USE_OF_FORMATS]
    headings = ["model", "format" if by_format else "trained on", *headings]
    lines = [
        _cells_of_format(evaluation, row) if by_format else _cells(evaluation, row, formats, sized) for row in rows
    ]
    notes = _notes(evaluation)
    columns = [
        FittedColumn(heading, cells, "right" if index > 1 else "left", notes.get(heading))
        for index, (heading, cells) in enumerate(zip(headings, zip(*lines, strict=True), strict=True))
        if any(cells)  # only classifiers have a calibration, for example
        and (len(rows) > 1 or heading not in _OF_FIRST)
    ]
    title = f"{data_label(evaluation['data'])}: {examples_label(evaluation)}{_limit(evaluation)}"
    left_out = [index for name in least_use for index, each in enumerate(columns) if each.heading == name]
    named_by = 1 if by_format else sum(each.heading in ("model", "trained on") for each in columns)
    return FittedTable(columns, title, _caption(evaluation), left_out, named_by)


def _headings(evaluation: Mapping[str, Any], formats: Sequence[str], sized: Sequence[str]) -> list[str]:
    return [
        metric_label(evaluation), *_OF_QUESTIONS.values(), "against teacher", "p", agreement_label(evaluation), "ECE %",
        "parameters", "fewer", *(f"{each} MB" for each in sized), *(f"{each} ms" for each in formats),
        *(["faster"] if formats else []),
    ]  # fmt: skip


def _limit(evaluation: Mapping[str, Any]) -> str:
    """What texts were cut to."""
    limit = evaluation.get("conditions", {}).get("max_length")
    return f", cut to {limit:,} tokens" if limit and evaluation["task"] not in _NEVER_CUT else ""


def _caption(evaluation: Mapping[str, Any]) -> str | None:
    rows, said = evaluation["rows"], []
    if any(row.get("against_teacher") for row in rows):
        of_teacher = ", whose own is 1 by definition" if is_of_similarities(evaluation) else ""
        said = [f"difference from the teacher{of_teacher}, with its 95 % interval"]
    if shortest := shortest_latency(rows[0]):
        tokens = f" x {shortest['sequence_length']} tokens" if shortest.get("sequence_length") else ""
        said.append(f"ms: median of {shortest['batch_size']}{tokens}")
    return "; ".join(said) or None


def _against_teacher(evaluation: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    """The difference from the teacher, with its interval."""
    against = row.get("against_teacher")
    return difference_text(evaluation, against) if against else ""


def _notes(evaluation: Mapping[str, Any]) -> dict[str, str]:
    """What the caption says of columns."""
    if evaluation["task"] != Task.TOKEN_CLASSIFICATION.value:
        return {"p": f"{_P} examples are right"}
    which = ", also outside of entities" if evaluation["metric"] == "f1" else ""
    return {"p": f"{_P} words are right", "agreement": f"agreement: of all words{which}"}


def _cells_of_format(evaluation: Mapping[str, Any], row: Mapping[str, Any]) -> list[str]:
    first = evaluation["rows"][0]
    times = [latency_of(row), latency_of(row, value="p95_ms")]
    rates = [each["sequences_per_second"] for each in row.get("latency", ()) if "sequences_per_second" in each]
    return [
        row["name"],
        row.get("format", "fp32"),
        value_text(evaluation, row["metrics"][evaluation["metric"]]),
        _against_teacher(evaluation, row),
        parameters_text(row["parameters"]),
        _times(first["parameters"], row["parameters"]),
        megabytes_text(megabytes_of_row(row)),
        _times(megabytes_of_row(first), megabytes_of_row(row)),
        *("" if time is None else f"{time:.2f}" for time in times),
        f"{max(rates):,.0f}" if rates else "",
        _times(latency_of(first), latency_of(row)),
    ]


def _cells(
    evaluation: Mapping[str, Any], row: Mapping[str, Any], formats: Sequence[str], sized: Sequence[str]
) -> list[str]:
    first, metric = evaluation["rows"][0], evaluation["metric"]
    against = row.get("against_teacher") or {}
    calibration = row["metrics"].get("expected_calibration_error")
    cells = [
        row["name"],
        {"teacher": "(teacher)", "other": ""}.get(row["role"], row["role"]),
        value_text(evaluation, row["metrics"][metric]),
        *(f"{row['metrics'][name]:.1f}" if name in row["metrics"] else "" for name in _OF_QUESTIONS),
        _against_teacher(evaluation, row),
        f"{against['mcnemar_p']:.2g}" if "mcnemar_p" in against else "",
        agreement_text(row),
        f"{100 * calibration:.1f}" if calibration is not None else "",
        parameters_text(row["parameters"]),
        _times(first["parameters"], row["parameters"]),
        *(megabytes_text(megabytes_of_row(row, each)) for each in sized),
        *("" if latency_of(row, each) is None else f"{latency_of(row, each):.2f}" for each in formats),
    ]
    return [*cells, *([_times(latency_of(first), latency_of(row))] if formats else [])]


def _times(whole: float | None, part: float | None) -> str:
    return f"{whole / part:.1f}x" if whole and part else ""

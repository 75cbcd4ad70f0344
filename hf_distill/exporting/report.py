"""The report of an export as a table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hf_distill.evaluation.metric_text import data_label, metric_label, quality_metric, value_text
from hf_distill.evaluation.row_values import megabytes_text
from hf_distill.extras import require_extra

if TYPE_CHECKING:
    from rich.table import Table


def export_table(report: Mapping[str, Any]) -> Table:
    """A table of an export (see `export_student`): size, quality, agreement and latency of every format."""
    require_extra("rich", "eval", "the table of an export")
    from hf_distill.evaluation.fitted_table import FittedColumn, FittedTable

    data, metric = report["data"], quality_metric(report)
    timed = [(each["batch_size"], each["sequence_length"]) for each in report["rows"][0].get("latency", ())]
    headings = ["format", "file", "MB", *([metric_label(report)] if metric else []), "agreement %", "layers in fp32"]
    headings += [f"ms, {size} x {length}" if length else f"ms, {size}" for size, length in timed]
    lines = zip(*(_cells(report, row) for row in report["rows"]), strict=True)
    return FittedTable(
        [
            FittedColumn(heading, cells, "left" if heading in ("format", "file") else "right")
            for heading, cells in zip(headings, lines, strict=True)
        ],
        title=f"{data_label(data)}: {data['examples']:,} examples",
        caption=_caption(report),
        least_use=[headings.index("file"), headings.index("layers in fp32")],
    )


def _caption(report: Mapping[str, Any]) -> str | None:
    agreement = "agreement: the mean cosine with the embeddings in torch"
    said = [
        *([agreement] if report["task"] == "sentence_embedding" else []),
        *(["rows that students learn from: no quality is shown"] if quality_metric(report) != report["metric"] else []),
    ]
    return "; ".join(said) or None


def _cells(report: Mapping[str, Any], row: Mapping[str, Any]) -> list[str]:
    metric, kept = quality_metric(report), row.get("kept_layers") or ()
    return [
        row["format"],
        row["file"] or "(torch)",
        megabytes_text(row["megabytes"]),
        *([value_text(report, row["metrics"][metric])] if metric else []),
        f"{100 * row['agreement']:.1f}" if "agreement" in row else "",
        str(len(kept)) if kept else "",
        *(f"{each['median_ms']:.2f}" for each in row.get("latency", ())),
    ]

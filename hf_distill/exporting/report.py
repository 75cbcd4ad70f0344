"""The report of an export as a table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hf_distill.evaluation.metric_text import data_label, metric_label, value_text
from hf_distill.evaluation.row_values import megabytes_text
from hf_distill.extras import require_extra
from hf_distill.text.plain import plain

if TYPE_CHECKING:
    from rich.table import Table


def export_table(report: Mapping[str, Any]) -> Table:
    """A table of an export (see `export_student`): size, quality, agreement and latency of every format."""
    require_extra("rich", "eval", "the table of an export")
    from rich.markup import escape
    from rich.table import Table

    data, metric = report["data"], report["metric"]
    is_encoder = report["task"] == "sentence_embedding"
    timed = [(each["batch_size"], each["sequence_length"]) for each in report["rows"][0].get("latency", ())]
    table = Table(
        title=escape(plain(f"{data_label(data)}: {data['examples']:,} examples")),
        caption="agreement: the mean cosine with the embeddings in torch" if is_encoder else None,
    )
    headings = ["file", "MB", *([metric_label(report)] if metric else []), "agreement %", "layers in fp32"]
    times = [f"ms, {size} x {length}" if length else f"ms, {size}" for size, length in timed]
    table.add_column("format", overflow="fold")
    for heading in [*headings, *times]:
        table.add_column(escape(plain(heading)), justify="left" if heading == "file" else "right", overflow="fold")
    for row in report["rows"]:
        table.add_row(*(escape(plain(cell)) for cell in _cells(report, row)))
    return table


def _cells(report: Mapping[str, Any], row: Mapping[str, Any]) -> list[str]:
    metric, kept = report["metric"], row.get("kept_layers") or ()
    return [
        row["format"],
        row["file"] or "(torch)",
        megabytes_text(row["megabytes"]),
        *([value_text(report, row["metrics"][metric])] if metric else []),
        f"{100 * row['agreement']:.1f}" if "agreement" in row else "",
        str(len(kept)) if kept else "",
        *(f"{each['median_ms']:.2f}" for each in row.get("latency", ())),
    ]

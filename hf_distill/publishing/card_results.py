"""The tables of a model card's results: quality, speed and exports, as Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hf_distill.evaluation.class_scores import rows_of_classes
from hf_distill.evaluation.metric_text import (
    agreement_label,
    agreement_text,
    difference_text,
    metric_label,
    metric_name,
    quality_metric,
    value_text,
)
from hf_distill.evaluation.metrics import perplexity
from hf_distill.evaluation.row_values import latency_of, megabytes_of_row, megabytes_text, parameters_text
from hf_distill.publishing.card_tables import MANY_CLASSES, counted
from hf_distill.publishing.run_record import RunRecord
from hf_distill.publishing.usage import pipeline_of
from hf_distill.text.markdown import Markdown, code, escaped, table

_SPLITS = {"eval": "validation", "test": "test"}  # keys: prefixes of metric names
LANGUAGE_MODELS = ("fill-mask", "text-generation")
_ROLES = {"teacher": "(teacher)", "other": ""}


def scores_of(record: RunRecord) -> dict[str, dict[str, float]]:
    """The quality metrics of a run, by metric and split; run times are left out."""
    found: dict[str, dict[str, float]] = {}
    for key, value in record.metrics.items():
        prefix, _, name = key.partition("_")
        if prefix in _SPLITS and is_result(name) and value is not None:
            found.setdefault(name, {})[_SPLITS[prefix]] = value
    return found


def is_result(name: str) -> bool:
    """Whether a metric measures quality, not run time or the number of examples."""
    return not name.endswith(("runtime", "per_second", "_time", "samples"))


def scores_table(record: RunRecord) -> Markdown | None:
    """The table of metrics by split, with the perplexity of language models; None if there are none."""
    scores = scores_of(record)
    if pipeline_of(record.student) in LANGUAGE_MODELS and record.student.get("has_trained_head") is not False:
        known = {name: value for name, value in record.metrics.items() if value is not None}
        needed = (
            "hard_label_loss" if record.is_distilled else "loss"
        )  # the loss of a distilled one is not of tokens alone
        values = {split: perplexity(known, name) for name, split in _SPLITS.items() if f"{name}_{needed}" in known}
        scores |= {"perplexity": values} if values else {}
    splits = [split for split in _SPLITS.values() if any(split in values for values in scores.values())]
    rows = [
        [escaped(metric_name(name)), *(f"{values[split]:.4g}" if split in values else "" for split in splits)]
        for name, values in scores.items()
    ]
    return table([["", *splits], *rows]) if rows else None


def comparison_table(evaluation: Mapping[str, Any]) -> Markdown:
    """The table of a comparison, with the student of the card in bold."""
    rows, metric = evaluation["rows"], evaluation["metric"]
    is_timed = all(latency_of(row) is not None for row in rows)
    headings = ["model", "trained on", metric_label(evaluation), "against the teacher", agreement_label(evaluation)]
    headings += ["parameters"]
    is_sized = any(megabytes_of_row(row) is not None for row in rows)
    headings += ["MB"] if is_sized else []
    lines: list[list[Any]] = [[*headings, *(["latency"] if is_timed else [])]]
    for index, row in enumerate(rows):
        against, name = row.get("against_teacher") or {}, escaped(row["name"])
        cells = [
            Markdown(f"**{name}** (this model)") if index == evaluation.get("this") else name,
            _ROLES.get(row["role"], row["role"]),
            value_text(evaluation, row["metrics"][metric]),
            Markdown(difference_text(evaluation, against)) if against else "",
            agreement_text(row),
            parameters_text(row["parameters"]),
            *([megabytes_text(megabytes_of_row(row))] if is_sized else []),
        ]
        lines.append([*cells, *([f"{latency_of(row):.2f} ms"] if is_timed else [])])
    return table(lines, left=2)


def class_table(evaluation: Mapping[str, Any], own: Mapping[str, Any]) -> Markdown | None:
    """The table of the student's F1 of each class, or type of entity, besides the teacher's; None if there is none."""
    teachers = [row for row in evaluation["rows"] if row["role"] == "teacher" and row is not own]
    lines = rows_of_classes(evaluation, [*teachers[:1], own])
    if not 1 < len(lines) <= MANY_CLASSES + 1:
        return None
    headings = [*lines[0][:2], *(["teacher's F1 %"] if teachers else []), "F1 %"]
    return table([headings, *lines[1:]])


def speed_table(evaluation: Mapping[str, Any], own: Mapping[str, Any]) -> Markdown | None:
    """The table of the student's latencies besides the teacher's; None if none was measured."""
    teachers = [row for row in evaluation["rows"] if row["role"] == "teacher" and row is not own]
    taught = {_measured_as(each): each["median_ms"] for row in teachers[:1] for each in row.get("latency", ())}
    sizes = {each["format"]: megabytes_of_row(own, each["format"]) for each in own.get("latency", ())}
    is_sized = any(size is not None for size in sizes.values())
    headings = [
        "format",
        *(["MB"] if is_sized else []),
        "batch",
        "length",
        "median ms",
        "p95 ms",
        "examples per second",
    ]
    rows = [
        [
            each["format"],
            *([megabytes_text(sizes[each["format"]])] if is_sized else []),
            each["batch_size"],
            each.get("sequence_length") or "",
            *(f"{each[name]:.2f}" if name in each else "" for name in ("median_ms", "p95_ms")),
            f"{each['sequences_per_second']:,.0f}" if "sequences_per_second" in each else "",
            *([f"{taught[_measured_as(each)]:.2f}" if _measured_as(each) in taught else ""] if taught else []),
        ]
        for each in own.get("latency", ())
    ]
    return table([[*headings, *(["teacher's median ms"] if taught else [])], *rows]) if rows else None


def exports_table(exports: Mapping[str, Any]) -> Markdown:
    """The table of a student's exports: size, quality, agreement with the student, and latency."""
    rows, metric = exports["rows"], quality_metric(exports)
    is_timed = all(row.get("latency") for row in rows)
    headings = ["format", "file", "MB", *([metric_label(exports)] if metric else []), "agreement", "in fp32"]
    lines: list[list[Any]] = [[*headings, *(["latency"] if is_timed else [])]]
    for row in rows:
        agreement, kept = row.get("agreement"), row.get("kept_layers") or ()
        quality = row.get("metrics", {}).get(metric)
        cells = [
            row["format"],
            code(row["file"]) if row["file"] else "",
            megabytes_text(row["megabytes"]),
            *(["" if quality is None else value_text(exports, quality)] if metric else []),
            "" if agreement is None else f"{100 * agreement:.1f} %",
            counted(len(kept), "layer") if kept else "",
        ]
        lines.append([*cells, *([f"{latency_of(row, row['format']):.2f} ms"] if is_timed else [])])
    return table(lines, left=2)


def _measured_as(latency: Mapping[str, Any]) -> tuple[Any, ...]:
    return latency["format"], latency["batch_size"], latency.get("sequence_length")

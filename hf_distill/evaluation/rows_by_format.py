"""A comparison with one row for each format of a model, in place of one row for each model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hf_distill.evaluation.formats import Format


def rows_by_format(evaluation: Mapping[str, Any], formats: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Make a comparison whose rows are of one model in one format each, which tables and plots then compare.

    Args:
        evaluation: The comparison, as `compare` returns it.
        formats: The formats by the name of the model, each among those of the comparison. Models that are not named are left
            out.

    Returns:
        The comparison; each row has its `format`, and of metrics, latency and difference from the teacher those in it.
    """
    rows = [_row(row, each) for row in evaluation["rows"] for each in formats.get(row["name"], ())]
    return {name: value for name, value in evaluation.items() if name != "this"} | {"rows": rows}


def formats_of(evaluation: Mapping[str, Any]) -> dict[str, list[str]]:
    """The formats that each model of a comparison was compared in, by the name of the model."""
    return {row["name"]: [Format.FP32.value, *row.get("metrics_by_format", ())] for row in evaluation["rows"]}


def _row(row: Mapping[str, Any], number_format: str) -> dict[str, Any]:
    latency = [each for each in row.get("latency", ()) if each["format"] == number_format]
    found = dict(row) | {"format": number_format, "latency": latency}
    if number_format == Format.FP32.value:
        return found
    found["metrics"] = row["metrics_by_format"][number_format]
    found.pop("fidelity", None)
    found["against_teacher"] = row.get("against_teacher_by_format", {}).get(number_format)
    return found

"""Tables fit the console: no name and no number is broken, and what is left out is said."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from hf_distill.evaluation.cascade import cascade_table
from hf_distill.evaluation.fitted_table import FittedColumn, FittedTable
from hf_distill.evaluation.report import report_table
from hf_distill.evaluation.rows_by_format import formats_of, rows_by_format
from hf_distill.exporting.report import export_table

NAMES = [
    "multilingual-e5-small-movie-reviews",
    *(
        "e5-4-layers",
        "e5-2-layers-movie-reviews",
        "e5-trimmed-vocabulary",
        "bert-tiny",
        "minilm-half-width-movie-reviews",
    ),
]
FORMATS = ("fp32", "onnx-int8")


def printed(table, width: int) -> list[str]:
    console = Console(width=width, file=io.StringIO())
    console.print(table)
    lines = [line.rstrip() for line in console.file.getvalue().splitlines()]
    assert max(map(len, lines)) <= width
    return lines


def row(index: int, formats=("fp32",)) -> dict:
    against = {"difference": -0.105, "low": -0.225, "high": 0.015, "mcnemar_p": 1.5e-9}
    of_student = {
        "fidelity": {"teacher_agreement": 0.915 - index / 100},
        "against_teacher": against,
        "against_teacher_by_format": dict.fromkeys(formats[1:], against),
    }
    metrics = {"accuracy": 0.701 + index / 100, "expected_calibration_error": 0.13 + index / 1000}
    times = {"p95_ms": 21.3 + index, "sequences_per_second": 1888.0 + index}
    return {
        "name": NAMES[index],
        "role": "distilled" if index else "teacher",
        "parameters": 117_700_000 // (index + 1),
        "megabytes_by_format": {each: 471.0 / (index + 1) for each in formats},
        "metrics": metrics,
        "metrics_by_format": dict.fromkeys(formats[1:], metrics),
        "latency": [
            {"format": each, "batch_size": 1, "sequence_length": 32, "median_ms": 20.9 + index} | times
            for each in formats
        ],
    } | (of_student if index else {})


def comparison(models: int, formats=("fp32",)) -> dict:
    return {
        "task": "sequence_classification",
        "metric": "accuracy",
        "data": {"name": "movie-reviews", "split": "test", "examples": 5000, "scored": 5000},
        "rows": [row(index, formats) for index in range(models)],
    }


@pytest.mark.parametrize("models", [2, 6])
@pytest.mark.parametrize("width", [80, 100, 160])
def test_a_comparison_is_readable(width, models):
    lines = printed(report_table(comparison(models)), width)
    text = " ".join(lines)
    for index, name in enumerate(NAMES[:models]):
        (place,) = (place for place, line in enumerate(lines) if name in line)
        (numbers,) = (line for line in lines[place : place + 2] if f"{70.1 + index:.1f}" in line)
        assert f"{20.9 + index:.2f}" in numbers and (index == 0 or "-10.5 (-22.5 to +1.5)" in numbers)
    assert "distilled" in text and "(teacher)" in text and "fp32" in text
    assert ("not shown for want of width: p, ECE %" in text) is (width == 80)
    assert ("McNemar" in text) is (width > 80)


@pytest.mark.parametrize("width", [80, 100, 160])
def test_a_comparison_of_formats_is_readable(width):
    found = comparison(3, FORMATS)
    lines = printed(report_table(rows_by_format(found, formats_of(found))), width)
    for index, name in enumerate(NAMES[:3]):
        of_name = next(place for place, line in enumerate(lines) if name in line)
        block = " ".join(lines[of_name : of_name + 3])
        assert all(each in block for each in (*FORMATS, f"{70.1 + index:.1f}", f"{20.9 + index:.2f}"))
    left_out = {80: "parameters, fewer, p95 ms, per second", 100: "p95 ms", 160: None}[width]
    assert " ".join(lines).partition("not shown for want of width: ")[2] == (left_out or "")


def test_a_comparison_of_short_names_stays_one_table_at_160_columns():
    found = comparison(2)
    for each, name in zip(found["rows"], ("teacher", "tiny"), strict=True):
        each["name"] = name
    lines = printed(report_table(found), 160)
    assert any("tiny" in line and "-10.5 (-22.5 to +1.5)" in line and "1.5e-09" in line for line in lines)


def test_models_of_unknown_training_keep_their_numbers_in_columns():
    found = comparison(2)
    for each in found["rows"]:
        each["role"] = "other"
    lines = printed(report_table(found), 80)
    assert NAMES[0] in lines and "accuracy" in lines[1]


def test_a_name_is_folded_only_where_it_is_longer_than_a_line():
    found = comparison(2)
    found["rows"][1]["name"] = "n" * 79
    assert "n" * 79 in [line.rstrip(",") for line in " ".join(printed(report_table(found), 100)).split()]
    assert "n" * 60 in printed(report_table(found), 60)


def test_columns_at_the_right_go_last_and_no_number_is_broken():
    lines = printed(report_table(comparison(2)), 30)
    assert "70.1" in " ".join(lines) and NAMES[0][:30] in lines
    assert "fp32 ms, faster" in " ".join(lines)


def test_names_and_headings_are_no_markup_and_no_control_codes():
    columns = [FittedColumn("[b]m[/b]", ["[red]s[/red] \x1b[31m"], "left"), FittedColumn("[i]v\x07[/i] w", ["12345"])]
    for width in (80, 27, 20):
        text = "\n".join(printed(FittedTable(columns, "[u]t[/u]\x1b[0m", "[b]"), width))
        assert "\x1b" not in text and "\x07" not in text and "12345" in text and "[u]t[/u]" in text and "[b]" in text
        assert "[red]s[/red]" in text and "[i]v[/i]" in text


def test_cascades_and_exports_fit():
    found = comparison(3)
    for each in found["rows"][1:]:
        each["cascade"] = {
            "margin": 0.005, "fitted_on": "validation", "temperature": 1.5, "threshold": 0.875, "share": 0.621,
            "accuracy": 0.699, "difference": -0.002, "low": -0.006, "high": 0.002, "mean_ms": 12.34,
        }  # fmt: skip
    for width in (80, 160):
        text = " ".join(printed(cascade_table(found), width))
        assert all(each in text for each in (NAMES[2], "0.875", "62.1", "-0.2 (-0.6 to +0.2)", "12.34"))
    times = [(1, 32), (1, 128), (32, 32), (32, 128)]
    files = {"fp32": None, "onnx": "model.onnx", "onnx-int8-static": "model_quantized_static.onnx"}
    report = {
        "task": "sequence_classification",
        "metric": "accuracy",
        "data": {"name": "movie-reviews", "split": "test", "examples": 5000},
        "rows": [
            {
                "format": name, "file": file, "megabytes": 471.0, "metrics": {"accuracy": 0.703}, "agreement": 0.987,
                "kept_layers": ["a"],
                "latency": [{"batch_size": size, "sequence_length": length, "median_ms": 1234.56} for size, length in times],
            }
            for name, file in files.items()
        ],
    }  # fmt: skip
    for width in (80, 160):
        lines = printed(export_table(report), width)
        assert any(line.count("1234.56") == 4 and "98.7" in line for line in lines)
        assert any("onnx-int8-static" in line for line in lines)
    assert "model_quantized_static.onnx" in " ".join(lines)

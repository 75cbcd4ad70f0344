"""A comparison by format has of each model's numbers those in the format."""

from __future__ import annotations

import pytest

from hf_distill.evaluation.plots import report_plot
from hf_distill.evaluation.report import report_table
from hf_distill.evaluation.row_values import latency_of, megabytes_of_row
from hf_distill.evaluation.rows_by_format import rows_by_format


def time(number_format: str, median: float, size: int = 1) -> dict:
    numbers = {"median_ms": median, "p95_ms": 2 * median, "sequences_per_second": 1000 * size / median}
    return {"format": number_format, "batch_size": size, "sequence_length": 8} | numbers


def row(name: str, role: str, accuracy: float, times: tuple[float, float], **others) -> dict:
    return {
        "name": name,
        "role": role,
        "parameters": 1000,
        "megabytes": 4.0,
        "megabytes_by_format": {"fp32": 4.0, "onnx-int8": 1.0},
        "metrics": {"accuracy": accuracy},
        "metrics_by_format": {"onnx-int8": {"accuracy": accuracy - 0.1}},
        "latency": [time("fp32", times[0]), time("onnx-int8", times[1]), time("onnx-int8", times[1], 4)],
        **others,
    }


@pytest.fixture
def evaluation():
    against = {"difference": -0.1, "low": -0.2, "high": 0.0}
    student = {"against_teacher": against, "against_teacher_by_format": {"onnx-int8": against | {"low": -0.4}}}
    return {
        "task": "sequence_classification",
        "metric": "accuracy",
        "this": 1,
        "data": {"name": "reviews", "split": "test", "examples": 10},
        "rows": [row("big", "teacher", 0.9, (8.0, 4.0)), row("small", "distilled", 0.8, (2.0, 1.0), **student)],
    }


def test_each_row_is_of_one_format(evaluation):
    found = rows_by_format(evaluation, {"big": ["fp32"], "small": ["fp32", "onnx-int8"]})
    assert "this" not in found and [each["format"] for each in found["rows"]] == ["fp32", "fp32", "onnx-int8"]
    quantized = found["rows"][2]
    assert quantized["metrics"]["accuracy"] == pytest.approx(0.7) and quantized["against_teacher"]["low"] == -0.4
    assert (latency_of(quantized), latency_of(quantized, value="p95_ms"), megabytes_of_row(quantized)) == (
        1.0,
        2.0,
        1.0,
    )
    assert latency_of(found["rows"][1]) == 2.0 and latency_of(quantized, "fp32") is None


def test_the_table_compares_files_and_speed_with_the_teacher(evaluation):
    table = report_table(rows_by_format(evaluation, {"big": ["fp32"], "small": ["onnx-int8"]}))
    cells = {column.header: list(column.cells)[-1] for column in table.columns}
    assert cells["format"] == "onnx-int8" and cells["against teacher"] == "-10.0 (-40.0 to +0.0)" and cells["MB"] == "1"
    assert (cells["ms"], cells["p95 ms"], cells["per second"], cells["faster"]) == ("1.00", "2.00", "4,000", "8.0x")
    assert "McNemar" not in table.caption


def test_the_plot_places_each_format_by_its_own_latency(evaluation, tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr(
        "hf_distill.evaluation.plots.label_marks",
        lambda axes, names, points, *others: drawn.update(names=names, at=points),
    )
    report_plot(rows_by_format(evaluation, {"big": ["fp32"], "small": ["fp32", "onnx-int8"]}), tmp_path / "plot.png")
    assert [point[0] for point in drawn["at"].values()] == [8.0, 2.0, 1.0]
    assert drawn["names"][2].endswith("onnx-int8")

"""Latency is measured on the model given; the report puts it beside quality and size."""

import io

import torch
from PIL import Image
from rich.console import Console

from hf_distill.evaluation.latency import measure_latency
from hf_distill.evaluation.report import ReportRow, report_plot, report_table
from tests.tiny_models import tiny_bert


def test_a_deeper_model_takes_longer_and_conditions_are_stated():
    models = {"deep": tiny_bert(hidden_size=64, layers=12).train(), "shallow": tiny_bert(hidden_size=64, layers=1)}
    found = measure_latency(models, batch_size=2, sequence_length=16, runs=9, warm_up=2)
    assert found["deep"]["median_ms"] > 2 * found["shallow"]["median_ms"] > 0
    for measured in found.values():
        assert measured["p95_ms"] >= measured["median_ms"]
        assert (measured["batch_size"], measured["sequence_length"], measured["runs"]) == (2, 16, 9)
        assert measured["threads"] == torch.get_num_threads() and measured["dtype"] == "float32"


ROWS = [
    ReportRow("big", "teacher", 0.9, None, 40_000_000, 20.0),
    ReportRow("small", "labels only", 0.8, 0.85, 4_000_000, 2.5),
    ReportRow("small", "distilled", 0.85, 0.91, 4_000_000, 2.5),
]


def test_table_and_plot(tmp_path):
    console = Console(width=120, file=io.StringIO())
    console.print(report_table(ROWS, "Reviews"))
    shown = console.file.getvalue()
    for said in ("85.0", "91.0", "4.0M", "10.0x", "8.0x", "labels only"):
        assert said in shown
    with Image.open(report_plot(ROWS, "Reviews", tmp_path / "plot.png")) as image:
        assert image.size[0] >= 800 and len(image.convert("L").getcolors()) > 20

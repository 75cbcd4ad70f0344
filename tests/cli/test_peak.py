"""`hf-distill peak` measures the machine and remembers it."""

import json

import pytest
import torch
from typer.testing import CliRunner

from hf_distill.cli.main import app
from hf_distill.compute import peak
from hf_distill.compute.precision import fast_bfloat16
from hf_distill.hardware import hardware_name


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_DISTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(peak, "_SIZES", {"cpu": (64, 128)})


def test_peaks_are_measured_and_remembered():
    assert peak.known_peak("cpu", torch.float32) is None
    result = CliRunner().invoke(app, ["peak", "--device", "cpu", "--seconds", "0.02", "--json"])
    rows = json.loads(result.output)
    assert [row["dtype"] for row in rows] == ["float32", *(["bfloat16"] if fast_bfloat16("cpu") else [])]
    assert rows[0]["hardware"] == hardware_name("cpu") and 1e7 < rows[0]["flops_per_second"] < 1e14
    assert peak.known_peak("cpu", torch.float32) == rows[0]["flops_per_second"]
    peak.remember_peak("cpu", torch.float16, 5.0)
    assert peak.known_peak("cpu", torch.float16) == 5.0
    assert peak.known_peak("cpu", torch.float32) == rows[0]["flops_per_second"]


def test_the_table_names_the_machine():
    result = CliRunner().invoke(app, ["peak", "--device", "cpu", "--seconds", "0.02"], env={"COLUMNS": "200"})
    assert result.exit_code == 0 and "float32" in result.output and hardware_name("cpu") in result.output


def test_a_rate_is_operations_over_time(monkeypatch):
    ticks = iter(0.25 * tick for tick in range(10**6))
    monkeypatch.setattr(peak.time, "perf_counter", lambda: next(ticks))
    assert peak.measure_peak("cpu", torch.float32, seconds=1) == 2 * 128**3 / 0.25


def test_a_device_that_is_not_there_is_a_usage_error():
    result = CliRunner().invoke(app, ["peak", "--device", "cuda:77"])
    assert result.exit_code == 2 and "cuda:77" in result.output and "Traceback" not in result.output


def test_a_damaged_cache_is_begun_anew(tmp_path):
    peak.peaks_file().parent.mkdir(parents=True)
    peak.peaks_file().write_text("{")
    assert peak.known_peak("cpu", torch.float32) is None
    peak.remember_peak("cpu", torch.float32, 2.0)
    assert peak.known_peak("cpu", torch.float32) == 2.0

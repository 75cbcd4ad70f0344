"""The script for a GPU, in miniature: cells report, fail, take too long or get no time, each on its own."""

import json
import sys

import pytest
import torch


@pytest.fixture
def gpu(benchmark_module):
    return benchmark_module("gpu")


@pytest.mark.parametrize(
    ("code", "seconds", "found"),
    [
        (
            "import os, pathlib; pathlib.Path(os.environ['GPU_REPORT']).write_text('{\"a\": 1}')",
            60,
            {"a": 1},
        ),
        ("raise ValueError('no such kernel')", 60, {"left_out": "ValueError: no such kernel"}),
        ("raise SystemExit(3)", 60, {"left_out": "exit status 3"}),
        ("import time; time.sleep(60)", 1, {"left_out": "not finished after 1 seconds"}),
    ],
)
def test_a_cell_reports_or_says_why_not(gpu, code, seconds, found):
    report = gpu.attempt([sys.executable, "-c", code], seconds)
    assert 0 <= report.pop("wall_seconds") < 60 and report == found  # rounded


def test_the_file_is_written_after_every_cell_until_the_time_is_up(gpu, monkeypatch, tmp_path):
    output, clock, files = tmp_path / "gpu.json", [0.0], []

    def attempt(command, seconds):
        files.append(json.loads(output.read_text()) if output.exists() else None)
        clock[0] += 100
        return {"limit": seconds, "cell": command[3]}

    monkeypatch.setattr(gpu, "attempt", attempt)
    monkeypatch.setattr(gpu.time, "monotonic", lambda: clock[0])
    arguments = ["--miniature", "--minutes", "3", "--cell-seconds", "90", "--output", str(output)]
    monkeypatch.setattr(sys, "argv", ["gpu.py", *arguments, "--only", "labeling", "masked words", "batches"])
    gpu.main()
    found = json.loads(output.read_text())["cells"]
    assert found["labeling"] == {"limit": 90, "cell": "labeling"}
    assert found["masked words"] == {"limit": 80, "cell": "masked words"}
    assert found["batches"] == {"left_out": "no time was left"}
    assert [each and len(each["cells"]) for each in files] == [None, 1]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_only_the_miniature_runs(gpu, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    with pytest.raises(SystemExit):
        gpu.main()
    assert "--miniature runs on the CPU" in capsys.readouterr().err


def test_cells_in_miniature(gpu, monkeypatch):
    monkeypatch.setattr(gpu, "measure_peak", lambda *_: 1e12)
    found = gpu.masked_words(gpu.MINIATURE)
    assert found["tokens_per_second"] > 0 and found["step_flops"] > 1e6 and "utilization" not in found
    assert found["utilization_of_measured_peak"] == pytest.approx(found["step_flops"] / found["step_ms"] * 1000 / 1e12)
    assert gpu.labeling(gpu.MINIATURE)["rows_per_second"].keys() == {"label_transfer_set in bfloat16", "naive loop"}
    batches = list(gpu.batches_by_length(gpu.MINIATURE))
    lengths = torch.cat([batch["attention_mask"].sum(-1) for batch in batches]).tolist()
    assert lengths == sorted(lengths, reverse=True) and len(batches) == 16
    speed, logits = gpu.rate(gpu.classifier(gpu.MINIATURE).eval(), batches, "cpu")
    assert speed > 0 and logits.shape == (64, 2)


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H200", 989e12),
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA A100-SXM4-40GB", 312e12),
        ("AMD EPYC (1 of 2 threads)", None),
    ],
)
def test_the_published_peak_of_a_gpu(gpu, name, peak):
    assert gpu.published_peak(name) == peak

"""The script that measures how cost grows with the data, in miniature."""

import json

import pytest


@pytest.fixture
def scale(benchmark_module, monkeypatch, tmp_path):
    module = benchmark_module("scale")

    def run(*options):
        given = ["scale.py", "--folder", str(tmp_path / "scratch"), "--output", str(tmp_path / "found.json"), *options]
        monkeypatch.setattr("sys.argv", given)
        module.main()
        return json.loads((tmp_path / "found.json").read_text())["cells"]

    return run


def test_cells_have_seconds_and_memory_and_are_not_repeated(scale):
    found = scale("--rows", "10000", "--checkpoints", "3", "--only", "order", "trajectory")
    assert set(found) == {"order 10000", "trajectory 3"}
    assert set(found["trajectory 3"]) == {"find", "hash", "load each"}
    assert all(set(figures) == {"cpu_s", "peak_mb", "added_mb"} for figures in found["order 10000"].values())
    assert min(figures["peak_mb"] for figures in found["order 10000"].values()) > 0
    assert scale("--rows", "10000", "--checkpoints", "3", "--only", "order") == found

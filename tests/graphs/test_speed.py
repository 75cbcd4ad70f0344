"""The speed of int8 on this machine."""

import pytest

from hf_distill.graphs import speed

pytest.importorskip("onnxruntime")


def test_the_layers_that_are_timed_are_the_same_in_int8(monkeypatch):
    runners = []

    class Kept(speed.GraphRunner):
        def __init__(self, path):
            super().__init__(path)
            runners.append(self)

    monkeypatch.setattr(speed, "GraphRunner", Kept)
    monkeypatch.setattr(speed, "_PASSES", 1)
    assert speed.int8_speedup() > 0
    single, quantized = runners
    assert quantized.megabytes < single.megabytes / 3.5, "the weights have 8 bits"
    tokens = {"tokens": speed.torch.from_numpy(speed._random(speed._TOKENS, speed._HIDDEN))}
    exact, rounded = (runner(tokens)["output"] for runner in runners)
    assert (rounded - exact).abs().max() < 0.05 * exact.abs().max()

"""How fast int8 is on this machine, in ONNX Runtime."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from hf_distill.extras import require_extra
from hf_distill.graphs.formats import GraphFormat, convert
from hf_distill.graphs.runner import GraphRunner

_TOKENS, _HIDDEN, _INTERMEDIATE = 32, 384, 1536  # the feed-forward layers of MiniLM and one text
_OPSET = 17
_WARM_UP, _ROUNDS, _PASSES = 3, 7, 20


def int8_speedup() -> float:
    """How many times as fast as single precision dynamic int8 is on this CPU, for one text of 32 tokens.

    Measured on two linear layers within a fraction of a second, with as many threads as torch has. Processors with
    instructions for products of 8 bits (VNNI, AMX) are several times as fast, others hardly.

    Returns:
        Time in single precision divided by time in int8.

    Raises:
        ImportError: onnx or ONNX Runtime is not installed.
    """
    require_extra("onnx", "onnx", "the speed of int8")
    with tempfile.TemporaryDirectory() as folder:
        single, quantized = Path(folder, GraphFormat.ONNX.file_name), Path(folder, GraphFormat.INT8.file_name)
        _save_layers(single)
        convert(single, quantized, GraphFormat.INT8)
        runners = [GraphRunner(path) for path in (single, quantized)]
    tokens = {"tokens": torch.from_numpy(_random(_TOKENS, _HIDDEN))}

    def seconds(runner: GraphRunner) -> float:
        begin = time.perf_counter()
        for _ in range(_PASSES):
            runner(tokens)
        return time.perf_counter() - begin

    for _ in range(_WARM_UP):
        [seconds(runner) for runner in runners]
    # In turn, and the best of each, since other processes may use the machine.
    rounds = [[seconds(runner) for runner in runners] for _ in range(_ROUNDS)]
    of_single, of_quantized = (min(times) for times in zip(*rounds, strict=True))
    return of_single / of_quantized


def _save_layers(path: Path) -> None:
    """Write the two layers as a single-precision ONNX file."""
    import onnx
    from onnx import helper, numpy_helper

    weights = {"up": _random(_HIDDEN, _INTERMEDIATE), "down": _random(_INTERMEDIATE, _HIDDEN)}
    nodes = [
        helper.make_node("MatMul", ["tokens", "up"], ["wide"], name="up_product"),
        helper.make_node("Relu", ["wide"], ["active"], name="activation"),
        helper.make_node("MatMul", ["active", "down"], ["output"], name="down_product"),
    ]
    ends = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["rows", _HIDDEN]) for name in ("tokens", "output")
    ]
    initializers = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "feed_forward", ends[:1], ends[1:], initializers)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=10), path)


def _random(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)

"""The number formats of ONNX files, made from a single-precision file by the tools of ONNX Runtime."""

from __future__ import annotations

import ast
import os
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

from torch import Tensor

from hf_distill.extras import require_extra
from hf_distill.graphs.export import SCOPES
from hf_distill.graphs.messages import silenced

# Weights of linear layers have 7 of the 8 bits (`reduce_range`): processors without VNNI add pairs of products with activations, of up to
# 255 each, in 16 bits, which would overflow with larger ones and so change the answers from one processor to the other.
_QUANTIZED = ("MatMul", "Gemm", "Gather")  # operators whose weights are quantized: linear layers and embeddings


class GraphFormat(str, Enum):
    """The number format of an ONNX file."""

    ONNX = "onnx"
    FP16 = "onnx-fp16"
    INT8 = "onnx-int8"
    INT8_STATIC = "onnx-int8-static"

    @property
    def file_name(self) -> str:
        """The name of the file, as optimum and the Hub have it."""
        return _FILE_NAMES[self]

    @property
    def is_quantized(self) -> bool:
        """Whether weights have 8 bits, so that single layers can be kept in single precision."""
        return self in (GraphFormat.INT8, GraphFormat.INT8_STATIC)


_FILE_NAMES = {
    GraphFormat.ONNX: "model.onnx",
    GraphFormat.FP16: "model_fp16.onnx",
    GraphFormat.INT8: "model_quantized.onnx",
    GraphFormat.INT8_STATIC: "model_quantized_static.onnx",
}


def layers_of(path: str | os.PathLike) -> dict[str, list[str]]:
    """The layers of an exported model that int8 quantizes: linear layers and embeddings.

    Args:
        path: The path of a single-precision file.

    Returns:
        The names of the graph's nodes by the name of the module in torch, such as "bert.pooler.dense", in the order of
        the computation.
    """
    import onnx

    graph = onnx.load(path).graph
    weights = {each.name for each in graph.initializer if each.data_type == onnx.TensorProto.FLOAT}
    found: dict[str, list[str]] = {}
    for node in graph.node:
        weight = {"MatMul": 1, "Gemm": 1, "Gather": 0}.get(node.op_type)
        if weight is not None and node.input[weight] in weights:
            found.setdefault(_module_of(node), []).append(node.name)
    return found


def _module_of(node: Any) -> str:
    """The module of torch that a node comes from, without the wrappers around the model; the node's name if unknown."""
    scopes = next((each.value for each in node.metadata_props if each.key == SCOPES), "[]")
    names = [name for name in ast.literal_eval(scopes)[:-1] if name]  # the last is the operator's
    return names[-1] if names else node.name


def convert(
    path: str | os.PathLike,
    target: str | os.PathLike,
    number_format: GraphFormat,
    kept: Collection[str] = (),
    calibration: Sequence[Mapping[str, Tensor]] = (),
) -> None:
    """Convert a single-precision ONNX file to another number format.

    Args:
        path: The path of the single-precision file.
        target: The path of the file to write.
        number_format: The number format: half precision; int8 weights per channel, from -64 to 64 so that the answers
            are the same on every processor, with activations whose ranges are measured at run time (`INT8`), or were
            measured on calibration data (`INT8_STATIC`).
        kept: The layers that stay in single precision in int8, by their names in `layers_of`.
        calibration: The batches of model inputs that `INT8_STATIC` measures the ranges of activations on.

    Raises:
        ImportError: onnx or ONNX Runtime is not installed.
        ValueError: `INT8_STATIC` without calibration data.
    """
    require_extra("onnx", "onnx", f"format {number_format.value!r}")
    require_extra("onnxruntime", "onnx", f"format {number_format.value!r}")
    import onnx

    if number_format is GraphFormat.ONNX:
        onnx.save(onnx.load(path), target)
    elif number_format is GraphFormat.FP16:
        _to_half_precision(path, target)
    elif number_format is GraphFormat.INT8:
        _quantize_dynamically(path, target, _nodes(path, kept), _QUANTIZED)
    elif not calibration:
        raise ValueError(f"format {number_format.value!r} needs rows to calibrate on, got none")
    else:
        _quantize_statically(path, target, _nodes(path, kept), calibration)


def _to_half_precision(path: str | os.PathLike, target: str | os.PathLike) -> None:
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    graph = onnx.load(path)
    exact = _nodes_before_integers(graph)
    onnx.save(convert_float_to_float16(graph, keep_io_types=True, node_block_list=exact), target)


def _nodes_before_integers(graph: Any) -> list[str]:
    """The nodes whose floating-point outputs become integers, such as the logarithmic buckets of relative positions.

    In half precision they would come to other integers, which are no rounding errors.
    """
    import onnx

    inferred = onnx.shape_inference.infer_shapes(graph).graph
    types = {each.name: each.type.tensor_type.elem_type for each in [*inferred.value_info, *inferred.input]}
    is_float = {name: kind == onnx.TensorProto.FLOAT for name, kind in types.items()}
    integers = {onnx.TensorProto.INT64, onnx.TensorProto.INT32}
    producers = {output: node for node in inferred.node for output in node.output}
    found: dict[str, Any] = {}
    open_nodes = [
        node
        for node in inferred.node
        if node.op_type == "Cast" and node.attribute[0].i in integers and is_float.get(node.input[0])
    ]
    while open_nodes:
        node = open_nodes.pop()
        if node.name not in found:
            found[node.name] = node
            open_nodes += [producers[name] for name in node.input if name in producers and is_float.get(name)]
    return list(found)


def _nodes(path: str | os.PathLike, kept: Collection[str]) -> list[str]:
    """The nodes to quantize: those of all layers that are not kept."""
    names = [name for layer, nodes in layers_of(path).items() if layer not in kept for name in nodes]
    return [each for name in names for each in (name, f"{name}_MatMul")]  # the name that a Gemm gets when it is split


def _quantize_dynamically(
    path: str | os.PathLike, target: str | os.PathLike, nodes: list[str], operators: Sequence[str]
) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with silenced(None):  # it advises to preprocess, which renames the nodes
        quantize_dynamic(
            Path(path), Path(target), op_types_to_quantize=list(operators), per_channel=True, reduce_range=True,
            weight_type=QuantType.QInt8, nodes_to_quantize=nodes or ["none"], extra_options=_tensor_type(),
        )  # fmt: skip


def _quantize_statically(
    path: str | os.PathLike, target: str | os.PathLike, nodes: list[str], calibration: Sequence[Mapping[str, Tensor]]
) -> None:
    """Quantize linear layers by measured ranges, and embeddings as the dynamic format does: they have no activations."""
    from onnxruntime.quantization import QuantType, quantize_static

    with tempfile.TemporaryDirectory() as folder, silenced(None):
        embedded = Path(folder, "embeddings.onnx")
        _quantize_dynamically(path, embedded, nodes, ("Gather",))
        quantize_static(
            embedded, Path(target), _Batches(embedded, calibration), op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=True, reduce_range=True, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
            nodes_to_quantize=nodes or ["none"], extra_options={"MatMulConstBOnly": True} | _tensor_type(),
        )  # fmt: skip


def _tensor_type() -> dict[str, int]:
    """The type of tensors that depend on operators of ONNX Runtime, of which onnx infers none."""
    import onnx

    return {"DefaultTensorType": onnx.TensorProto.FLOAT}


class _Batches:
    """Calibration data as ONNX Runtime reads them."""

    def __init__(self, path: Path, batches: Sequence[Mapping[str, Tensor]]) -> None:
        import onnx

        self._names = [each.name for each in onnx.load(path, load_external_data=False).graph.input]
        self._batches: Iterator[Mapping[str, Tensor]] = iter(batches)

    def get_next(self) -> dict[str, Any] | None:
        batch = next(self._batches, None)
        return None if batch is None else {name: batch[name].numpy() for name in self._names}

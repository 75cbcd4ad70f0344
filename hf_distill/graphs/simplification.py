"""What makes exported graphs faster in ONNX Runtime and leaves what they compute as it is."""

from __future__ import annotations

from typing import Any


def split_normalization(graph: Any) -> None:
    """Keep ONNX Runtime from fusing residual sums with layer normalization.

    Its fused operator (SkipLayerNormalization) takes several times as long on a CPU as the two operators apart (1.31). It is made
    of `Add` alone, for which `Sum` of two tensors is another name.

    Args:
        graph: The graph (onnx.GraphProto), modified in place.
    """
    normalized = {node.input[0] for node in graph.node if node.op_type == "LayerNormalization"}
    for node in graph.node:
        if node.op_type == "Add" and node.output[0] in normalized:
            node.op_type = "Sum"


def remove_round_trips(graph: Any) -> None:
    """Remove pairs of reshapes of which the second restores the shape that the first one changed.

    The heads of attention are such, which models split and the operator for attention wants joined.

    Args:
        graph: The graph (onnx.GraphProto) with shapes by name, as torch exports it, modified in place. Nodes that nothing
            needs any more stay.
    """
    shapes = {
        each.name: [dim.dim_param or dim.dim_value for dim in each.type.tensor_type.shape.dim]
        for each in graph.value_info
    }
    reshapes = {node.output[0]: node for node in graph.node if node.op_type == "Reshape"}
    restored = {}
    for output, node in reshapes.items():
        if (first := reshapes.get(node.input[0])) is not None:
            before, after = shapes.get(first.input[0], []), shapes.get(output, [])
            if before == after and all(before):
                restored[output] = first.input[0]
    for node in graph.node:
        node.input[:] = [restored.get(name, name) for name in node.input]

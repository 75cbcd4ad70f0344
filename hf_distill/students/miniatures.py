"""The 24 miniature BERTs of Turc et al.: sizes, names, published checkpoints and speed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from hf_distill.text.suggestions import suggestion

HEAD_SIZE = 64
VOCABULARY, POSITIONS, SEGMENTS = 30_522, 512, 2
_FEED_FORWARD_RATIO = 4


@dataclass(frozen=True)
class Miniature:
    """A BERT of a published size, with heads of 64 dimensions and a feed-forward layer 4 times as wide as the model.

    Attributes:
        layers: The number of transformer layers.
        hidden_size: The hidden size (width) of the model.
        tpu_speed_up: The published speed on a TPU v2, as a multiple of BERT-Large's; None for unpublished sizes.
        name: The published name (tiny, mini, small, medium or base); None for the sizes without a name.
    """

    layers: int
    hidden_size: int
    tpu_speed_up: float | None = None
    name: str | None = None

    @property
    def shape(self) -> str:
        """The size as "layers/hidden size", such as "4/256"."""
        return f"{self.layers}/{self.hidden_size}"

    @property
    def heads(self) -> int:
        """The number of attention heads per layer."""
        return self.hidden_size // HEAD_SIZE

    @property
    def hub_id(self) -> str:
        """The Hub id of the published checkpoint, pre-trained by masked language modeling."""
        return f"google/bert_uncased_L-{self.layers}_H-{self.hidden_size}_A-{self.heads}"

    @property
    def sizes(self) -> dict[str, Any]:
        """The arguments of `BertConfig` that differ from its defaults."""
        return {
            "num_hidden_layers": self.layers,
            "hidden_size": self.hidden_size,
            "num_attention_heads": self.heads,
            "intermediate_size": _FEED_FORWARD_RATIO * self.hidden_size,
        }

    @property
    def parameters(self) -> int:
        """The number of trainable parameters with the pooler and both pre-training heads (`BertForPreTraining`)."""
        width, neurons = self.hidden_size, _FEED_FORWARD_RATIO * self.hidden_size
        norm, dense = 2 * width, width * width + width
        tables = (VOCABULARY + POSITIONS + SEGMENTS) * width + norm
        layer = 4 * dense + norm + 2 * width * neurons + neurons + width + norm
        masked_tokens, next_sentence = dense + norm + VOCABULARY, 2 * width + 2
        return tables + self.layers * layer + dense + masked_tokens + next_sentence


_NAMES = {(2, 128): "tiny", (4, 256): "mini", (4, 512): "small", (8, 512): "medium", (12, 768): "base"}
_TPU_SPEED_UP = {  # for 2, 4, ..., 12 layers
    128: (65.24, 32.37, 21.87, 16.42, 13.05, 11.02),
    256: (31.25, 15.96, 10.67, 8.01, 6.37, 5.35),
    512: (14.44, 7.27, 4.85, 3.64, 2.90, 2.43),
    768: (7.46, 3.75, 2.50, 1.88, 1.50, 1.25),
}

# Turc et al. 2019, arXiv 1908.08962, tables 1 and 2. The keys are shapes; `shape_of` also takes the published names.
MINIATURES: Mapping[str, Miniature] = MappingProxyType(
    {
        miniature.shape: miniature
        for hidden_size, speed_ups in _TPU_SPEED_UP.items()
        for miniature in (
            Miniature(2 * pairs, hidden_size, speed_up, _NAMES.get((2 * pairs, hidden_size)))
            for pairs, speed_up in enumerate(speed_ups, start=1)
        )
    }
)
_SHAPES = {miniature.name: miniature.shape for miniature in MINIATURES.values() if miniature.name}

_OF_MODEL = (
    ", which is a model: a student that starts from it has its size, and it is the pretrained_model_name_or_path of create_student "
    "or, for a teacher that has been run by hf-distill label, the --base-model of hf-distill train --teacher-outputs"
)


def shape_of(name: str) -> tuple[int, int]:
    """Parse the shape of a student.

    Args:
        name: The name of a miniature ("mini"), or "layers/hidden size" ("3/384", published or not).

    Returns:
        The number of layers and the hidden size.

    Raises:
        ValueError: The name is neither.
    """
    match = re.fullmatch(r"(\d+)/(\d+)", str(_SHAPES.get(name, name)))
    if match is None or int(match[1]) == 0 or int(match[2]) == 0:
        is_model = isinstance(name, str) and Path(name, "config.json").is_file()
        raise ValueError(
            f"a shape is one of {list(_SHAPES)} or layers/hidden size such as '3/384', got {name!r}"
            + (_OF_MODEL if is_model else suggestion(name, _SHAPES))
        )
    return int(match[1]), int(match[2])

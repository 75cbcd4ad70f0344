"""Tiny random models of many architectures, three layers each, and a padded batch for them."""

from __future__ import annotations

import torch
import transformers
from torch import Tensor
from transformers import AutoConfig, PreTrainedModel

LAYERS = 3
HEADS = 2
_NO_DROPOUT = dict(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
_TEXT = dict(
    vocab_size=100,
    hidden_size=16,
    num_hidden_layers=LAYERS,
    num_attention_heads=HEADS,
    intermediate_size=32,
    max_position_embeddings=64,
    initializer_range=0.3,
)
_DECODER = dict(_TEXT, num_key_value_heads=1)
_CONFIGS = {
    "bert": _TEXT | _NO_DROPOUT,
    "roberta": _TEXT | _NO_DROPOUT | dict(pad_token_id=0),
    "xlm-roberta": _TEXT | _NO_DROPOUT | dict(pad_token_id=0),
    "electra": _TEXT | _NO_DROPOUT | dict(embedding_size=8),
    "albert": _TEXT | _NO_DROPOUT | dict(embedding_size=8),
    "modernbert": _TEXT | dict(pad_token_id=0, bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2),
    "nomic_bert": _TEXT,
    "mpnet": _TEXT | _NO_DROPOUT | dict(pad_token_id=1),
    "distilbert": dict(
        vocab_size=100, dim=16, n_layers=LAYERS, n_heads=HEADS, hidden_dim=32, max_position_embeddings=64,
        initializer_range=0.3, dropout=0.0, attention_dropout=0.0, seq_classif_dropout=0.0,
    ),
    "deberta-v2": _TEXT | _NO_DROPOUT | dict(relative_attention=True, pos_att_type=["p2c", "c2p"], pooler_hidden_size=16),
    "vit": _TEXT | _NO_DROPOUT | dict(image_size=8, patch_size=4),
    "llama": _DECODER,
    "granite": _DECODER | dict(attention_multiplier=0.7),  # its scores are not divided by the root of the head size
}  # fmt: skip
_CONFIGS["vit"] = {key: value for key, value in _CONFIGS["vit"].items() if "vocab" not in key and "position" not in key}
MASKED_LM = ["bert", "roberta", "electra", "distilbert", "modernbert", "albert"]
OWN_ATTENTION = ("deberta-v2", "mpnet")  # not through transformers' AttentionInterface
HEAD_OF = dict.fromkeys(_CONFIGS, "SequenceClassification") | dict(
    bert="MaskedLM", modernbert="MaskedLM", vit="ImageClassification", llama="CausalLM", granite="CausalLM"
)


def tiny_model(architecture: str, head: str | None = None, seed: int = 0, **config) -> PreTrainedModel:
    """In evaluation mode; the head is the end of an `AutoModelFor...` name."""
    torch.manual_seed(seed)
    auto_class = getattr(transformers, f"AutoModelFor{head or HEAD_OF[architecture]}")
    return auto_class.from_config(AutoConfig.for_model(architecture, **_CONFIGS[architecture] | config)).eval()


def eager_twin(model: PreTrainedModel, architecture: str) -> PreTrainedModel:
    """The same weights with attention written out, which can return its probabilities."""
    twin = tiny_model(architecture, attn_implementation="eager")
    twin.load_state_dict(model.state_dict())
    return twin


def tiny_batch(architecture: str = "bert") -> dict[str, Tensor]:
    """Two sequences of 7 tokens, the second padded from its fifth on; or two images."""
    generator = torch.Generator().manual_seed(3)
    if architecture == "vit":
        return {"pixel_values": torch.randn(2, 3, 8, 8, generator=generator)}
    tokens = torch.randint(4, 100, (2, 7), generator=generator)
    mask = torch.ones_like(tokens)
    tokens[1, 5:], mask[1, 5:] = 0, 0
    return {"input_ids": tokens, "attention_mask": mask}

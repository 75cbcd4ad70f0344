"""Floating-point operations of an encoder, from its configuration alone."""

from __future__ import annotations

from typing import Any

_GATED = ("modernbert",)  # feed-forward parts with a third matrix, the gate
_MULTIPLY_AND_ADD = 2


def encoder_flops(config: Any, length: int) -> int:
    """Floating-point operations of one sequence's forward pass through embeddings and layers, without a head.

    Matrix products count, a multiplication and an addition as two operations; norms, activations, softmax and look-ups,
    less than 1 % of the rest, do not. A backward pass costs twice as much. Attention counts every pair of positions, also
    where only near ones are attended to, because that is what is computed.

    Args:
        config: Of a BERT, RoBERTa, ELECTRA, ALBERT, DistilBERT, ModernBERT or ViT.
        length: Tokens, padding included; for a ViT patches and class token (`vit_length`).

    Returns:
        Operations of one sequence.

    Source:
        Hoffmann et al. 2022, arXiv 2203.15556, appendix F, without its softmax and logits.
    """
    hidden, layers = config.hidden_size, config.num_hidden_layers
    feed_forward = getattr(config, "intermediate_size", None) or config.hidden_dim
    matrices = 3 if config.model_type in _GATED else 2
    per_token = 4 * hidden * hidden + matrices * hidden * feed_forward + 2 * length * hidden
    return _MULTIPLY_AND_ADD * length * layers * per_token + _embedding_flops(config, length)


def vit_length(config: Any) -> int:
    """Positions of a ViT: its patches and the class token."""
    return (config.image_size // config.patch_size) ** 2 + 1


def _embedding_flops(config: Any, length: int) -> int:
    if config.model_type == "vit":
        patch = config.num_channels * config.patch_size**2
        return _MULTIPLY_AND_ADD * (length - 1) * patch * config.hidden_size
    width = getattr(config, "embedding_size", config.hidden_size)
    is_projected = width != config.hidden_size or config.model_type == "albert"
    return _MULTIPLY_AND_ADD * length * width * config.hidden_size if is_projected else 0

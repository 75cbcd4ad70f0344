"""FLOPs (floating-point operations) of encoders, decoders and ViTs, from their configurations alone.

Matrix products are counted, a multiplication and an addition as two FLOPs; norms, activations, softmax and embedding
lookups, less than 1 % of the total, are not. Attention is counted for every pair of positions, also with local
attention, because all are computed. These are model FLOPs: recomputation by activation checkpointing is not included.

Source: Hoffmann et al. 2022, arXiv 2203.15556, appendix F, without its softmax; a backward pass costs twice a forward
pass, except where no gradient is needed: for pixels, frozen weights, and everything above the features that a loss
compares.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from hf_distill.compute.cost import BatchFlops, Cost

_MULTIPLY_AND_ADD = 2
_DECODERS = ("llama", "granite")
_GATED = ("modernbert", *_DECODERS)  # feed-forward layers with a third matrix, the gate
_NARROW_OUTPUT = ("electra", "albert")  # the masked-language-model head projects to the width of the embeddings
FAMILIES = (
    "bert", "roberta", "xlm-roberta", "camembert", "electra", "albert", "distilbert", "modernbert", "deberta-v2", "vit",
    "llama", "granite",
)  # fmt: skip
VECTORS = ("queries", "keys", "values")


@dataclass(frozen=True)
class Reach:
    """The part of a model through which gradients flow in a backward pass.

    Attributes:
        layers: Number of layers with gradients, counted from the lowest. None: all.
        vectors: The vectors of the next layer that have gradients: queries, keys, values.
        logits: Whether the head has gradients, and with it all layers.
    """

    layers: int | None = None
    vectors: frozenset[str] = frozenset()
    logits: bool = True


def encoder_flops(config: Any, length: int) -> float:
    """The FLOPs of one sequence's forward pass through embeddings and layers, without a head.

    Args:
        config: The configuration of a model of one of `FAMILIES`.
        length: Tokens of the sequence, padding included; for a ViT patches and class token (`vit_length`).

    Returns:
        FLOPs.
    """
    return forward_cost(config).of(1, length)


def batch_flops(
    config: Any,
    lengths: Sequence[int],
    task: str | None = None,
    padded_to: int | None = None,
    predictions: int | None = None,
    backward: bool = False,
) -> BatchFlops:
    """The FLOPs of a batch of sequences.

    Args:
        config: The configuration of a model of one of `FAMILIES`.
        lengths: Tokens of each sequence, without padding.
        task: The task of the head, see `head_cost`. None: there is no head.
        padded_to: Length to which sequences are padded. None: that of the longest.
        predictions: Number of positions at which a language-model head runs. None: all.
        backward: Include the backward pass.

    Returns:
        FLOPs with and without padding.

    Raises:
        ValueError: A sequence is longer than `padded_to`, or the family or task is unknown.
    """
    padded_to = max(lengths) if padded_to is None else padded_to
    if max(lengths) > padded_to:
        raise ValueError(f"padded_to must be at least the longest sequence, {max(lengths)}, got {padded_to}")
    cost = forward_cost(config, task)
    cost = cost + backward_cost(config, task) if backward else cost
    computed = cost.of(len(lengths), padded_to, predictions)
    unused = cost.per_token + (cost.per_prediction if predictions is None else 0)
    pairs = sum(padded_to**2 - length**2 for length in lengths)
    padding = unused * (len(lengths) * padded_to - sum(lengths)) + cost.per_pair * pairs
    return BatchFlops(computed - padding, padding)


def forward_cost(config: Any, task: str | None = None) -> Cost:
    """The cost of a forward pass.

    Args:
        config: The configuration of a model of one of `FAMILIES`.
        task: The task of the head, see `head_cost`. None: there is no head.

    Returns:
        The cost by batch, sequence, token, pair and prediction.

    Raises:
        ValueError: The family or task is unknown.
    """
    vectors, attention, rest = _layer(config)
    layer = vectors + attention + rest
    return _embeddings(config) + layer * config.num_hidden_layers + _convolution(config) + head_cost(config, task)


def backward_cost(config: Any, task: str | None = None, learned: float = 1, reach: Reach | None = None) -> Cost:
    """The cost of a backward pass: the gradients of weights, and those of activations, which cost as much.

    Args:
        config: The configuration of a model of one of `FAMILIES`.
        task: The task of the head, see `head_cost`. None: there is no head.
        learned: Share of the weights that are trained, in [0, 1]; frozen weights need gradients of activations only.
        reach: The part of the model through which gradients flow. None: all of it.

    Returns:
        The cost by batch, sequence, token, pair and prediction.

    Raises:
        ValueError: The family or task is unknown.
    """
    reach = Reach() if reach is None else reach
    vectors, attention, rest = _layer(config)
    layers = config.num_hidden_layers if reach.layers is None or reach.logits else reach.layers
    per_layer = (vectors + rest) * (1 + learned) + attention * 2
    total = per_layer * layers + (_convolution(config) * (1 + learned) if layers else Cost())
    total += _embeddings(config) * (learned if config.model_type == "vit" else 1 + learned)
    if reach.vectors and not reach.logits:
        total += _vectors(config, reach.vectors) * (1 + learned)
    return total + head_cost(config, task) * (1 + learned) if reach.logits else total


def parameter_cost(parameters: int) -> Cost:
    """The approximate cost of a forward pass of any model, without attention: each parameter is used once per token.

    Args:
        parameters: Number of parameters, without embeddings.

    Returns:
        The cost by token.

    Source:
        Kaplan et al. 2020, arXiv 2001.08361, section 2.1.
    """
    return Cost(per_token=_MULTIPLY_AND_ADD * parameters)


def projection_cost(student_size: int, teacher_size: int) -> Cost:
    """The forward cost of projecting one hidden state to the teacher's hidden size."""
    return Cost(per_token=_MULTIPLY_AND_ADD * student_size * teacher_size)


def score_cost(width: int) -> Cost:
    """The forward cost of scores X Yᵀ between all positions, with `width` the size of all heads together."""
    return Cost(per_pair=_MULTIPLY_AND_ADD * width)


def head_cost(config: Any, task: str | None) -> Cost:
    """The forward cost of a model's head.

    Args:
        config: The configuration of a model of one of `FAMILIES`.
        task: A value of `hf_distill.tasks.Task`, or "pooler" for a BERT without a head but with its pooler. None: there
            is no head, as for "sentence_embedding".

    Returns:
        The cost by sequence, token or prediction.

    Raises:
        ValueError: The task is unknown.
    """
    hidden, labels = config.hidden_size, getattr(config, "num_labels", 2)
    if task in (None, "sentence_embedding"):
        return Cost()
    if task == "pooler":
        return Cost(per_sequence=_MULTIPLY_AND_ADD * hidden * hidden)
    of_texts = task == "sequence_classification"
    if task in ("token_classification", "question_answering") or (of_texts and config.model_type in _DECODERS):
        dense = hidden if config.model_type == "modernbert" else 0
        return Cost(per_token=_MULTIPLY_AND_ADD * hidden * (dense + labels))
    if task == "sequence_classification":
        pooled = (
            (getattr(config, "pooler_hidden_size", None) or hidden) if config.model_type == "deberta-v2" else hidden
        )
        return Cost(per_sequence=_MULTIPLY_AND_ADD * pooled * (pooled + labels))
    if task == "image_classification":
        return Cost(per_sequence=_MULTIPLY_AND_ADD * hidden * labels)
    if task == "masked_lm":
        width = getattr(config, "embedding_size", hidden) if config.model_type in _NARROW_OUTPUT else hidden
        return Cost(per_prediction=_MULTIPLY_AND_ADD * width * (hidden + config.vocab_size))
    if task == "causal_lm":
        return Cost(per_prediction=_MULTIPLY_AND_ADD * hidden * config.vocab_size)
    raise ValueError(f"task must be a value of hf_distill.tasks.Task, 'pooler' or None, got {task!r}")


def attention_widths(config: Any) -> tuple[int, int]:
    """The width of queries, and that of keys and of values, over all heads."""
    if config.model_type not in _DECODERS:
        return config.hidden_size, config.hidden_size
    heads = config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    return size * heads, size * (getattr(config, "num_key_value_heads", None) or heads)


def vit_length(config: Any) -> int:
    """The number of positions of a ViT: its patches and the class token."""
    return (config.image_size // config.patch_size) ** 2 + 1


def _layer(config: Any) -> tuple[Cost, Cost, Cost]:
    """The forward cost of one layer: queries, keys and values; attention; output projection and feed-forward part."""
    if config.model_type not in FAMILIES:
        raise ValueError(f"FLOPs are known for models of type {', '.join(FAMILIES)}, got {config.model_type!r}")
    hidden, (width, _) = config.hidden_size, attention_widths(config)
    feed_forward = getattr(config, "intermediate_size", None) or config.hidden_dim
    matrices = 3 if config.model_type in _GATED else 2
    rest = Cost(per_token=_MULTIPLY_AND_ADD * (width * hidden + matrices * hidden * feed_forward))
    return _vectors(config, VECTORS), score_cost(width) * 2 + _relative_products(config), rest


def _vectors(config: Any, names: Collection[str]) -> Cost:
    width, key_width = attention_widths(config)
    names = VECTORS if config.model_type == "modernbert" else names  # projected by one matrix
    columns = sum(width if name == "queries" else key_width for name in names)
    relative = 0
    if set(names) == set(VECTORS):
        relative = _relative_kinds(config) * _relative_positions(config) * config.hidden_size * width
    return Cost(per_batch=_MULTIPLY_AND_ADD * relative, per_token=_MULTIPLY_AND_ADD * config.hidden_size * columns)


def _relative_products(config: Any) -> Cost:
    """DeBERTa's products of content and relative positions, whose embeddings are the same for the whole batch."""
    kinds = len(config.pos_att_type or ()) if _relative_kinds(config) else 0
    return Cost(per_token=_MULTIPLY_AND_ADD * kinds * _relative_positions(config) * config.hidden_size)


def _relative_kinds(config: Any) -> int:
    if config.model_type != "deberta-v2" or not config.relative_attention:
        return 0
    return 2 if getattr(config, "share_att_key", False) else len(config.pos_att_type or ())


def _relative_positions(config: Any) -> int:
    if config.model_type != "deberta-v2":
        return 0
    buckets, most = getattr(config, "position_buckets", -1), config.max_relative_positions
    return 2 * (buckets if buckets > 0 else most if most > 0 else config.max_position_embeddings)


def _convolution(config: Any) -> Cost:
    """The convolution beside the first layer, in some sizes of DeBERTa."""
    kernel = getattr(config, "conv_kernel_size", 0) if config.model_type == "deberta-v2" else 0
    return Cost(per_token=_MULTIPLY_AND_ADD * kernel * config.hidden_size**2 // getattr(config, "conv_groups", 1))


def _embeddings(config: Any) -> Cost:
    if config.model_type == "vit":
        patch = _MULTIPLY_AND_ADD * config.num_channels * config.patch_size**2 * config.hidden_size
        return Cost(per_sequence=-patch, per_token=patch)  # the class token has no pixels
    width = getattr(config, "embedding_size", config.hidden_size)
    is_projected = width != config.hidden_size or config.model_type == "albert"
    return Cost(per_token=_MULTIPLY_AND_ADD * width * config.hidden_size if is_projected else 0)

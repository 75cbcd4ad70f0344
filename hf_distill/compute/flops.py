"""Floating-point operations of encoders, decoders and ViTs, from their configurations alone.

Matrix products count, a multiplication and an addition as two operations; norms, activations, softmax and look-ups, less
than 1 % of the rest, do not. Attention counts every pair of positions, also where only near ones are attended to, because
that is what is computed. These are a model's operations: what activation checkpointing computes again is not among them.

Source: Hoffmann et al. 2022, arXiv 2203.15556, appendix F, without its softmax; a backward pass costs twice a forward
pass, but for what needs no gradient: pixels, frozen weights, and all that lies above what a loss looks at.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from typing import Any

_MULTIPLY_AND_ADD = 2
_DECODERS = ("llama", "granite")
_GATED = ("modernbert", *_DECODERS)  # feed-forward parts with a third matrix, the gate
_NARROW_OUTPUT = ("electra", "albert")  # the masked-word head returns to the width of the embeddings
FAMILIES = (
    "bert", "roberta", "xlm-roberta", "camembert", "electra", "albert", "distilbert", "modernbert", "deberta-v2", "vit",
    "llama", "granite",
)  # fmt: skip
VECTORS = ("queries", "keys", "values")


@dataclass(frozen=True)
class Cost:
    """What a pass costs, in operations, by what the batch holds.

    Attributes:
        per_batch: Whatever the batch.
        per_sequence: For each sequence or image.
        per_token: For each position, padding included.
        per_pair: For each pair of positions of a sequence.
        per_prediction: For each position a language-model head answers at.
    """

    per_batch: float = 0
    per_sequence: float = 0
    per_token: float = 0
    per_pair: float = 0
    per_prediction: float = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(self)))

    def __mul__(self, factor: float) -> Cost:
        return Cost(*(factor * getattr(self, each.name) for each in fields(self)))

    def of(self, sequences: int, length: int, predictions: int | None = None) -> float:
        """Operations of one batch.

        Args:
            sequences: In the batch.
            length: Tokens of each, padding included; for a ViT `vit_length`.
            predictions: Positions that a language-model head answers at. None: all.
        """
        tokens = sequences * length
        body = (
            self.per_batch + self.per_sequence * sequences + self.per_token * tokens + self.per_pair * tokens * length
        )
        return body + self.per_prediction * (tokens if predictions is None else predictions)


@dataclass(frozen=True)
class Reach:
    """From where gradients flow back.

    Attributes:
        layers: Layers, from the lowest, that have gradients. None: all.
        vectors: Of the layer above them, which of queries, keys and values have.
        logits: Whether the head has.
    """

    layers: int | None = None
    vectors: frozenset[str] = frozenset()
    logits: bool = True


@dataclass(frozen=True)
class BatchFlops:
    """Operations of a batch.

    Attributes:
        real: Those that the sequences alone would take.
        padding: What padding adds to them.
    """

    real: float
    padding: float

    @property
    def computed(self) -> float:
        """All."""
        return self.real + self.padding


def encoder_flops(config: Any, length: int) -> float:
    """Floating-point operations of one sequence's forward pass through embeddings and layers, without a head.

    Args:
        config: Of one of `FAMILIES`.
        length: Tokens, padding included; for a ViT patches and class token (`vit_length`).
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
    """Operations of a batch of sequences.

    Args:
        config: Of one of `FAMILIES`.
        lengths: Tokens of each sequence without padding.
        task: What the head is for, see `head_cost`.
        padded_to: Length they are padded to. None: the longest.
        predictions: Positions that a language-model head answers at. None: all.
        backward: Count the backward pass too.

    Raises:
        ValueError: A sequence is longer than `padded_to`, or family or task is unknown.
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
    """A forward pass, with the head of a task.

    Raises:
        ValueError: Family or task is unknown.
    """
    vectors, attention, rest = _layer(config)
    layer = vectors + attention + rest
    return _embeddings(config) + layer * config.num_hidden_layers + _convolution(config) + head_cost(config, task)


def backward_cost(config: Any, task: str | None = None, learned: float = 1, reach: Reach | None = None) -> Cost:
    """A backward pass: the gradients of weights and of what they are multiplied with, which cost as much each.

    Args:
        config: Of one of `FAMILIES`.
        task: What the head is for.
        learned: Share of the weights that learn; the others have no gradient, but pass it on.
        reach: From where gradients flow. None: from the logits.

    Raises:
        ValueError: Family or task is unknown.
    """
    reach = Reach() if reach is None else reach
    vectors, attention, rest = _layer(config)
    layers = config.num_hidden_layers if reach.layers is None or reach.logits else reach.layers
    whole = (vectors + rest) * (1 + learned) + attention * 2
    total = whole * layers + (_convolution(config) * (1 + learned) if layers else Cost())
    total += _embeddings(config) * (learned if config.model_type == "vit" else 1 + learned)
    if reach.vectors and not reach.logits:
        total += _vectors(config, reach.vectors) * (1 + learned)
    return total + head_cost(config, task) * (1 + learned) if reach.logits else total


def parameter_cost(parameters: int) -> Cost:
    """A forward pass of a model of any kind, attention left out: each parameter is used once per token.

    Args:
        parameters: Without embeddings.

    Source: Kaplan et al. 2020, arXiv 2001.08361, section 2.1.
    """
    return Cost(per_token=_MULTIPLY_AND_ADD * parameters)


def projection_cost(student_size: int, teacher_size: int) -> Cost:
    """One hidden state mapped to its teacher's width, forward."""
    return Cost(per_token=_MULTIPLY_AND_ADD * student_size * teacher_size)


def score_cost(width: int) -> Cost:
    """Scores of every position against every other, X Yᵀ over heads that are together so wide, forward."""
    return Cost(per_pair=_MULTIPLY_AND_ADD * width)


def head_cost(config: Any, task: str | None) -> Cost:
    """The part above the layers, forward.

    Args:
        config: Of one of `FAMILIES`.
        task: A value of `hf_distill.tasks.Task`, or "pooler" for the body of a BERT with its pooler. None: none.

    Raises:
        ValueError: The task is unknown.
    """
    hidden, labels = config.hidden_size, getattr(config, "num_labels", 2)
    if task is None:
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
    """Of queries, and of keys and values, over all heads."""
    if config.model_type not in _DECODERS:
        return config.hidden_size, config.hidden_size
    heads = config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    return size * heads, size * (getattr(config, "num_key_value_heads", None) or heads)


def vit_length(config: Any) -> int:
    """Positions of a ViT: its patches and the class token."""
    return (config.image_size // config.patch_size) ** 2 + 1


def _layer(config: Any) -> tuple[Cost, Cost, Cost]:
    """Of one layer: queries, keys and values; products of positions; output and feed-forward part."""
    if config.model_type not in FAMILIES:
        raise ValueError(f"operations are known for models of type {', '.join(FAMILIES)}, got {config.model_type!r}")
    hidden, (width, _) = config.hidden_size, attention_widths(config)
    feed_forward = getattr(config, "intermediate_size", None) or config.hidden_dim
    matrices = 3 if config.model_type in _GATED else 2
    rest = Cost(per_token=_MULTIPLY_AND_ADD * (width * hidden + matrices * hidden * feed_forward))
    return _vectors(config, VECTORS), score_cost(width) * 2 + _relative_products(config), rest


def _vectors(config: Any, names: Collection[str]) -> Cost:
    width, key_width = attention_widths(config)
    names = VECTORS if config.model_type == "modernbert" else names  # from one matrix
    columns = sum(width if name == "queries" else key_width for name in names)
    relative = 0
    if set(names) == set(VECTORS):
        relative = _relative_kinds(config) * _relative_positions(config) * config.hidden_size * width
    return Cost(per_batch=_MULTIPLY_AND_ADD * relative, per_token=_MULTIPLY_AND_ADD * config.hidden_size * columns)


def _relative_products(config: Any) -> Cost:
    """DeBERTa: content against relative positions, whose embeddings are the same for a whole batch."""
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
    """DeBERTa: beside the first layer, in some sizes."""
    kernel = getattr(config, "conv_kernel_size", 0) if config.model_type == "deberta-v2" else 0
    return Cost(per_token=_MULTIPLY_AND_ADD * kernel * config.hidden_size**2 // getattr(config, "conv_groups", 1))


def _embeddings(config: Any) -> Cost:
    if config.model_type == "vit":
        patch = _MULTIPLY_AND_ADD * config.num_channels * config.patch_size**2 * config.hidden_size
        return Cost(per_sequence=-patch, per_token=patch)  # no pixels behind the class token
    width = getattr(config, "embedding_size", config.hidden_size)
    is_projected = width != config.hidden_size or config.model_type == "albert"
    return Cost(per_token=_MULTIPLY_AND_ADD * width * config.hidden_size if is_projected else 0)

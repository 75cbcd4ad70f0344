"""The prunable units of an encoder (residual dimensions, heads, neurons), and the slices of parameters they consist of."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

SUPPORTED = ("bert", "roberta", "xlm-roberta", "electra", "distilbert", "modernbert", "nomic_bert", "vit")

# Rotary position embeddings turn pairs of dimensions by angles that follow from the head size.
_ROTARY = ("modernbert", "nomic_bert")

_LAYER = re.compile(r"\.layers?\.(\d+)\.")


class Axis(str, Enum):
    """The kind of unit that the entries along a parameter's dimension belong to."""

    HIDDEN = "hidden"  # a dimension of the residual stream, shared by all layers
    QUERY = "query"  # a dimension of a head's queries; all heads are concatenated
    KEY = "key"  # a dimension of a head's keys, multiplied by the same dimension of its queries
    VALUE = "value"  # a dimension of a head's values
    NEURON = "neuron"  # a neuron of one layer's feed-forward network

    @property
    def is_of_heads(self) -> bool:
        """Whether the entries are the concatenated dimensions of all heads."""
        return self in (Axis.QUERY, Axis.KEY, Axis.VALUE)


@dataclass(frozen=True)
class PrunableDimension:
    """A dimension of a parameter whose entries are removed together with units.

    Attributes:
        parameter: The parameter's name in the model's state dict.
        dim: The index of the dimension, from 0.
        axis: The kind of unit that the entries belong to.
        layer: The index of the layer whose units they are, from 0; None for the residual stream.
        part: The index of the part of the dimension that the entries are, from 0.
        parts: The number of equal parts of the dimension: 3 where queries, keys and values are one matrix.
    """

    parameter: str
    dim: int
    axis: Axis
    layer: int | None
    part: int = 0
    parts: int = 1

    def of(self, tensor: Tensor) -> Tensor:
        """The part of a tensor of the parameter's shape that these entries are, as a view."""
        return tensor.chunk(self.parts, self.dim)[self.part]


_Axes = tuple[Axis, ...]  # of the parts of one dimension; empty for a dimension that is not pruned


# The axes of outputs and inputs of linear layers, by patterns of their names; the first match decides.
_HIDDEN: _Axes = (Axis.HIDDEN,)
_NEURON: _Axes = (Axis.NEURON,)
_LINEAR: tuple[tuple[re.Pattern[str], tuple[_Axes, _Axes]], ...] = (
    (re.compile(r"\.(query|q_lin|q_proj)$"), ((Axis.QUERY,), _HIDDEN)),
    (re.compile(r"\.(key|k_lin|k_proj)$"), ((Axis.KEY,), _HIDDEN)),
    (re.compile(r"\.(value|v_lin|v_proj)$"), ((Axis.VALUE,), _HIDDEN)),
    (re.compile(r"\.Wqkv$"), ((Axis.QUERY, Axis.KEY, Axis.VALUE), _HIDDEN)),
    (re.compile(r"\.(attention\.output\.dense|out_lin|o_proj|attn\.Wo)$"), (_HIDDEN, (Axis.VALUE,))),
    (re.compile(r"\.(intermediate\.dense|lin1|fc1|gate_proj|up_proj)$"), (_NEURON, _HIDDEN)),
    (re.compile(r"\.mlp\.Wi$"), (_NEURON * 2, _HIDDEN)),  # neurons, then the gate of each
    (re.compile(r"\.layers?\.\d+\.(.*\.)?(output\.dense|lin2|fc2|down_proj|mlp\.Wo)$"), (_HIDDEN, _NEURON)),
    (re.compile(r"(^|\.)(dense|pre_classifier|vocab_transform)$"), (_HIDDEN, _HIDDEN)),
    (re.compile(r"\.embeddings_project$"), (_HIDDEN, ())),
    (re.compile(r""), ((), _HIDDEN)),  # the last layer of a head: (classes or vocabulary, hidden size)
)


def require_supported(model: PreTrainedModel) -> None:
    """Check that the units of a model's architecture are known.

    Args:
        model: The model to prune.

    Raises:
        ValueError: The architecture is not supported, with the supported ones; or its heads together are not as wide as the model.
    """
    config = model.config
    if config.model_type not in SUPPORTED:
        raise ValueError(
            f"the units of {config.model_type} models ({type(model).__name__}) are not known; known are those of "
            f"{', '.join(SUPPORTED)}"
        )
    head_size = getattr(config, "head_dim", None)
    if head_size is not None and head_size * config.num_attention_heads != config.hidden_size:
        raise ValueError(
            f"width is pruned where hidden size = heads · head size, got a {config.model_type} model {config.hidden_size} wide "
            f"with {config.num_attention_heads} heads of {head_size}"
        )


def keeps_head_size(config: PretrainedConfig) -> bool:
    """Whether heads can only be removed as a whole, since the head size decides what their dimensions mean."""
    return config.model_type in _ROTARY


def require_whole_heads(config: PretrainedConfig, head_size: float) -> None:
    """Check that heads keep their dimensions where they cannot become narrower.

    Args:
        config: The configuration before pruning.
        head_size: The number of dimensions per head after pruning.

    Raises:
        ValueError: They would become narrower; names the hidden sizes that can be reached.
    """
    heads, present = config.num_attention_heads, config.hidden_size // config.num_attention_heads
    if keeps_head_size(config) and head_size != present:
        raise ValueError(
            f"the heads of {config.model_type} models cannot become narrower: their rotary position embeddings turn the "
            f"{present} dimensions of a head by angles that follow from their number, got {head_size:g}. Remove whole heads: "
            f"hidden sizes {[present * kept for kept in range(1, heads + 1)]} keep 1 to {heads} of them"
        )


def units_of(model: PreTrainedModel) -> list[PrunableDimension]:
    """List the dimensions of all parameters that shrink when residual dimensions, heads or neurons are removed.

    Args:
        model: The model to prune.

    Returns:
        One entry per parameter, dimension and part, in the order of the model's modules.

    Raises:
        ValueError: The architecture is not supported.
    """
    require_supported(model)
    found = []
    for name, module in model.named_modules():
        match = _LAYER.search(f".{name}.")
        layer = int(match[1]) if match else None
        for own_name, parameter in module.named_parameters(prefix=name, recurse=False):
            axes = _axes(name, module, own_name.rpartition(".")[2], parameter.dim())
            if _has_own_width(name, model):
                axes = ((),) * len(axes)
            elif _leads_to_own_width(name, model):
                axes = ((), *axes[1:])
            found += [
                PrunableDimension(own_name, dim, axis, None if axis is Axis.HIDDEN else layer, part, len(parts))
                for dim, parts in enumerate(axes)
                for part, axis in enumerate(parts)
            ]
    return found


def _axes(name: str, module: nn.Module, parameter: str, dims: int) -> tuple[_Axes, ...]:
    """The axes of each dimension of a module's own parameter."""
    if isinstance(module, nn.Linear):
        outputs, inputs = next(axes for pattern, axes in _LINEAR if pattern.search(f".{name}"))
        return (outputs, inputs) if parameter == "weight" else (outputs,)
    if isinstance(module, nn.Embedding):
        return ((), _HIDDEN)
    if isinstance(module, nn.LayerNorm):
        return (_HIDDEN,)
    if isinstance(module, nn.Conv2d):  # patch embeddings of images
        return (_HIDDEN,) + ((),) * (dims - 1)
    if parameter == "bias":  # of a masked-language-model head, (vocabulary,)
        return ((),)
    return ((),) * (dims - 1) + (_HIDDEN,)  # class token and position embeddings of images


# ELECTRA's embeddings may be narrower than its layers; its masked-language-model head then projects to their width.
def _has_own_width(name: str, model: PreTrainedModel) -> bool:
    pattern = r"(^|\.)(embeddings\..*|generator_predictions\.LayerNorm|generator_lm_head)$"
    return _embeddings_differ(model) and re.search(pattern, name) is not None


def _leads_to_own_width(name: str, model: PreTrainedModel) -> bool:
    return _embeddings_differ(model) and name.endswith("generator_predictions.dense")


def _embeddings_differ(model: PreTrainedModel) -> bool:
    return getattr(model.config, "embedding_size", model.config.hidden_size) != model.config.hidden_size

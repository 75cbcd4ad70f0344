"""The prunable units of an encoder (residual dimensions, heads, neurons), and the slices of parameters they consist of."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from torch import nn
from transformers import PreTrainedModel

SUPPORTED = ("bert", "roberta", "electra", "distilbert", "vit")

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
    """

    parameter: str
    dim: int
    axis: Axis
    layer: int | None


# The axes of outputs and inputs of linear layers, by patterns of their names; the first match decides.
_LINEAR = (
    (re.compile(r"\.(query|q_lin|q_proj)$"), (Axis.QUERY, Axis.HIDDEN)),
    (re.compile(r"\.(key|k_lin|k_proj)$"), (Axis.KEY, Axis.HIDDEN)),
    (re.compile(r"\.(value|v_lin|v_proj)$"), (Axis.VALUE, Axis.HIDDEN)),
    (re.compile(r"\.(attention\.output\.dense|out_lin|o_proj)$"), (Axis.HIDDEN, Axis.VALUE)),
    (re.compile(r"\.(intermediate\.dense|lin1|fc1)$"), (Axis.NEURON, Axis.HIDDEN)),
    (re.compile(r"\.layers?\.\d+\.(.*\.)?(output\.dense|lin2|fc2)$"), (Axis.HIDDEN, Axis.NEURON)),
    (re.compile(r"(^|\.)(dense|pre_classifier|vocab_transform)$"), (Axis.HIDDEN, Axis.HIDDEN)),
    (re.compile(r"\.embeddings_project$"), (Axis.HIDDEN, None)),
    (re.compile(r""), (None, Axis.HIDDEN)),  # the last layer of a head: (classes or vocabulary, hidden size)
)


def require_supported(model: PreTrainedModel) -> None:
    """Check that the units of a model's architecture are known.

    Args:
        model: The model to prune.

    Raises:
        ValueError: The architecture is not supported; the message lists the supported ones.
    """
    if model.config.model_type not in SUPPORTED:
        raise ValueError(
            f"the units of {model.config.model_type} models ({type(model).__name__}) are not known; known are those of "
            f"{', '.join(SUPPORTED)}"
        )


def units_of(model: PreTrainedModel) -> list[PrunableDimension]:
    """List the dimensions of all parameters that shrink when residual dimensions, heads or neurons are removed.

    Args:
        model: The model to prune.

    Returns:
        One entry per parameter and dimension, in the order of the model's modules.

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
                axes = (None,) * len(axes)
            elif _leads_to_own_width(name, model):
                axes = (None, *axes[1:])
            found += [
                PrunableDimension(own_name, dim, axis, None if axis is Axis.HIDDEN else layer)
                for dim, axis in enumerate(axes)
                if axis is not None
            ]
    return found


def _axes(name: str, module: nn.Module, parameter: str, dims: int) -> tuple[Axis | None, ...]:
    """The axis of each dimension of a module's own parameter; None for dimensions that are not pruned."""
    if isinstance(module, nn.Linear):
        outputs, inputs = next(axes for pattern, axes in _LINEAR if pattern.search(f".{name}"))
        return (outputs, inputs) if parameter == "weight" else (outputs,)
    if isinstance(module, nn.Embedding):
        return (None, Axis.HIDDEN)
    if isinstance(module, nn.LayerNorm):
        return (Axis.HIDDEN,)
    if isinstance(module, nn.Conv2d):  # patch embeddings of images
        return (Axis.HIDDEN,) + (None,) * (dims - 1)
    if parameter == "bias":  # of a masked-language-model head, (vocabulary,)
        return (None,)
    return (None,) * (dims - 1) + (Axis.HIDDEN,)  # class token and position embeddings of images


# ELECTRA's embeddings may be narrower than its layers; its masked-language-model head then projects to their width.
def _has_own_width(name: str, model: PreTrainedModel) -> bool:
    pattern = r"(^|\.)(embeddings\..*|generator_predictions\.LayerNorm|generator_lm_head)$"
    return _embeddings_differ(model) and re.search(pattern, name) is not None


def _leads_to_own_width(name: str, model: PreTrainedModel) -> bool:
    return _embeddings_differ(model) and name.endswith("generator_predictions.dense")


def _embeddings_differ(model: PreTrainedModel) -> bool:
    return getattr(model.config, "embedding_size", model.config.hidden_size) != model.config.hidden_size

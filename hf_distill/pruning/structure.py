"""The units of an encoder, and the slices of parameters each of them owns."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from torch import nn
from transformers import PreTrainedModel

SUPPORTED = ("bert", "roberta", "electra", "distilbert", "vit")

_LAYER = re.compile(r"\.layers?\.(\d+)\.")


class Axis(str, Enum):
    """What the entries of a parameter's dimension stand for."""

    HIDDEN = "hidden"  # a dimension of the residual stream, shared by all layers
    QUERY = "query"  # a dimension of a head's queries, heads side by side
    KEY = "key"  # of its keys, compared with the same dimension of its queries
    VALUE = "value"  # of its values
    NEURON = "neuron"  # a neuron of one layer's feed-forward part

    @property
    def is_of_heads(self) -> bool:
        """Whether its entries are the dimensions of all heads."""
        return self in (Axis.QUERY, Axis.KEY, Axis.VALUE)


@dataclass(frozen=True)
class Owned:
    """A dimension of a parameter whose entries belong to units.

    Attributes:
        parameter: Name in the model's state dict.
        dim: The dimension.
        axis: What its entries belong to.
        layer: The layer whose units they are; None for the residual stream.
    """

    parameter: str
    dim: int
    axis: Axis
    layer: int | None


# Linear layers by name: the axes of outputs and inputs. The first pattern that fits counts.
_LINEAR = (
    (re.compile(r"\.(query|q_lin|q_proj)$"), (Axis.QUERY, Axis.HIDDEN)),
    (re.compile(r"\.(key|k_lin|k_proj)$"), (Axis.KEY, Axis.HIDDEN)),
    (re.compile(r"\.(value|v_lin|v_proj)$"), (Axis.VALUE, Axis.HIDDEN)),
    (re.compile(r"\.(attention\.output\.dense|out_lin|o_proj)$"), (Axis.HIDDEN, Axis.VALUE)),
    (re.compile(r"\.(intermediate\.dense|lin1|fc1)$"), (Axis.NEURON, Axis.HIDDEN)),
    (re.compile(r"\.layers?\.\d+\.(.*\.)?(output\.dense|lin2|fc2)$"), (Axis.HIDDEN, Axis.NEURON)),
    (re.compile(r"(^|\.)(dense|pre_classifier|vocab_transform)$"), (Axis.HIDDEN, Axis.HIDDEN)),
    (re.compile(r"\.embeddings_project$"), (Axis.HIDDEN, None)),
    (re.compile(r""), (None, Axis.HIDDEN)),  # a head's last layer: classes or words by hidden size
)


def require_supported(model: PreTrainedModel) -> None:
    """Refuse a family whose units are not known.

    Raises:
        ValueError: Names the family and those that are.
    """
    if model.config.model_type not in SUPPORTED:
        raise ValueError(
            f"the units of {model.config.model_type} models ({type(model).__name__}) are not known; known are those of "
            f"{', '.join(SUPPORTED)}"
        )


def units_of(model: PreTrainedModel) -> list[Owned]:
    """Which dimensions of which parameters belong to residual dimensions, heads and neurons.

    Raises:
        ValueError: The family is not supported.
    """
    require_supported(model)
    found = []
    for name, module in model.named_modules():
        layer = _LAYER.search(f".{name}.")
        for own_name, parameter in module.named_parameters(prefix=name, recurse=False):
            axes = _axes(name, module, own_name.rpartition(".")[2], parameter.dim())
            if _has_own_width(name, model):
                axes = (None,) * len(axes)
            elif _leads_to_own_width(name, model):
                axes = (None, *axes[1:])
            found += [
                Owned(own_name, dim, axis, None if axis is Axis.HIDDEN else int(layer[1]))
                for dim, axis in enumerate(axes)
                if axis is not None
            ]
    return found


def _axes(name: str, module: nn.Module, parameter: str, dims: int) -> tuple[Axis | None, ...]:
    """The axis of each dimension of a module's own parameter."""
    if isinstance(module, nn.Linear):
        outputs, inputs = next(axes for pattern, axes in _LINEAR if pattern.search(f".{name}"))
        return (outputs, inputs) if parameter == "weight" else (outputs,)
    if isinstance(module, nn.Embedding):
        return (None, Axis.HIDDEN)
    if isinstance(module, nn.LayerNorm):
        return (Axis.HIDDEN,)
    if isinstance(module, nn.Conv2d):  # of image patches
        return (Axis.HIDDEN,) + (None,) * (dims - 1)
    if parameter == "bias":  # of a masked-language-model head, one per word
        return (None,)
    return (None,) * (dims - 1) + (Axis.HIDDEN,)  # class token and positions of images


# ELECTRA's embeddings may have a width of their own, and then its masked-language-model head ends in that width.
def _has_own_width(name: str, model: PreTrainedModel) -> bool:
    pattern = r"(^|\.)(embeddings\..*|generator_predictions\.LayerNorm|generator_lm_head)$"
    return _embeddings_differ(model) and re.search(pattern, name) is not None


def _leads_to_own_width(name: str, model: PreTrainedModel) -> bool:
    return _embeddings_differ(model) and name.endswith("generator_predictions.dense")


def _embeddings_differ(model: PreTrainedModel) -> bool:
    return getattr(model.config, "embedding_size", model.config.hidden_size) != model.config.hidden_size

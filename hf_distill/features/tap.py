"""Capture features of a forward pass: hidden states by index; queries, keys and values of chosen layers.

Eager attention is not needed: an attention function registered with transformers records its arguments and calls the
function that the model used before.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.utils import output_capturing

from hf_distill.features.projections import EMBEDDING
from hf_distill.objectives.model_outputs import FeatureRequest, Features

FEATURES = "distillation_features"
_PREFIX = "hf_distill_"
_ATTENTION = ("queries", "keys", "values")
# From version 5.23 on transformers keeps the hidden states of a list of indices alone; before, it counted layers.
_SELECTS_STATES = hasattr(output_capturing, "selected_hidden_states")
_STATES_SUPPORTED = (
    "Hidden states can be compared for models with one stack of layers, encoder or decoder, whose outputs all have the "
    "shape of the embeddings' output, such as BERT, RoBERTa, ViT and Llama; with this model set hidden_state_weight and "
    "embedding_weight to 0 (soft labels work), and precompute no hidden states."
)

# The taps of running models: an attention function is called deep inside a model, without a reference to its tap.
_active: list[FeatureTap] = []


class FeatureTap:
    """Adds the requested features to the output of a model's forward pass, within `capture()`.

    The output becomes a plain dict with one more entry, `distillation_features`, which `features_of` reads: wrappers
    such as DistributedDataParallel have to find every tensor that the loss uses in the output.

    Args:
        model: The model itself, not its wrapper.
        request: The features to capture.
        project: Function of a hidden state and its index, applied inside the forward pass so that wrappers see its
            parameters used. None: hidden states are captured as they are.

    Raises:
        ValueError: Features cannot be captured from models of this class.
    """

    def __init__(
        self,
        model: nn.Module,
        request: FeatureRequest,
        project: Callable[[Tensor, int], Tensor] | None = None,
    ):
        if not isinstance(model, PreTrainedModel):
            raise ValueError(
                f"hidden states and attention can be read from transformers models only, got {type(model).__name__}; "
                "use soft and hard labels alone"
            )
        self._request, self._project = request, project
        self._enabled = False
        self._attention: dict[str, dict[int, Tensor]] = {}
        self._fsdp_units: list[FSDPModule] = []  # modules that FSDP2 gathers together, outer before inner ones
        self._calls = 0
        self._trains = False
        if request.attention:
            _record_attention(model)
        self._hooks = [
            model.register_forward_pre_hook(self._before, with_kwargs=True),
            model.register_forward_hook(self._after, always_call=True),
        ]

    @contextmanager
    def capture(self, enabled: bool = True) -> Iterator[None]:
        """Within this context the model's output has its features; outside the model is unchanged."""
        self._enabled = enabled
        try:
            yield
        finally:
            self._enabled = False

    def remove(self) -> None:
        """Remove the hooks; the registered attention function stays, and without a tap only calls the original one."""
        for hook in self._hooks:
            hook.remove()

    def record(self, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, scaling: float | None) -> None:
        """Record the vectors of one attention layer, if they are requested; layers are numbered in the order of calls.

        Args:
            module: The attention module that is running.
            query: The query vectors, (batch, heads, sequence, head size).
            key: The key vectors, (batch, key heads, sequence, head size).
            value: The value vectors, (batch, key heads, sequence, head size).
            scaling: The factor by which the module scales attention scores. None: 1 / √(head size).

        Raises:
            ValueError: The model trains, but no gradient would flow through these vectors.
        """
        layer, self._calls = self._calls, self._calls + 1
        if layer not in self._request.attention:
            return
        if self._trains and not torch.is_grad_enabled():
            raise ValueError(
                "no gradient flows through attention inside re-entrant checkpoints; set gradient_checkpointing_kwargs="
                '{"use_reentrant": False}'
            )
        usual = query.shape[-1] ** -0.5
        if scaling is not None and scaling != usual:
            query = query * (scaling / usual)
        unit = next((unit for unit in reversed(self._fsdp_units) if module in cast(nn.Module, unit).modules()), None)
        for name, vectors in zip(_ATTENTION, (query, key, value), strict=True):
            self._attention[name][layer] = vectors
            if unit is not None and vectors.requires_grad:
                # FSDP2 gathers weights when the layer's output gets a gradient, which a loss on vectors does not give.
                vectors.register_hook(lambda gradient: unit.unshard())

    def _before(self, module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
        if not self._enabled:
            return None
        self._calls, self._attention = 0, {name: {} for name in _ATTENTION}
        self._trains = torch.is_grad_enabled()
        self._fsdp_units = [part for part in module.modules() if isinstance(part, FSDPModule)]
        _active.append(self)
        if self._request.hidden_states:
            kwargs["output_hidden_states"] = sorted(self._request.hidden_states) if _SELECTS_STATES else True
        return args, kwargs

    def _after(self, module: nn.Module, args: tuple, output: Any) -> Any:
        if self in _active:
            _active.remove(self)
        if not self._enabled or output is None:  # None: the forward pass raised an error
            return None
        output = dict(output)
        hidden_states = _chosen(output.pop("hidden_states", ()), self._request.hidden_states, module)
        missing = self._request.attention - self._attention["queries"].keys()
        if missing:
            raise ValueError(
                f"{type(module).__name__} handed over no queries, keys and values for layers {sorted(missing)}: its "
                "attention does not go through transformers' AttentionInterface. Soft labels and hidden states work "
                "with it; set attention_weight and relation_weight to 0, or use another architecture."
            )
        if self._project is not None:
            hidden_states = {index: self._project(states, index) for index, states in hidden_states.items()}
        output[FEATURES] = {"hidden_states": hidden_states, **self._attention}
        if self._request.embedding:
            own = output["logits"]
            output[FEATURES]["embedding"] = own if self._project is None else self._project(own, EMBEDDING)
        self._attention, self._fsdp_units = {}, []
        return output


def features_of(output: Any, logits: Tensor | None) -> Features:
    """Take the captured features out of a model's output.

    Args:
        output: The output of the forward pass; its entry `distillation_features`, if there is one, is removed.
        logits: The logits to return with the features.

    Returns:
        The logits with the captured features; no features if the forward pass ran without a tap.
    """
    captured = output.pop(FEATURES, None) if type(output) is dict else None
    return Features(logits, **(captured or {}))


def _chosen(states: Sequence[Tensor | None], wanted: Collection[int], module: nn.Module) -> dict[int, Tensor]:
    """The wanted hidden states by index, all of the shape of the embeddings' output.

    Args:
        states: The hidden states of a forward pass, (batch, sequence, hidden); None for those that were not requested.
        wanted: The indices of the wanted hidden states.
        module: The model, named in error messages.

    Returns:
        The wanted hidden states by index, in ascending order.

    Raises:
        ValueError: The model has fewer hidden states, or its layers have outputs of different shapes.
    """
    found = {index: states[index] if index < len(states) else None for index in sorted(wanted)}
    chosen = {index: state for index, state in found.items() if state is not None}
    if missing := [index for index in found if index not in chosen]:
        raise ValueError(
            f"{type(module).__name__} gives no hidden states {missing}, it gives {len(states)} of one stack of layers. "
            f"{_STATES_SUPPORTED}"
        )
    compared = (state for state in (*states[:1], *chosen.values()) if state is not None)
    shapes = [tuple(state.shape[1:]) for state in compared] if chosen else []
    if len(set(shapes)) > 1:
        raise ValueError(
            f"the layers of {type(module).__name__} have outputs of different shapes: {sorted(set(shapes))} for one row. "
            f"{_STATES_SUPPORTED}"
        )
    return chosen


def require_one_stack(model: nn.Module) -> None:
    """Refuse to capture hidden states of an encoder-decoder model, whose indices would be ambiguous.

    Args:
        model: The model whose hidden states are wanted.

    Raises:
        ValueError: The model has an encoder and a decoder; the message names its class and what is supported.
    """
    is_pair = getattr(getattr(model, "config", None), "is_encoder_decoder", False)
    if is_pair and hasattr(getattr(model, "base_model", None), "decoder"):
        raise ValueError(f"{type(model).__name__} has an encoder and a decoder. {_STATES_SUPPORTED}")


def _record_attention(model: PreTrainedModel) -> None:
    current = model.config._attn_implementation
    if current.startswith(_PREFIX):
        return
    name = _PREFIX + current.replace("/", "_")  # a name with a slash would be looked up on the Hub
    AttentionInterface.register(name, _recording(ALL_ATTENTION_FUNCTIONS.get(current, _eager)))
    AttentionMaskInterface.register(name, ALL_MASK_ATTENTION_FUNCTIONS[current])
    model.set_attn_implementation(name)


def _eager(module: nn.Module, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
    """Eager attention, which is not registered: each architecture defines it beside its attention layer."""
    return sys.modules[type(module).__module__].eager_attention_forward(module, *args, **kwargs)


def _recording(attention: Callable) -> Callable:
    def record_and_attend(
        module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
    ) -> tuple[Tensor, Tensor | None]:
        if _active:
            _active[-1].record(module, query, key, value, kwargs.get("scaling"))
        return attention(module, query, key, value, attention_mask, **kwargs)

    return record_and_attend

"""What a forward pass must leave behind: hidden states by index; queries, keys and values of chosen layers.

Nothing here needs eager attention: an attention function, registered with transformers, notes what it is handed and
calls the function the model used before.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.utils import output_capturing

from hf_distill.objectives.model_outputs import FeatureRequest, Features

FEATURES = "distillation_features"
_PREFIX = "hf_distill_"
_ATTENTION = ("queries", "keys", "values")
# From version 5.23 on transformers keeps the hidden states of a list of indices alone; before, it counted layers.
_SELECTS_STATES = hasattr(output_capturing, "selected_hidden_states")
_STATES_SUPPORTED = (
    "Hidden states can be compared of models with one stack of layers, encoder or decoder, whose outputs all have the "
    "shape of the embeddings' output, such as BERT, RoBERTa, ViT and Llama; with this model set hidden_state_weight and "
    "embedding_weight to 0 (soft labels work), and record no hidden states."
)

# The tap whose model is running; the attention function is called deep inside and gets no other sign of it.
_active: list[FeatureTap] = []


class FeatureTap:
    """Makes a model's forward leave the requested features in its output, within `on()`.

    The output becomes a plain dict with one more entry, `distillation_features`, which `features_of` reads: wrappers
    such as DistributedDataParallel must find there every tensor that the loss uses.

    Args:
        model: The model itself, not its wrapper.
        request: What to leave behind.
        project: Applied to each hidden state and its index inside the forward, so that wrappers see its parameters used.

    Raises:
        ValueError: The model's class cannot give what is requested.
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
        self._fsdp_units: list[FSDPModule] = []  # parts that FSDP2 puts together at a time, outer before inner ones
        self._calls = 0
        self._trains = False
        if request.attention:
            _record_attention(model)
        self._hooks = [
            model.register_forward_pre_hook(self._before, with_kwargs=True),
            model.register_forward_hook(self._after, always_call=True),
        ]

    @contextmanager
    def on(self, enabled: bool = True) -> Iterator[None]:
        """Within it the model leaves its features behind; outside it is as it always was."""
        self._enabled = enabled
        try:
            yield
        finally:
            self._enabled = False

    def remove(self) -> None:
        """Leave the model as it was, but for its attention function, which does nothing more without a tap."""
        for hook in self._hooks:
            hook.remove()

    def record(self, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, scaling: float | None) -> None:
        """Note one attention layer's vectors, if they were asked for; layers are told apart by the order of calls.

        Raises:
            ValueError: No gradient would flow through them, although the model trains.
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
        unit = next((unit for unit in reversed(self._fsdp_units) if module in unit.modules()), None)
        for name, vectors in zip(_ATTENTION, (query, key, value), strict=True):
            self._attention[name][layer] = vectors
            if unit is not None and vectors.requires_grad:
                # FSDP2 waits for a gradient of the layer's output, which a loss of these vectors alone does not have.
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
        if not self._enabled or output is None:  # None: the forward has raised
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
        self._attention, self._fsdp_units = {}, []
        return output


def features_of(output: Any, logits: Tensor | None) -> Features:
    """Take the features out of a tapped model's output.

    Args:
        output: What the forward returned, changed in place.
        logits: The logits that go with them.
    """
    left = output.pop(FEATURES, None) if type(output) is dict else None
    return Features(logits, **(left or {}))


def _chosen(states: Sequence[Tensor | None], wanted: Collection[int], module: nn.Module) -> dict[int, Tensor]:
    """Hidden states by index, all of the shape of the embeddings' output.

    Raises:
        ValueError: The model has not so many, or its layers have outputs of different shapes.
    """
    chosen = {index: states[index] if index < len(states) else None for index in sorted(wanted)}
    if missing := [index for index, state in chosen.items() if state is None]:
        raise ValueError(
            f"{type(module).__name__} gives no hidden states {missing}, it gives {len(states)} of one stack of layers. "
            f"{_STATES_SUPPORTED}"
        )
    # transformers leaves None in place of what was not asked for
    there = (state for state in (*states[:1], *chosen.values()) if state is not None)
    shapes = [tuple(state.shape[1:]) for state in there] if chosen else []
    if len(set(shapes)) > 1:
        raise ValueError(
            f"the layers of {type(module).__name__} have outputs of different shapes: {sorted(set(shapes))} for one row. "
            f"{_STATES_SUPPORTED}"
        )
    return chosen


def require_one_stack(model: nn.Module) -> None:
    """Refuse the hidden states of a model with an encoder and a decoder: which of the two is meant is not said.

    Raises:
        ValueError: Names the class, and what is supported.
    """
    is_pair = getattr(getattr(model, "config", None), "is_encoder_decoder", False)
    if is_pair and hasattr(getattr(model, "base_model", None), "decoder"):
        raise ValueError(f"{type(model).__name__} has an encoder and a decoder. {_STATES_SUPPORTED}")


def _record_attention(model: PreTrainedModel) -> None:
    current = model.config._attn_implementation
    if current.startswith(_PREFIX):
        return
    name = _PREFIX + current.replace("/", "_")  # a name with a slash would be looked up on the hub
    AttentionInterface.register(name, _recording(ALL_ATTENTION_FUNCTIONS.get(current, _eager)))
    AttentionMaskInterface.register(name, ALL_MASK_ATTENTION_FUNCTIONS[current])
    model.set_attn_implementation(name)


def _eager(module: nn.Module, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
    """Eager attention is not registered: each architecture has its own, beside its attention layer."""
    return sys.modules[type(module).__module__].eager_attention_forward(module, *args, **kwargs)


def _recording(attention: Callable) -> Callable:
    def record_and_attend(
        module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
    ) -> tuple[Tensor, Tensor | None]:
        if _active:
            _active[-1].record(module, query, key, value, kwargs.get("scaling"))
        return attention(module, query, key, value, attention_mask, **kwargs)

    return record_and_attend

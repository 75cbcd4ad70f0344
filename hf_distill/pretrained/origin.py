"""How `create_student` or a script made a model: a note on the model that training defaults and records depend on."""

from __future__ import annotations

from torch import nn
from transformers import PreTrainedModel

_NOTE = "hf_distill_initialization"


def initialization_of(model: nn.Module) -> str | None:
    """The initialization, such as "truncated", by which `create_student` or a script made a model; None for other models."""
    return getattr(model, _NOTE, None)


def note_initialization(model: nn.Module, initialization: str | None) -> None:
    """Note on a model by which initialization it, or the larger model it was cut from, was made; None: leave it as it is."""
    if initialization is not None:
        setattr(model, _NOTE, initialization)


def note_random_weights(model: PreTrainedModel) -> None:
    """Note on a model that was made from a configuration, which may be that of another model, that its weights are random."""
    note_initialization(model, "random")
    model.config._name_or_path = ""

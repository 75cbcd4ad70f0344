"""How `create_student` made a model: a note on the model that training defaults and records depend on."""

from __future__ import annotations

from torch import nn

_NOTE = "hf_distill_initialization"
_RANDOM = "hf_distill_random_weights"


def initialization_of(model: nn.Module) -> str | None:
    """The initialization, such as "truncated", by which `create_student` made a model; None for other models."""
    return getattr(model, _NOTE, None)


def note_initialization(model: nn.Module, initialization: str | None) -> None:
    """Note on a model by which initialization it, or the larger model it was cut from, was made; None: leave it as it is."""
    if initialization is not None:
        setattr(model, _NOTE, initialization)


def has_random_weights(model: nn.Module) -> bool:
    """Whether a script made a model from a configuration alone; training defaults do not depend on it."""
    return getattr(model, _RANDOM, False)


def note_random_weights(model: nn.Module) -> None:
    """Note on a model that was made from a configuration that its weights are random."""
    setattr(model, _RANDOM, True)

"""What exportable callbacks have left in a checkpoint's state."""

from __future__ import annotations

from typing import Any, cast

from transformers import TrainerCallback, TrainerState


def saved_attributes(state: TrainerState, kind: type[TrainerCallback]) -> dict[str, Any]:
    """The attributes of a callback of one class, as a checkpoint holds them; empty where there was none."""
    saved = cast(dict[str, Any], state.stateful_callbacks or {})  # transformers 5.23 declares a list
    return saved.get(kind.__name__, {}).get("attributes", {})

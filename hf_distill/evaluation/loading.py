"""Loading of trained models for a comparison."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from hf_distill.evaluation.comparison import DISTILLED, LABELS_ONLY, OTHER, EvaluatedModel
from hf_distill.files import checked, read_json
from hf_distill.pretrained.files import load_image_processor
from hf_distill.pretrained.loading import SavedModel
from hf_distill.tasks import Task


def load_evaluated_model(place: str, name: str, role: str | None = None) -> EvaluatedModel:
    """Load a trained model with its tokenizer or image processor.

    Args:
        place: A folder, or a Hub id, of a model or of a PEFT adapter, which is merged into its base model.
        name: The name to show in the comparison.
        role: The role of `EvaluatedModel`. None: it is read from the folder's `run.json`.

    Returns:
        The model in single precision and evaluation mode.

    Raises:
        ValueError: The head's task is not supported, or weights are missing or not floating-point numbers.
        OSError: The model cannot be found.
    """
    saved = SavedModel.find(place)
    if saved.task is None:
        named = next(iter(getattr(saved.config, "architectures", None) or ()), "none")
        raise ValueError(
            f"{place} must be a model with a head, its config.json names {named}; a sentence encoder is saved by "
            "SentenceEncoder.from_pretrained(..., pooling=...).save_pretrained(...)"
        )
    model, missing = saved.load(saved.task.auto_class, dtype=torch.float32)
    if missing:
        raise ValueError(f"{place} has no trained weights for {missing}: its predictions would be random")
    return EvaluatedModel(name, role or _role_of(place), model.eval(), _processing_class(saved))


def _role_of(place: str) -> str:
    path = Path(place, "run.json")
    if not path.exists():
        return OTHER
    record = read_json(path, finite=False)
    terms = {term.get("name") for term in checked(record.get("objective", []), list[dict], f"'objective' of {path}")}
    return DISTILLED if record.get("teacher") or terms - {"hard_label"} else LABELS_ONLY


def _processing_class(saved: SavedModel) -> Any:
    """The tokenizer or image processor; None for image models saved without one, which need pixel values as data."""
    return load_image_processor(saved.name) if saved.task is Task.IMAGE_CLASSIFICATION else saved.needed_tokenizer()

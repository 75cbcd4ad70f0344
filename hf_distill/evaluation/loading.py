"""Trained models from folders, as a comparison takes them."""

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
    """A trained model with its tokenizer or image processor.

    Args:
        place: A folder, or an id on the Hub; of a PEFT adapter, too, which is merged into its base.
        name: As it is to be shown.
        role: See `EvaluatedModel`. None: as the folder's `run.json` says.

    Raises:
        ValueError: Its head is for no task that is known, weights are missing, or no floating-point numbers.
        OSError: It is not there.
    """
    saved = SavedModel.find(place)
    if saved.task is None:
        named = next(iter(getattr(saved.config, "architectures", None) or ()), "none")
        raise ValueError(f"{place} must be a model with a head, its config.json names {named}")
    model, missing = saved.load(saved.task.auto_class, dtype=torch.float32)
    if missing:
        raise ValueError(f"{place} has no trained weights for {missing}: its answers would be random")
    return EvaluatedModel(name, role or _role_of(place), model.eval(), _processing_class(saved))


def _role_of(place: str) -> str:
    path = Path(place, "run.json")
    if not path.exists():
        return OTHER
    record = read_json(path, finite=False)
    terms = {term.get("name") for term in checked(record.get("objective", []), list[dict], f"'objective' of {path}")}
    return DISTILLED if record.get("teacher") or terms - {"hard_label"} else LABELS_ONLY


def _processing_class(saved: SavedModel) -> Any:
    """None for a model of images that was saved without a processor: its data must be pixel values."""
    return load_image_processor(saved.name) if saved.task is Task.IMAGE_CLASSIFICATION else saved.needed_tokenizer()

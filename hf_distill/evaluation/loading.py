"""Trained models from folders, as a comparison takes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoTokenizer

from hf_distill.evaluation.comparison import DISTILLED, LABELS_ONLY, OTHER, Contestant
from hf_distill.files import checked, read_json
from hf_distill.saved_models import load_image_processor, require_floating_weights
from hf_distill.tasks import Task, task_of_class


def load_contestant(place: str, name: str, role: str | None = None) -> Contestant:
    """A trained model with its tokenizer or image processor.

    Args:
        place: A folder, or an id on the Hub.
        name: As it is to be shown.
        role: See `Contestant`. None: as the folder's `run.json` says.

    Raises:
        ValueError: Its head is for no task that is known, or its weights are no floating-point numbers.
        OSError: It is not there.
    """
    try:
        config = AutoConfig.from_pretrained(place, trust_remote_code=False)
    except OSError as error:
        reason = str(error).partition("\n")[0]
        raise OSError(f"{place} is no folder with a model, nor one on the Hub that can be reached: {reason}") from error
    architecture = next(iter(getattr(config, "architectures", None) or ()), "")
    task = task_of_class(architecture)
    if task is None:
        raise ValueError(f"{place} must be a model with a head, its config.json names {architecture or 'none'}")
    model = task.auto_class.from_pretrained(place, dtype=torch.float32, trust_remote_code=False).eval()
    require_floating_weights(model, place)
    return Contestant(name, role or _role_of(place), model, _processing_class(place, task))


def _role_of(place: str) -> str:
    path = Path(place, "run.json")
    if not path.exists():
        return OTHER
    record = read_json(path, finite=False)
    terms = {term.get("name") for term in checked(record.get("objective", []), list[dict], f"'objective' of {path}")}
    return DISTILLED if record.get("teacher") or terms - {"hard_label"} else LABELS_ONLY


def _processing_class(place: str, task: Task) -> Any:
    """None for a model of images that was saved without a processor: its data must be pixel values."""
    if task is not Task.IMAGE_CLASSIFICATION:
        return AutoTokenizer.from_pretrained(place, trust_remote_code=False)
    return load_image_processor(place)

"""Trained models from folders, as a comparison takes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import AutoImageProcessor, AutoTokenizer

from hf_distill.evaluation.comparison import DISTILLED, LABELS_ONLY, OTHER, Contestant
from hf_distill.tasks import Task, config_of, task_of_class


def load_contestant(place: str, name: str, role: str | None = None) -> Contestant:
    """A trained model with its tokenizer or image processor.

    Args:
        place: A folder, or an id on the Hub.
        name: As it is to be shown.
        role: See `Contestant`. None: as the folder's `run.json` says.

    Raises:
        ValueError: Its head is for no task that is known.
        OSError: It is not there.
    """
    architecture = next(iter(config_of(place).architectures or ()), "")
    task = task_of_class(architecture)
    if task is None:
        raise ValueError(f"{place} must be a model with a head, its config.json names {architecture or 'none'}")
    model = task.auto_class.from_pretrained(place, dtype=torch.float32).eval()
    return Contestant(name, role or _role_of(place), model, _processing_class(place, task))


def _role_of(place: str) -> str:
    path = Path(place, "run.json")
    if not path.exists():
        return OTHER
    record = json.loads(path.read_text(encoding="utf-8"))
    terms = {term["name"] for term in record.get("objective", ())}
    return DISTILLED if record.get("teacher") or terms - {"hard_label"} else LABELS_ONLY


def _processing_class(place: str, task: Task) -> Any:
    """None for a model of images that was saved without a processor: its data must be pixel values."""
    if task is not Task.IMAGE_CLASSIFICATION:
        return AutoTokenizer.from_pretrained(place)
    try:
        return AutoImageProcessor.from_pretrained(place)
    except OSError:
        return None

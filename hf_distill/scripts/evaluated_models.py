"""A teacher and its students, loaded for a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hf_distill.evaluation.comparison import TEACHER, EvaluatedModel
from hf_distill.evaluation.loading import load_evaluated_model


def display_names(places: Sequence[str]) -> list[str]:
    """Names under which models are shown: the last part of their paths, or the last two where the last is not unique."""
    short = [Path(place).name for place in places]
    return short if len(set(short)) == len(short) else ["/".join(Path(place).parts[-2:]) for place in places]


def load_evaluated_models(teacher: str | None, students: Sequence[str]) -> list[EvaluatedModel]:
    """Load the models of a comparison, under names that tell them apart.

    Args:
        teacher: The teacher's folder, or its id on the Hub. None: students are compared with each other.
        students: The students' folders, or their ids on the Hub.

    Returns:
        The models, the teacher first.

    Raises:
        ValueError: A model's task is not supported, or weights are missing or are no floating-point numbers.
        OSError: A model does not exist.
    """
    places = [*([teacher] if teacher else []), *students]
    names = display_names(places)
    roles = [TEACHER if teacher and index == 0 else None for index in range(len(places))]
    return [load_evaluated_model(place, name, role) for place, name, role in zip(places, names, roles, strict=True)]

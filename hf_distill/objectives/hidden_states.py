"""Distances between hidden states of equal width: one value per position, 0 where both agree."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

from hf_distill.objectives.reduction import widened


class HiddenStatePositions(str, Enum):
    """Which positions' hidden states are compared."""

    ALL = "all"
    FIRST = "first"


class HiddenStateLoss(str, Enum):
    """How hidden states are compared; the values name functions of `objectives.hidden_states`."""

    MSE = "mse"
    NORMALIZED_MSE = "normalized_mse"
    COSINE = "cosine"


def mse(student_states: Tensor, teacher_states: Tensor) -> Tensor:
    """Mean squared error over the hidden dimensions.

    Args:
        student_states: The student's hidden states, (..., hidden), projected to the teacher's width where widths
            differ.
        teacher_states: The teacher's hidden states, (..., hidden).

    Returns:
        Squared units per position, (...).

    Source:
        Jiao et al. 2020 (TinyBERT), arXiv 1909.10351, equations 8 and 9.
    """
    return (widened(student_states) - widened(teacher_states)).square().mean(dim=-1)


def normalized_mse(student_states: Tensor, teacher_states: Tensor) -> Tensor:
    """Mean squared error of the directions h / ‖h‖ over the hidden dimensions, in [0, 4 / hidden].

    Args:
        student_states: The student's hidden states, (..., hidden).
        teacher_states: The teacher's hidden states, (..., hidden).

    Returns:
        A dimensionless distance per position, (...).

    Source:
        Sun et al. 2019 (Patient Knowledge Distillation), arXiv 1908.09355, equation 7, which sums over dimensions and
        layers; the authors' code, for which their grid of weights (10 to 1000) was made, averages over both, and so
        does this.
    """
    directions = (normalize(widened(states), dim=-1) for states in (student_states, teacher_states))
    student_direction, teacher_direction = directions
    return (student_direction - teacher_direction).square().mean(dim=-1)


def cosine(student_states: Tensor, teacher_states: Tensor) -> Tensor:
    """1 - cos(h_S, h_T), in [0, 2].

    Args:
        student_states: The student's hidden states, (..., hidden).
        teacher_states: The teacher's hidden states, (..., hidden).

    Returns:
        A dimensionless distance per position, (...).

    Source:
        Sanh et al. 2019 (DistilBERT), arXiv 1910.01108, section 3.
    """
    return 1 - cosine_similarity(widened(student_states), widened(teacher_states), dim=-1)


HIDDEN_STATE_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mse": mse,
    "normalized_mse": normalized_mse,
    "cosine": cosine,
}
# Averaged over the pairs of layers, as in the authors' code; the other losses are summed over them.
MEAN_OVER_LAYERS = frozenset({"normalized_mse"})

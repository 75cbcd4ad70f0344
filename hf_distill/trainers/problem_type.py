"""Resolves the problem type of a classifier (single-label, multi-label or regression) and checks labels against it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from hf_distill.tasks import EMBEDDING, MULTI_LABEL, REGRESSION, SINGLE_LABEL, Task, problem_type_of


class ProblemTypeResolver:
    """Resolves a model's problem type from its configuration, or else from the first labels.

    Args:
        task: The task of the model's head. None: unknown, and nothing is inferred.

    Attributes:
        value: The problem type: `SINGLE_LABEL`, `MULTI_LABEL` or `REGRESSION`; `EMBEDDING` of a sentence encoder.
    """

    def __init__(self, task: Task | None):
        self.value = EMBEDDING if task is Task.SENTENCE_EMBEDDING else SINGLE_LABEL
        self._task, self._has_seen_labels = task, False

    def read_config(self, student: nn.Module) -> None:
        """Set the problem type to the configuration's, or to single-label where it has none."""
        if self.value != EMBEDDING:
            self.value = problem_type_of(getattr(student, "config", None)) or SINGLE_LABEL

    def infer(self, inputs: Mapping[str, Any], student: Any) -> None:
        """Infer a problem type that the configuration leaves open from the first labels; only types and shapes are read.

        Args:
            inputs: A batch of model inputs.
            student: The model itself, not its wrapper; a multi-label problem type is set in its configuration.

        Raises:
            ValueError: The labels do not fit the problem type.
        """
        labels = inputs.get("labels")
        if self._task is None or not self._task.has_problem_type or not isinstance(labels, Tensor):
            return
        found = problem_type_of(student.config, None if self._has_seen_labels else labels)
        self.value, self._has_seen_labels = found or self.value, True
        if self.value == MULTI_LABEL:
            # As the models' own forward does, which gets no labels where soft labels alone are learned.
            student.config.problem_type = MULTI_LABEL
        require_fitting_labels(labels, self.value, student.config.num_labels)


def require_fitting_labels(labels: Any, problem_type: str, num_labels: int) -> None:
    """Refuse labels that do not fit the head of a classifier of texts or images; only their type and shape are read.

    Args:
        labels: The labels of a batch; anything but a tensor is not checked.
        problem_type: The problem type: `SINGLE_LABEL`, `MULTI_LABEL` or `REGRESSION`.
        num_labels: Number of outputs of the head.

    Raises:
        ValueError: The labels do not fit; names their shape and type, and what the head learns from.
    """
    if not isinstance(labels, Tensor) or problem_type == REGRESSION:
        return
    is_float, shape = labels.is_floating_point(), tuple(labels.shape)
    got = f"labels of shape {shape} and type {str(labels.dtype).removeprefix('torch.')}"
    if problem_type == SINGLE_LABEL and (is_float or labels.dim() != 1):
        advice = (
            "class ids must be integers: cast the column (dataset.cast_column('labels', Value('int64'))) and write "
            "-100 where a row has none; for a head of numbers set config.problem_type to 'regression'"
            if labels.dim() == 1
            else "for several labels per row set config.problem_type of student and teacher to 'multi_label_classification'"
        )
        raise ValueError(
            f"the student's head gives each row one of {num_labels} classes, the batch has {got}; {advice}"
        )
    if problem_type == MULTI_LABEL and (not is_float or shape[1:] != (num_labels,)):
        raise ValueError(
            f"the student's problem type is {MULTI_LABEL!r}, so a row's labels are {num_labels} floats of 0 or 1 (-100: not "
            f"known), the batch has {got}; cast them to float32, or set config.problem_type of student and teacher to "
            f"{SINGLE_LABEL!r} if every row has one class"
        )

"""Precomputed teacher outputs: columns of the transfer set, read as a teacher and padded by a collator."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from hf_distill.objectives.logits import MASKED_LOGIT
from hf_distill.objectives.model_outputs import TopClasses
from hf_distill.objectives.reduction import widened
from hf_distill.tasks import Task
from hf_distill.teachers.base import Teacher, TeacherOutputs
from hf_distill.teachers.column_names import (
    CHECKPOINT_COLUMN,
    STATE_COLUMN,
    TEACHER_CLASSES,
    TEACHER_LOGITS,
    TEACHER_POSITIONS,
    TEACHER_PROVENANCE,
    precomputed_columns,
)


class PrecomputedTeacher(Teacher):
    """Reads the teacher outputs from columns of the batch, without a forward pass.

    Args:
        columns: Names of the transfer set's columns, among which those of hidden states are looked up.
        description: The `teacher` in the provenance of the outputs. None: they have no provenance.
    """

    def __init__(self, columns: Iterable[str] = (), description: Mapping[str, Any] | None = None):
        self._description = description
        states = [match.groups() for name in columns if (match := STATE_COLUMN.fullmatch(name))]
        self._recorded = {kind: {int(index) for found, index in states if found == kind} for kind in ("hidden", "cls")}
        known = description or {}
        self._config = SimpleNamespace(
            **{name: known.get(name) for name in ("model_type", "hidden_size", "num_hidden_layers")}
        )

    @property
    def live(self) -> None:
        """None: there is no live teacher."""
        return None

    @property
    def config(self) -> SimpleNamespace:
        """`model_type`, `hidden_size` and `num_hidden_layers` of the teacher, each None where it is unknown."""
        return self._config

    @property
    def description(self) -> Mapping[str, Any] | None:
        """The `teacher` in the provenance of the outputs."""
        return self._description

    @property
    def has_hidden_states(self) -> bool:
        """Whether the teacher's depth is known; `require_states` checks which hidden states were precomputed."""
        return bool(self._config.num_hidden_layers)

    @property
    def has_all_positions(self) -> bool:
        """False: outputs of masked language models are precomputed at the masked positions alone."""
        return False

    @property
    def can_pick_positions(self) -> bool:
        """True: the precomputed positions are the masked ones."""
        return True

    def provides(self, inputs: Mapping[str, Any]) -> bool:
        """Whether the batch has a column of logits."""
        return TEACHER_LOGITS in inputs

    def identity(self) -> Any:
        """The fingerprint of the teacher's weights, or of outputs from elsewhere, in the provenance; None where it is unknown."""
        known = self._description or {}
        if "outputs_sha256" in known:
            return {"outputs with sha256": known["outputs_sha256"]}
        return {"weights with sha256": known.get("weights_sha256")}

    def require_states(self, indices: Iterable[int], first_position_only: bool) -> None:
        """Refuse hidden states that were not precomputed.

        Args:
            indices: Indices of hidden states, 0 for the embeddings' output.
            first_position_only: Whether those of the first position alone are compared.

        Raises:
            ValueError: Some are missing; names those that are compared, missing and present.
        """
        there = self._recorded["hidden"] | (self._recorded["cls"] if first_position_only else set())
        compared = sorted(set(indices))
        if missing := [index for index in compared if index not in there]:
            raise ValueError(
                f"the objective compares the teacher's hidden states {compared}, of which {missing} are not "
                f"precomputed; the transfer set has {sorted(there) or 'none'}. Label it with label_transfer_set("
                f"hidden_states=...), or pass teacher_model (--teacher_model_name_or_path)."
            )

    def outputs(self, inputs: Mapping[str, Any]) -> TeacherOutputs:
        """The outputs in the batch's columns.

        Args:
            inputs: The model inputs with the columns of precomputed teacher outputs.

        Returns:
            `teacher_logits`, (batch, classes) with labels in the student's order, or the top classes at masked positions;
            and hidden states.

        Raises:
            ValueError: The batch has no column of logits.
        """
        if TEACHER_LOGITS not in inputs:
            raise ValueError(
                f"there are no teacher outputs for this batch: it has no {TEACHER_LOGITS!r} column (it has {sorted(inputs)}) and "
                "no teacher was given. Pass teacher_model (--teacher_model_name_or_path), or label the data set with "
                "`hf-distill label` or label_transfer_set."
            )
        logits, states = widened(inputs[TEACHER_LOGITS]), {}
        for name, value in inputs.items():
            if match := STATE_COLUMN.fullmatch(name):
                kind, index = match[1], int(match[2])
                if kind == "hidden" or index not in states:
                    states[index] = widened(value if kind == "hidden" else value.unsqueeze(1))
        if TEACHER_CLASSES in inputs:
            top = TopClasses(inputs[TEACHER_POSITIONS], inputs[TEACHER_CLASSES], logits)
            return TeacherOutputs(None, hidden_states=states, top=top)
        return TeacherOutputs(logits, hidden_states=states)


class PrecomputedCollator:
    """A data collator that adds the columns of precomputed teacher outputs to the model inputs of another collator.

    Outputs per position are padded to the inputs' length. Outputs of several checkpoints are stacked to one
    `teacher_logits`, (batch, checkpoints, ...).

    Args:
        data_collator: The collator that makes the model inputs.
        task: The task of the teacher's head. None: unknown, the logits are one distribution per example.
    """

    def __init__(self, data_collator: Callable[[list], dict], task: Task | None):
        self.data_collator, self.task = data_collator, task

    def __call__(self, examples: list[Any]) -> dict[str, Any]:
        """Collate one batch of model inputs and teacher outputs."""
        names = precomputed_columns(examples[0]) if isinstance(examples[0], Mapping) else []
        if not names:
            return self.data_collator(examples)
        rest = [{name: value for name, value in example.items() if name not in names} for example in examples]
        batch = dict(self.data_collator(rest))
        tokens = batch.get("input_ids")
        length = 0 if tokens is None else tokens.shape[1]
        tokenizer = getattr(self.data_collator, "tokenizer", None)
        is_left = getattr(tokenizer, "padding_side", "right") == "left"
        columns = {}
        for name in names:
            if name.startswith(TEACHER_PROVENANCE):
                continue
            values = [example[name] for example in examples]
            if TEACHER_CLASSES in names and name in (TEACHER_LOGITS, TEACHER_CLASSES, TEACHER_POSITIONS):
                columns[name] = _items(name, [_tensor(value) for value in values])
            elif self._is_of_positions(name):
                dim, filling = (1, MASKED_LOGIT) if self._is_of_spans(name) else (0, 0)
                columns[name] = torch.stack([_filled_up(_tensor(row), dim, length, filling, is_left) for row in values])
            else:
                columns[name] = torch.stack(values) if isinstance(values[0], Tensor) else _tensor(np.asarray(values))
        if TEACHER_POSITIONS in columns and is_left:
            moved = length - torch.tensor([len(row["input_ids"]) for row in rest])[:, None]
            columns[TEACHER_POSITIONS] += moved * (columns[TEACHER_POSITIONS] >= 0)
        of_checkpoints = sorted(
            (int(match[1]), name) for name in columns if (match := CHECKPOINT_COLUMN.fullmatch(name))
        )
        if of_checkpoints:
            columns[TEACHER_LOGITS] = torch.stack([columns.pop(name) for _, name in of_checkpoints], dim=1)
        return batch | columns

    def _is_of_positions(self, name: str) -> bool:
        of_tokens = name.startswith(TEACHER_LOGITS) and self.task is not None and self.task.is_per_token
        return of_tokens or name.startswith("teacher_hidden")

    def _is_of_spans(self, name: str) -> bool:
        return name.startswith(TEACHER_LOGITS) and self.task is Task.QUESTION_ANSWERING


def _items(name: str, rows: list[Tensor]) -> Tensor:
    """Stack outputs at masked positions to (batch, items, ...); rows may have different numbers of items, or none."""
    width = next(
        (row.shape[1:] for row in rows if row.numel()), {TEACHER_LOGITS: (2,), TEACHER_CLASSES: (1,)}.get(name)
    )
    filling = -1 if name == TEACHER_POSITIONS else 0
    dtype = torch.float32 if name == TEACHER_LOGITS else torch.int64
    items = max(map(len, rows))
    return torch.stack([_filled_up(row.to(dtype).reshape(len(row), *width or ()), 0, items, filling) for row in rows])


def _filled_up(row: Tensor, dim: int, length: int, filling: float, is_left: bool = False) -> Tensor:
    missing = length - row.shape[dim]
    widths = [0, 0] * (row.dim() - 1 - dim) + ([missing, 0] if is_left else [0, missing])
    return pad(row, widths, value=filling)


def _tensor(values: Any) -> Tensor:
    """Numbers as a tensor, with Python's floats in single precision as torch converts them."""
    tensor = torch.as_tensor(values)
    return tensor.float() if isinstance(values, np.ndarray) and tensor.dtype == torch.float64 else tensor

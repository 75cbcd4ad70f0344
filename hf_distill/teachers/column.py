"""A teacher that has already spoken: its outputs are a column of the transfer set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from hf_distill.teachers.outputs import TeacherOutputs

TEACHER_LOGITS = "teacher_logits"


class ColumnTeacher:
    """Reads the `teacher_logits` a batch carries; costs no forward pass."""

    def outputs(self, inputs: Mapping[str, Any]) -> TeacherOutputs:
        """The batch's own `teacher_logits`, (batch, classes), in the student's order of labels.

        Raises:
            ValueError: The batch carries none.
        """
        if TEACHER_LOGITS not in inputs:
            raise ValueError(
                f"no teacher answers for this batch: it has no {TEACHER_LOGITS!r} column (it has {sorted(inputs)}) and "
                "no teacher_model was given. Pass teacher_model, or label the dataset with label_transfer_set."
            )
        logits = inputs[TEACHER_LOGITS]
        return TeacherOutputs(logits=logits.to(torch.promote_types(logits.dtype, torch.float32)))

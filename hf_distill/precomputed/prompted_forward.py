"""Forward passes of a prompted language model over texts, and the distribution of every template as a data column."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import datasets
import numpy as np
from torch import Tensor

from hf_distill.compute.forward_cost import batch_shape
from hf_distill.precomputed.forward import BatchedForward
from hf_distill.teachers.base import TeacherOutputs
from hf_distill.teachers.column_names import TEMPLATE_LOGITS
from hf_distill.teachers.prompted import PromptedOutputs, PromptedTeacher


class PromptedForward(BatchedForward):
    """Like `BatchedForward`, for texts that the teacher itself makes prompts of.

    Where the prompt has several templates, the column `template_logits` holds the log-probabilities of each,
    (templates, labels).
    """

    teacher: PromptedTeacher

    def features(self) -> dict[str, Any]:
        """The data columns of the outputs, with their types."""
        found = super().features()
        if len(self.teacher.prompt.templates) > 1:
            found[TEMPLATE_LOGITS] = datasets.List(datasets.List(datasets.Value(self.options.dtype)))
        return found

    def _lengths(self, rows: datasets.Dataset) -> np.ndarray:
        """The characters of each row's texts, int (rows,)."""
        texts = zip(*(rows[name][:] for name in self.teacher.encoder.columns), strict=True)
        return np.array([sum(map(len, each)) for each in texts], np.int64)

    def _states(self, outputs: TeacherOutputs, valid: Tensor | None) -> dict[str, list[np.ndarray]]:
        found, logits = super()._states(outputs, valid), cast(PromptedOutputs, outputs).template_logits
        if logits is not None and logits.shape[1] > 1:
            found[TEMPLATE_LOGITS] = self._stored(logits.cpu())
        return found

    def _flops_of(self, inputs: Mapping[str, Tensor], predictions: int | None) -> float:
        """FLOPs of the prompts, of which one position each is predicted, and of the further tokens of the labels."""
        prompts, length, _ = batch_shape(self.teacher.model, inputs, self.teacher.input_prefix)
        is_further = self.teacher.encoder.is_label_token[..., 1:]
        labels = int(is_further.any(dim=-1).any(dim=0).sum())
        read, cost = labels * is_further.shape[-1] * prompts, self._cost
        further = (cost.per_token + cost.per_prediction + cost.per_pair * (length + is_further.shape[-1])) * read
        return cost.of(prompts, length, prompts) + further

"""A teacher that is another adapter of the student's own base: one model in memory, two sets of small weights."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from hf_distill.objectives.reduction import valid_positions
from hf_distill.tasks import logits_of, unwrapped
from hf_distill.teachers.base import LiveTeacher, TeacherOutputs

if TYPE_CHECKING:
    from peft import PeftModel


class AdapterTeacher(LiveTeacher):
    """Answers with one adapter of a PEFT model whose other adapter learns.

    For the time of an answer the model has the teacher's adapter and is in evaluation mode; then it has the student's
    again and the mode it was in, so that the student keeps its dropout. It gives logits, not what is inside.

    Args:
        model: The student, with both adapters; the active one learns.
        adapter: Name of the teacher's.

    Raises:
        ValueError: The model has no such adapter, or it is the one that learns.
    """

    def __init__(self, model: PeftModel, adapter: str):
        others = sorted(set(getattr(model, "peft_config", ())) - {getattr(model, "active_adapter", None)})
        if adapter not in others:
            raise ValueError(
                f"the teacher must be an adapter of the student's model other than the active one, {others}; got {adapter!r}"
            )
        self.model, self.adapter = model, adapter
        self._accepted = set(inspect.signature(unwrapped(model).forward).parameters)

    @property
    def input_names(self) -> set[str]:
        """The model inputs it reads."""
        return self._accepted

    def outputs(self, inputs: Mapping[str, Any]) -> TeacherOutputs:
        """Its logits for a batch of model inputs; inputs its forward does not name are left out."""
        model: Any = self.model
        training, learning = model.training, model.active_adapter
        model.set_adapter(self.adapter)
        model.eval()
        try:
            with torch.inference_mode():
                output = model(**{name: value for name, value in inputs.items() if name in self._accepted})
        finally:
            model.set_adapter(learning)
            model.train(training)
        return TeacherOutputs(logits_of(output, valid_positions(inputs)).float().clone())

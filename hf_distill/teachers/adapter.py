"""A teacher that is another PEFT adapter of the student's base model, so that one base model is in memory."""

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
    """One adapter of a PEFT model as teacher of another adapter, which is trained.

    During a forward pass of the teacher, its adapter is active and the model is in evaluation mode; afterwards the student's
    adapter is active in the previous mode, so that the student keeps its dropout. The outputs are logits, without hidden
    states or attention.

    Args:
        model: The student, with both adapters; the active one is trained.
        adapter: The name of the teacher's adapter.

    Raises:
        ValueError: The model has no such adapter, or it is the one that is trained.
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
        """The logits for a batch of model inputs, of which those its forward does not name are ignored."""
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

"""What is fastened to student and teacher so that they leave behind what the objective compares."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn
from transformers import PreTrainedModel, TrainingArguments

from hf_distill.data.random_state import random_state_kept
from hf_distill.distributed.weights import full_state_dict, gathered, load_full_state_dict
from hf_distill.features.masked_head import HeadAtPositions
from hf_distill.features.projections import Projections, attach
from hf_distill.features.tap import FeatureTap, features_of
from hf_distill.files import atomic_write
from hf_distill.objectives.model_outputs import Features
from hf_distill.objectives.objective import Objective
from hf_distill.precomputed.columns import PrecomputedTeacher
from hf_distill.tasks import Task, logits_of
from hf_distill.teachers.base import Teacher
from hf_distill.teachers.frozen import FrozenTeacher
from hf_distill.trainers.distillation_arguments import DistillationTrainingArguments
from hf_distill.trainers.objective_builder import build_projections

logger = logging.getLogger(__name__)

_FILE = "distillation_projections.safetensors"
_INSIDE = ("hidden_states", "queries", "keys", "values")
# Settings of models in which a pass leaves out layers at random, or sends tokens to some of their parts.
_OTHER_EVERY_TIME = ("layerdrop", "encoder_layerdrop", "decoder_layerdrop", "num_experts", "num_local_experts")


class FeatureHooks:
    """Feature taps, projections, and heads that run at the masked positions only.

    Args:
        args: Say when to project.
        objective: Says what it needs of both models.
        student: The student itself, not its wrapper; gets projections as a submodule where it needs them.
        teacher: Its teacher; a `FrozenTeacher` is told what to record.
        task: What the student's head is for.
        batch: Inputs without labels, to find out whether the heads can run at chosen positions; two rows of them are
            kept as `example`. None: not known, and they do not.

    Raises:
        ValueError: A model cannot give what the objective needs.
    """

    def __init__(
        self,
        args: TrainingArguments,
        objective: Objective,
        student: nn.Module,
        teacher: Teacher | None,
        task: Task | None,
        batch: Mapping[str, Any] | None,
    ):
        self.projections: Projections | None = build_projections(args, objective, student, teacher)
        if self.projections is not None:
            attach(student, self.projections)
        self._tap = None
        if objective.student_needs:
            self._tap = FeatureTap(student, objective.student_needs, self.projections)
        if isinstance(teacher, FrozenTeacher):
            teacher.record(objective.teacher_needs)
        self.example = {name: value[:2] for name, value in (batch or {}).items() if isinstance(value, Tensor)}
        self._heads: list[HeadAtPositions] = []
        # Without a teacher and with plain arguments the weights are Trainer's, bit for bit.
        may_differ = (
            isinstance(args, DistillationTrainingArguments)
            if teacher is None
            else isinstance(teacher, FrozenTeacher | PrecomputedTeacher)
        )
        if task is Task.MASKED_LM and may_differ and self.example and args.n_gpu <= 1:
            models = [student, teacher.model] if isinstance(teacher, FrozenTeacher) else [student]
            self._heads = _heads_at_positions(models, self.example)

    @property
    def picks_positions(self) -> bool:
        """Whether the heads can run at chosen positions only."""
        return bool(self._heads)

    @contextmanager
    def on(self, features: bool, positions: Tensor | None) -> Iterator[None]:
        """Within it the models leave their features behind and give logits at the positions only.

        Args:
            features: The objective at hand compares features of the student.
            positions: Bool (batch, sequence); None: all.
        """
        with ExitStack() as stack:
            if self._tap is not None:
                stack.enter_context(self._tap.on(features))
            for head in self._heads:
                stack.enter_context(head.at(positions))
            yield

    def probe(self, student: nn.Module, batch: Mapping[str, Any]) -> Features | None:
        """One forward of the student on example inputs: it raises what would otherwise come up at the first step.

        Returns:
            What the student left behind; None where nothing is asked of it.
        """
        if self._tap is None:
            return None
        training = student.training
        with random_state_kept(), torch.no_grad(), gathered(student), self._tap.on():
            output = student.eval()(**batch)
        student.train(training)
        return features_of(output, None)

    def has_unused_parameters(self, student: nn.Module, objective: Objective) -> bool | None:
        """Whether the student has parameters to be trained that an objective does not depend on.

        Args:
            student: The student itself, where its example inputs are.
            objective: Of the training.

        Returns:
            None where that cannot be told: there is no example, or which parameters a pass uses is a matter of chance or inputs.
        """
        config = getattr(student, "config", None)
        if not self.example or any(getattr(config, name, None) for name in _OTHER_EVERY_TIME):
            return None
        accepted = inspect.signature(student.forward).parameters
        inputs = {name: value for name, value in self.example.items() if name in accepted}
        training = student.training
        with random_state_kept(), torch.enable_grad(), self.on(bool(objective.student_needs), None):
            output = student.eval()(**inputs)
        student.train(training)
        features = features_of(output, None)
        looked_at = [tensor for name in _INSIDE for tensor in getattr(features, name).values()]
        if "soft_label" in objective or "hard_label" in objective:
            looked_at.append(logits_of(output, None))
        trained = [parameter for parameter in student.parameters() if parameter.requires_grad]
        total = sum(tensor.float().sum() for tensor in looked_at)
        return any(gradient is None for gradient in torch.autograd.grad(total, trained, allow_unused=True))

    def save(self, folder: Path, writes: bool) -> None:
        """Write the projections, if there are any, into a checkpoint; called on every process, one of which writes."""
        if self.projections is not None:
            state = full_state_dict(self.projections)
            if writes:
                folder.mkdir(parents=True, exist_ok=True)
                atomic_write(folder / _FILE, save(state))

    def load(self, folder: Path) -> None:
        """Read the projections, if there are any, from a checkpoint.

        Raises:
            FileNotFoundError: The checkpoint has none.
        """
        if self.projections is None:
            return
        if not (folder / _FILE).exists():
            raise FileNotFoundError(f"{folder} holds no {_FILE}: it was not written by a run with these arguments")
        load_full_state_dict(self.projections, load_file(folder / _FILE))


def _heads_at_positions(models: list[nn.Module], example: Mapping[str, Any]) -> list[HeadAtPositions]:
    heads = []
    for model in models:
        head = HeadAtPositions(model) if isinstance(model, PreTrainedModel) else None
        accepted, device = inspect.signature(model.forward).parameters, next(model.parameters()).device
        inputs = {name: value.to(device) for name, value in example.items() if name in accepted}
        if head is None or not head.works(model, inputs):
            logger.warning(
                f"the head of {type(model).__name__} cannot run at the masked positions only: logits are computed for "
                "every position, which costs time and memory"
            )
            return []
        heads.append(head)
    return heads

"""Hooks on student and teachers that capture the features an objective compares during forward passes."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn
from transformers import PreTrainedModel

from hf_distill.data.random_state import random_state_kept
from hf_distill.distributed.weights import full_state_dict, gathered, load_full_state_dict
from hf_distill.features.masked_head import HeadAtPositions
from hf_distill.features.projections import Projections, attach
from hf_distill.features.tap import FeatureTap, features_of
from hf_distill.files import atomic_write
from hf_distill.objectives.model_outputs import FeatureRequest, Features
from hf_distill.objectives.objective import Objective
from hf_distill.tasks import logits_of

logger = logging.getLogger(__name__)

_FILE = "distillation_projections.safetensors"
_INSIDE = ("hidden_states", "queries", "keys", "values")
# Settings of models in which a pass leaves out layers at random, or sends tokens to some of their parts.
_OTHER_EVERY_TIME = ("layerdrop", "encoder_layerdrop", "decoder_layerdrop", "num_experts", "num_local_experts")


class FeatureHooks:
    """The hooks on a student and its teachers that capture the features an objective compares.

    These are a feature tap and projections of the student, and masked-language-model heads that run at chosen positions only.

    Args:
        student: The student itself, not its wrapper; the projections become a submodule of it.
        request: The features to capture in the student's forward pass.
        projections: Linear maps of the student's hidden states to the teacher's width. None: there are none.
        picking_models: The models whose heads are to run at chosen positions, if all of them can.
        batch: Model inputs without labels; two rows of them are kept as `example`. None or empty: unknown.

    Attributes:
        projections: The projections. None: there are none.
        example: Two rows of model inputs by name; empty where they are unknown.

    Raises:
        ValueError: The student cannot provide the features.
    """

    def __init__(
        self,
        student: nn.Module,
        request: FeatureRequest,
        projections: Projections | None = None,
        picking_models: Sequence[nn.Module] = (),
        batch: Mapping[str, Any] | None = None,
    ):
        self.projections = projections
        if projections is not None:
            attach(student, projections)
        self._tap = FeatureTap(student, request, projections) if request else None
        self.example = {name: value[:2] for name, value in (batch or {}).items() if isinstance(value, Tensor)}
        self._heads = _heads_at_positions(picking_models, self.example) if self.example else []

    @property
    def picks_positions(self) -> bool:
        """Whether the heads can run at chosen positions only."""
        return bool(self._heads)

    @contextmanager
    def capture(self, features: bool, positions: Tensor | None) -> Iterator[None]:
        """Context in which the models capture features and compute logits at the chosen positions only.

        Args:
            features: Whether the objective compares features of the student.
            positions: The chosen positions, bool (batch, sequence). None: all of them.

        Yields:
            Nothing.
        """
        with ExitStack() as stack:
            if self._tap is not None:
                stack.enter_context(self._tap.capture(features))
            for head in self._heads:
                stack.enter_context(head.at(positions))
            yield

    def probe(self, student: nn.Module, batch: Mapping[str, Any]) -> Features | None:
        """Run one forward pass of the student on example inputs, which raises errors before the first step.

        Args:
            student: The student itself, not its wrapper.
            batch: Example inputs on its device.

        Returns:
            The captured features of the student; None where the objective compares none.
        """
        if self._tap is None:
            return None
        training = student.training
        with random_state_kept(), torch.no_grad(), gathered(student), self._tap.capture():
            output = student.eval()(**batch)
        student.train(training)
        return features_of(output, None)

    def has_unused_parameters(self, student: nn.Module, objective: Objective) -> bool | None:
        """Whether the student has trainable parameters that an objective does not depend on.

        Args:
            student: The student itself, on the device of the example inputs.
            objective: The training objective.

        Returns:
            Whether there are any; None where it is unknown: there is no example, or the parameters in use are random or depend
            on the inputs.
        """
        config = getattr(student, "config", None)
        if not self.example or any(getattr(config, name, None) for name in _OTHER_EVERY_TIME):
            return None
        accepted = inspect.signature(student.forward).parameters
        inputs = {name: value for name, value in self.example.items() if name in accepted}
        training = student.training
        with random_state_kept(), torch.enable_grad(), self.capture(bool(objective.student_needs), None):
            output = student.eval()(**inputs)
        student.train(training)
        features = features_of(output, None)
        looked_at = [tensor for name in _INSIDE for tensor in getattr(features, name).values()]
        if features.embedding is not None:
            looked_at.append(features.embedding)
        elif objective.reads_logits:
            looked_at.append(logits_of(output, None))
        trained = [parameter for parameter in student.parameters() if parameter.requires_grad]
        total = sum(tensor.float().sum() for tensor in looked_at)
        return any(gradient is None for gradient in torch.autograd.grad(total, trained, allow_unused=True))

    def save(self, folder: Path, writes: bool) -> None:
        """Save the projections, if there are any, in a checkpoint; called on every process, one of which writes."""
        if self.projections is not None:
            state = full_state_dict(self.projections)
            if writes:
                folder.mkdir(parents=True, exist_ok=True)
                atomic_write(folder / _FILE, save(state))

    def load(self, folder: Path) -> None:
        """Load the projections, if there are any, from a checkpoint.

        Args:
            folder: The checkpoint's folder.

        Raises:
            FileNotFoundError: The checkpoint has no projections.
        """
        if self.projections is None:
            return
        if not (folder / _FILE).exists():
            raise FileNotFoundError(f"{folder} holds no {_FILE}: it was not written by a run with these arguments")
        load_full_state_dict(self.projections, load_file(folder / _FILE))


def _heads_at_positions(models: Sequence[nn.Module], example: Mapping[str, Any]) -> list[HeadAtPositions]:
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

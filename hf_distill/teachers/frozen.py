"""A live teacher: a model in evaluation mode, without gradients, that is never modified."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from enum import Enum
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig

from hf_distill.compute.precision import fast_bfloat16
from hf_distill.distributed.sharding import is_to_be_sharded, shard
from hf_distill.distributed.weights import gathered_copy
from hf_distill.features.tap import FeatureTap, features_of
from hf_distill.fingerprints import json_sha256, weights_sha256
from hf_distill.objectives.hidden_states import cosine
from hf_distill.objectives.logits import as_binary, forward_kl
from hf_distill.objectives.model_outputs import FeatureRequest
from hf_distill.objectives.reduction import valid_positions
from hf_distill.quantization import exact
from hf_distill.tasks import EMBEDDING, MULTI_LABEL, REGRESSION, Task, logits_of, problem_type_of, task_of, unwrapped
from hf_distill.teachers.base import LiveTeacher, TeacherOutputs

AUTO_DTYPE_MIN_AGREEMENT = 0.995
AUTO_DTYPE_MAX_KL = 1e-3  # nats, a mean
AUTO_DTYPE_MAX_DEVIATION = 0.02  # of a regression, in its standard deviations
AUTO_DTYPE_MAX_COSINE_DISTANCE = 1e-3
UNDECIDED_MARGIN = 0.02  # between the two top classes' probabilities


class TeacherDtype(str, Enum):
    """The precision the teacher computes in."""

    AUTO = "auto"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


class FrozenTeacher(LiveTeacher):
    """A model in evaluation mode, without gradients, in a precision of its own.

    The model passed in is frozen in place (`requires_grad` off, evaluation mode). The teacher is a copy, and the original
    is left unmodified, where the precision differs from the model's own, where the model is fake int8 (the teacher is exact),
    and where ZeRO-3 or FSDP2 holds the model sharded: all processes together gather the copy.

    Args:
        model: The teacher.
        dtype: "auto", or the precision to compute in: "float32", "bfloat16" or "float16". "auto" is bfloat16 where
            `fast_bfloat16` says the device gains from it and `resolve_dtype` found the predictions unchanged, else
            the model's own precision.
        device: The device to compute on; None leaves the model where it is.
        label_permutation: The teacher's label index for each student label; None when the orders agree.
        input_prefix: Prefix of the teacher's own inputs' names in a batch that also holds the student's.
        sharding: "always", "never" or "auto", see `is_to_be_sharded`. A sharded teacher computes in the model's own
            precision unless `dtype` names one.
        token_ids: The teacher's token id for each id of the inputs, where teacher and student have different trims of one
            vocabulary, see `pruning.vocabulary_map`; logits over tokens are in the inputs' ids too. None: their ids are equal.

    Raises:
        ValueError: A token id is beyond the teacher's vocabulary.
    """

    def __init__(
        self,
        model: nn.Module,
        dtype: str = "auto",
        device: torch.device | str | None = None,
        label_permutation: Sequence[int] | None = None,
        input_prefix: str = "",
        sharding: str = "never",
        token_ids: Sequence[int] | Tensor | None = None,
    ):
        self.token_ids = None if token_ids is None else _checked_token_ids(token_ids, model)
        self._scores_tokens = task_of(model) in (Task.MASKED_LM, Task.CAUSAL_LM)
        self.model = exact(gathered_copy(model)).requires_grad_(False).eval()
        self.device = torch.device(device) if device is not None else next(model.parameters()).device
        self.label_permutation = None if label_permutation is None else torch.tensor(label_permutation)
        self.input_prefix = input_prefix
        self._accepted = set(inspect.signature(unwrapped(model).forward).parameters)
        self._tap: FeatureTap | None = None
        self._dtype_is_open = dtype == "auto"
        self._original_sha256: str | None = None
        if not self._dtype_is_open:
            self._convert(getattr(torch, dtype))
        if is_to_be_sharded(sharding, self.model, self.dtype, self.device):
            self._dtype_is_open = False
            shard(self.model, self.device)
        else:
            self.model.to(self.device)

    @property
    def input_names(self) -> set[str]:
        """The model inputs the teacher reads."""
        return {self.input_prefix + name for name in self._accepted}

    @property
    def main_inputs(self) -> set[str]:
        """The model inputs without which it has no outputs."""
        main = getattr(self.model, "main_input_name", None)
        return set() if main is None else {self.input_prefix + main}

    @property
    def task(self) -> Task | None:
        """The task of its outputs, that of the model's head; None if it is not known."""
        return task_of(self.model)

    @property
    def settings(self) -> dict[str, Any]:
        """What its outputs depend on beside the model and the inputs, as JSON for their provenance."""
        return {}

    @property
    def has_hidden_states(self) -> bool:
        """Whether it is a transformers model, whose hidden states can be captured."""
        return isinstance(self.config, PretrainedConfig)

    @property
    def has_attention(self) -> bool:
        """Whether it is a transformers model, whose queries, keys and values can be captured."""
        return isinstance(self.config, PretrainedConfig)

    @property
    def can_pick_positions(self) -> bool:
        """True: the head can run at chosen positions, see `HeadAtPositions`."""
        return True

    def identity(self) -> Any:
        """The fingerprint of the weights, and of the token ids where they are not the inputs' own."""
        ids = {} if self.token_ids is None else {"token ids with sha256": json_sha256(self.token_ids.tolist())}
        return {"weights with sha256": self.weights_sha256} | ids

    @property
    def is_converted(self) -> bool:
        """Whether it computes in another precision than the model it was given."""
        return self._original_sha256 is not None

    @property
    def weights_sha256(self) -> str:
        """Fingerprint of the model as it was passed in, before any conversion, see `fingerprints.weights_sha256`."""
        return self._original_sha256 or weights_sha256(self.model)

    def record(self, request: FeatureRequest, all_positions: bool = False) -> None:
        """Include these features in all further outputs; logits cover every position anyway.

        Args:
            request: Hidden states, queries, keys and values to record.
            all_positions: Without effect here.

        Raises:
            ValueError: The features of this class of model cannot be captured.
        """
        if self._tap is not None:
            self._tap.remove()
        self._tap = FeatureTap(unwrapped(self.model), request) if request else None
        self._dtype_is_open = False  # a converted copy would not be tapped

    def outputs(self, inputs: Mapping[str, Any]) -> TeacherOutputs:
        """The teacher's outputs for a batch of model inputs, of which those its forward does not name are ignored."""
        if self.model.training:
            self.model.eval()
        inputs = {
            name.removeprefix(self.input_prefix): value
            for name, value in inputs.items()
            if name.startswith(self.input_prefix)
        }
        accepted = {name: self._cast(value) for name, value in inputs.items() if name in self._accepted}
        if self.token_ids is not None and "input_ids" in accepted:
            accepted["input_ids"] = self.token_ids.to(accepted["input_ids"].device)[accepted["input_ids"]]
        with torch.inference_mode(), nullcontext() if self._tap is None else self._tap.capture():
            output = self.model(**accepted)
            features = features_of(output, logits_of(output, valid_positions(inputs)))
        # Copies made outside inference mode can be saved for the backward pass.
        logits = features.require_logits()
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32), copy=True)
        if self.label_permutation is not None:
            logits = logits[..., self.label_permutation.to(logits.device)]
        if self.token_ids is not None and self._scores_tokens:
            logits = logits[..., self.token_ids.to(logits.device)]
        states, queries, keys, values = (
            {index: tensor.clone() for index, tensor in each.items()}
            for each in (features.hidden_states, features.queries, features.keys, features.values)
        )
        return TeacherOutputs(logits, states, queries, keys, values)

    def resolve_dtype(self, inputs: Mapping[str, Any]) -> None:
        """Resolve "auto": keep bfloat16 when the device has fast bfloat16 and the predictions for these inputs stay the same.

        "The same" means 99.5 % equal top classes, or all but one (for multi-label heads equal yes/no predictions; where the two
        top classes are within 0.02 of each other, either counts), and a mean Kullback-Leibler divergence of at most 0.001 nats. The
        outputs of regression heads moved by at most 0.02 of their standard deviation, as a root mean square; of embeddings none
        moved by a cosine distance above 0.001.

        Args:
            inputs: A batch of model inputs on the teacher's device.
        """
        if not self._dtype_is_open:
            return
        self._dtype_is_open = False
        if self.dtype != torch.float32 or not fast_bfloat16(self.device):
            return
        full = self.outputs(inputs).require_logits()
        original = self.model
        self._convert(torch.bfloat16)
        embeds = task_of(original) is Task.SENTENCE_EMBEDDING
        problem_type = EMBEDDING if embeds else problem_type_of(getattr(original, "config", None))
        if not _same_predictions(full, self.outputs(inputs).require_logits(), problem_type):
            self.model, self._original_sha256 = original, None

    def keep_dtype(self, dtype: str | None) -> None:
        """Resolve "auto" by the precision that this teacher's outputs were computed in before, also on another machine.

        Args:
            dtype: The precision, such as "bfloat16". None: it stays open.
        """
        if self._dtype_is_open and dtype is not None:
            self._dtype_is_open = False
            self._convert(getattr(torch, dtype))

    def _convert(self, dtype: torch.dtype) -> None:
        if self.dtype != dtype:
            self._original_sha256 = weights_sha256(self.model)
            self.model = copy.deepcopy(self.model).to(dtype)

    def _cast(self, value: Any) -> Any:
        is_float = isinstance(value, Tensor) and value.is_floating_point()
        return value.to(self.dtype) if is_float else value


def _checked_token_ids(token_ids: Sequence[int] | Tensor, model: nn.Module) -> Tensor:
    ids, words = torch.as_tensor(token_ids), getattr(getattr(unwrapped(model), "config", None), "vocab_size", None)
    if words is not None and not 0 <= int(ids.min()) <= int(ids.max()) < words:
        raise ValueError(f"token_ids must be from 0 to {words - 1}, got {int(ids.min())} to {int(ids.max())}")
    return ids


def _same_predictions(reference: Tensor, candidate: Tensor, problem_type: str | None) -> bool:
    if problem_type == EMBEDDING:
        return bool(cosine(candidate, reference).max() <= AUTO_DTYPE_MAX_COSINE_DISTANCE)
    if problem_type == MULTI_LABEL:
        reference, candidate = as_binary(reference), as_binary(candidate)
    if reference.shape[-1] == 1 or problem_type == REGRESSION:
        spread = reference.std(correction=0).clamp(min=torch.finfo(reference.dtype).eps)
        return bool(((reference - candidate) / spread).square().mean().sqrt() <= AUTO_DTYPE_MAX_DEVIATION)
    close = forward_kl(candidate, reference).mean() <= AUTO_DTYPE_MAX_KL
    leading = reference.softmax(dim=-1).topk(2, dim=-1).values
    undecided = leading[..., 0] - leading[..., 1] <= UNDECIDED_MARGIN
    other = (reference.argmax(dim=-1) != candidate.argmax(dim=-1)) & ~undecided
    # One of 128 predictions would be too many of 0.5 %, whatever the precision does to all others.
    return bool(close & (other.sum() <= max(1, (1 - AUTO_DTYPE_MIN_AGREEMENT) * other.numel())))

"""A teacher's forward passes over rows, and data columns of its outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, cast

import datasets
import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils.generic import find_labels

from hf_distill.compute.forward_cost import batch_shape, model_forward_cost
from hf_distill.data.length_bucket_sampler import example_lengths
from hf_distill.features.masked_head import HeadAtPositions
from hf_distill.objectives.model_outputs import FeatureRequest
from hf_distill.objectives.reduction import IGNORE_INDEX, valid_positions
from hf_distill.objectives.top_k import sampled_classes, top_k_with_tail
from hf_distill.precomputed.input_fingerprints import token_fingerprints, value_fingerprints
from hf_distill.precomputed.labeling_options import LabelingOptions
from hf_distill.precomputed.list_columns import list_array
from hf_distill.precomputed.masking import FixedMasks
from hf_distill.precomputed.provenance import TOKENS_READ
from hf_distill.tasks import Task, unwrapped
from hf_distill.teachers.base import TeacherOutputs
from hf_distill.teachers.column_names import (
    TEACHER_CLASSES,
    TEACHER_LOGITS,
    TEACHER_POSITIONS,
    cls_state_column,
    hidden_state_column,
)
from hf_distill.teachers.frozen import FrozenTeacher


class BatchedForward:
    """Runs a teacher over rows in batches of similar length, and makes data columns of its outputs.

    Args:
        teacher: The teacher; its labels are in the student's order.
        task: The task of the teacher's head.
        data_collator: Collator that makes a batch of model inputs from rows; columns that the teacher does not read are
            left out.
        options: The batch size, and which outputs are stored.
        masks: The fixed masks of a masked-language model, which also seed its draws; None for other tasks.
        vocabulary_size: Tokens in the vocabulary; entries of the head beyond them stand for no token and are left out.
            None: all entries of the head are stored.

    Attributes:
        flops: FLOPs of the forward passes so far.
    """

    def __init__(
        self,
        teacher: FrozenTeacher,
        task: Task,
        data_collator: Callable[[list[dict]], Mapping[str, Any]],
        options: LabelingOptions,
        masks: FixedMasks | None,
        vocabulary_size: int | None = None,
    ):
        self.teacher, self.task, self.options = teacher, task, options
        self._rows_per_batch = options.rows_per_batch(teacher.device)
        self._collate, self._masks, self._vocabulary_size = data_collator, masks, vocabulary_size
        self._cost, self.flops = model_forward_cost(teacher.model), 0.0
        self._head: HeadAtPositions | None = None
        self._read = teacher.input_names - {
            teacher.input_prefix + name for name in find_labels(type(unwrapped(teacher.model)))
        }

    def reads_any(self, columns: Sequence[str]) -> bool:
        """Whether any of the columns is an input of the teacher."""
        return bool(self._read & set(columns))

    def prepare(self, rows: datasets.Dataset) -> None:
        """Resolve the teacher's precision on the first rows, and where its masked-language-model head runs.

        Args:
            rows: The first rows of the transfer set.

        Raises:
            ValueError: The rows make other inputs each time they are read, or hidden states of images are requested.
        """
        numbers = range(self.options.first_rows(len(rows)))
        inputs, again = self._inputs(rows, numbers), self._inputs(rows, numbers)
        if changing := [name for name, value in inputs.items() if not torch.equal(value, again[name])]:
            raise ValueError(
                f"the first rows gave other {changing} when read again: teacher outputs are precomputed for inputs that stay "
                "the same, without random masks or augmentation"
            )
        self.teacher.resolve_dtype(inputs)
        states = frozenset(self.options.hidden_states) | frozenset(self.options.cls_states)
        if states and self._valid_positions(inputs) is None:
            raise ValueError(
                f"hidden states are stored for tokenized texts only, the teacher's inputs are {list(inputs)}"
            )
        if states:
            self.teacher.record(FeatureRequest(hidden_states=states))
        if self.task is Task.MASKED_LM:
            model = cast(PreTrainedModel, self.teacher.model)
            self._head = HeadAtPositions(model)
            if not self._head.works(model, {name: value[:2] for name, value in inputs.items()}):
                self._head.remove()
                self._head = None

    def close(self) -> None:
        """Remove all hooks from the teacher."""
        if self.options.hidden_states or self.options.cls_states:
            self.teacher.record(FeatureRequest())
        if self._head is not None:
            self._head.remove()
            self._head = None

    def features(self) -> dict[str, Any]:
        """The data columns of the outputs, with their types."""
        value = datasets.Value(self.options.dtype)
        found = {TEACHER_LOGITS: datasets.List(datasets.List(value) if self.task.is_per_token else value)}
        if self.task is Task.MASKED_LM:
            found[TEACHER_CLASSES] = datasets.List(datasets.List(datasets.Value("int32")))
            found[TEACHER_POSITIONS] = datasets.List(datasets.Value("int32"))
        found |= {
            hidden_state_column(index): datasets.List(datasets.List(value)) for index in self.options.hidden_states
        }
        return found | {cls_state_column(index): datasets.List(value) for index in self.options.cls_states}

    def columns(
        self, rows: datasets.Dataset, epoch: int, first_row: int, progress: Callable[[int], Any]
    ) -> tuple[dict[str, pa.Array], dict[str, np.ndarray]]:
        """Compute the teacher's outputs for rows, in their order, and fingerprints of the inputs that were read.

        Args:
            rows: At most as many rows as memory holds together with the outputs.
            epoch: The epoch of the masks, counted from 0.
            first_row: The index in the transfer set of the first of the rows.
            progress: Function that is called after each batch with its number of rows.

        Returns:
            The columns of `features`, and the fingerprints that `Provenance.column` takes.

        Raises:
            ValueError: A value is not finite, or too large for the precision it is stored in.
        """
        lengths = self._lengths(rows)
        # The longest first: too little memory shows at once.
        by_length = torch.from_numpy(lengths).argsort(descending=True, stable=True)
        outputs: dict[str, list[Any]] = {name: [None] * len(rows) for name in self.features()}
        fingerprints: dict[str, list[Any]] = {}
        for batch in by_length.split(self._rows_per_batch):
            numbers = batch.tolist()
            inputs = self._inputs(rows, numbers)
            for name, values in self._outputs(inputs, rows, numbers, epoch, first_row).items():
                for number, value in zip(numbers, values, strict=True):
                    outputs[name][number] = value
            for name, by_row in self._fingerprints(inputs).items():
                for number, fingerprint in zip(numbers, by_row, strict=True):
                    fingerprints.setdefault(name, [None] * len(rows))[number] = fingerprint
            progress(len(numbers))
        types = datasets.Features(self.features()).arrow_schema
        columns = {name: list_array(values, types.field(name).type) for name, values in outputs.items()}
        return columns, {name: np.stack(values) for name, values in fingerprints.items()}

    def _lengths(self, rows: datasets.Dataset) -> np.ndarray:
        """A length of each row, by which rows are put in batches, int (rows,)."""
        lengths = example_lengths(rows)
        return np.zeros(len(rows), np.int64) if lengths is None else lengths

    def _inputs(self, rows: datasets.Dataset, numbers: Sequence[int]) -> dict[str, Tensor]:
        prefix = self.teacher.input_prefix
        if rows.format["type"] != "custom":
            rows = rows.select_columns([name for name in rows.column_names if name in self._read])
        examples = rows.__getitems__(list(numbers))
        if prefix:
            examples = [{name.removeprefix(prefix): value for name, value in row.items()} for row in examples]
        batch = self._collate(examples)
        return {prefix + name: value.to(self.teacher.device) for name, value in batch.items() if torch.is_tensor(value)}

    def _valid_positions(self, inputs: Mapping[str, Tensor]) -> Tensor | None:
        """The positions of the teacher's inputs that are no padding, bool (batch, sequence); None of images."""
        own = {name.removeprefix(self.teacher.input_prefix): value for name, value in inputs.items()}
        valid = valid_positions(own)
        if valid is None and "input_ids" in own:
            return torch.ones_like(own["input_ids"], dtype=torch.bool)
        return valid

    def _fingerprints(self, inputs: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
        """Fingerprints of inputs that the student reads too; none of a teacher's own encoding, which it does not read."""
        if self.teacher.input_prefix:
            return {}
        tokens, valid = token_fingerprints(inputs), valid_positions(inputs)
        found = {} if tokens is None else {TOKENS_READ: tokens}
        for name in sorted(self._read & inputs.keys()):
            value = inputs[name]
            is_padded = valid is not None and value.shape[:2] == valid.shape
            if value.is_floating_point() and value.dim() > 1 and not is_padded:
                found[name] = value_fingerprints(value)
        return found

    def _outputs(
        self, inputs: dict[str, Tensor], rows: datasets.Dataset, numbers: list[int], epoch: int, first_row: int
    ) -> dict[str, list[np.ndarray]]:
        """Run the teacher on one batch; the values of each column by row."""
        valid = self._valid_positions(inputs)
        masked = _masked_positions(valid, rows, numbers) if self.task is Task.MASKED_LM else None
        predictions = None if self._head is None or masked is None else int(masked.sum())
        with nullcontext() if self._head is None else self._head.at(masked):
            outputs = self.teacher.outputs(inputs)
        self.flops += self._flops_of(inputs, predictions)
        logits = outputs.logits
        assert logits is not None  # a live teacher has them
        if not logits.isfinite().all():
            raise ValueError(f"the teacher's logits are not finite for rows {[first_row + n for n in numbers]}")
        valid = None if valid is None else valid.cpu()
        found = self._states(outputs, valid)
        if masked is None:
            return {TEACHER_LOGITS: self._logits(logits.cpu(), valid)} | found
        logits = logits if logits.dim() == 2 else logits[masked]
        row_numbers = [first_row + number for number in numbers]
        top = self._top_classes(logits[:, : self._vocabulary_size], masked.cpu(), valid, epoch, row_numbers)
        return top | found

    def _flops_of(self, inputs: Mapping[str, Tensor], predictions: int | None) -> float:
        """FLOPs of the forward pass of one batch; `predictions` is the number of masked tokens, if only they are predicted."""
        shape = batch_shape(self.teacher.model, inputs, self.teacher.input_prefix)
        return self._cost.of(*shape[:2], predictions)

    def _logits(self, logits: Tensor, valid: Tensor | None) -> list[np.ndarray]:
        if not self.task.is_per_token:
            return self._stored(logits)
        assert valid is not None  # tasks with logits per token read `input_ids`
        if self.task is Task.QUESTION_ANSWERING:
            return self._stored([row[:, mask] for row, mask in zip(logits, valid, strict=True)])
        return self._stored([row[mask] for row, mask in zip(logits, valid, strict=True)])

    def _states(self, outputs: TeacherOutputs, valid: Tensor | None) -> dict[str, list[np.ndarray]]:
        found = {}
        for index in self.options.hidden_states:
            rows = _valid_states(outputs, index, valid)
            found[hidden_state_column(index)] = self._stored(rows)
        for index in self.options.cls_states:
            rows = _valid_states(outputs, index, valid)
            found[cls_state_column(index)] = self._stored([row[0] for row in rows])
        return found

    def _top_classes(
        self, logits: Tensor, masked: Tensor, valid: Tensor | None, epoch: int, rows: list[int]
    ) -> dict[str, list[np.ndarray]]:
        """Classes and log-probabilities at the masked positions, from logits (masked positions, vocabulary)."""
        assert valid is not None and self._masks is not None  # of a masked-language model
        counts = masked.sum(dim=1).tolist()
        k, temperature = self.options.top_k, self.options.temperature
        if self.options.sampled:
            draws = [self._masks.draws(epoch, row, count, k) for row, count in zip(rows, counts, strict=True)]
            classes, log_probabilities = sampled_classes(logits, torch.cat(draws).to(logits.device), temperature)
        else:
            classes, log_probabilities = top_k_with_tail(logits, k, temperature)
        positions = [mask[real].nonzero()[:, 0].numpy() for mask, real in zip(masked, valid, strict=True)]
        return {
            TEACHER_LOGITS: self._stored(log_probabilities.cpu().split(counts)),
            TEACHER_CLASSES: [each.numpy() for each in classes.cpu().split(counts)],
            TEACHER_POSITIONS: positions,
        }

    def _stored(self, rows: Any) -> list[np.ndarray]:
        """Convert the values of each row to the precision they are stored in."""
        with np.errstate(over="ignore"):
            stored = [row.numpy().astype(self.options.dtype) for row in rows]
        if self.options.dtype == "float16" and not all(np.isfinite(row).all() for row in stored):
            raise ValueError(
                f"the teacher's outputs reach {max(row.abs().max() for row in rows)}, float16 ends at 65504"
            )
        return stored


def _masked_positions(valid: Tensor | None, rows: datasets.Dataset, numbers: list[int]) -> Tensor:
    """The positions that the rows' labels mark as masked, bool (batch, sequence)."""
    assert valid is not None  # masked-language models read `input_ids`
    masked = torch.zeros_like(valid)
    labels = [label for row in rows.select(numbers)["labels"] for label in row]
    masked[valid] = torch.tensor(labels, device=valid.device) != IGNORE_INDEX
    return masked


def _valid_states(outputs: TeacherOutputs, index: int, valid: Tensor | None) -> list[Tensor]:
    """A hidden state of each row without padding, (tokens, hidden)."""
    assert valid is not None  # `prepare` refuses inputs without
    states = outputs.hidden_states[index].float().cpu()
    return [row[mask] for row, mask in zip(states, valid, strict=True)]

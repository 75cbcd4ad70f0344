"""Ask a teacher about rows, and make columns of what it says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from transformers.utils.generic import find_labels

from hf_distill.compute.forward_cost import batch_shape, model_forward_cost
from hf_distill.data.length_bucket_sampler import example_lengths
from hf_distill.features.masked_head import HeadAtPositions
from hf_distill.objectives.model_outputs import FeatureRequest
from hf_distill.objectives.reduction import IGNORE_INDEX, valid_positions
from hf_distill.objectives.top_k import sampled_classes, top_k_with_tail
from hf_distill.precomputed.input_fingerprints import token_fingerprints, value_fingerprints
from hf_distill.precomputed.labeling_options import LabelingOptions
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

_MOST_VALUES = 2**31 - 1  # of an Arrow list's offsets


class BatchedForward:
    """Asks a teacher about rows in batches of similar length.

    Args:
        teacher: Its labels in the student's order.
        task: Its head's.
        data_collator: Makes a batch of model inputs out of rows; columns the teacher does not read are left out.
        options: How many rows at once, and what is kept.
        masks: For masked words what draws, too.
        words: Tokens there are; a head with more rows than that is not asked about them. None: all rows count.

    Attributes:
        flops: Operations of the answers so far.
    """

    def __init__(
        self,
        teacher: FrozenTeacher,
        task: Task,
        data_collator: Callable[[list[dict]], dict],
        options: LabelingOptions,
        masks: FixedMasks | None,
        words: int | None = None,
    ):
        self.teacher, self.task, self.options = teacher, task, options
        self._collate, self._masks, self._words = data_collator, masks, words
        self._cost, self.flops = model_forward_cost(teacher.model), 0.0
        self._head: HeadAtPositions | None = None
        self._read = teacher.input_names - {
            teacher.input_prefix + name for name in find_labels(type(unwrapped(teacher.model)))
        }

    def reads(self, columns: Sequence[str]) -> bool:
        """Whether any of the columns is an input of the teacher."""
        return bool(self._read & set(columns))

    def prepare(self, rows: datasets.Dataset) -> None:
        """Settle by the first rows on a precision, and on where a head over the vocabulary runs.

        Raises:
            ValueError: The rows make other inputs each time they are read.
        """
        numbers = range(min(self.options.batch_size, len(rows)))
        inputs, again = self._inputs(rows, numbers), self._inputs(rows, numbers)
        if changing := [name for name, value in inputs.items() if not torch.equal(value, again[name])]:
            raise ValueError(
                f"the first rows gave other {changing} when read again: answers are recorded to inputs that stay as they "
                "are, without random masks or augmentation"
            )
        self.teacher.resolve_dtype(inputs)
        states = frozenset(self.options.hidden_states) | frozenset(self.options.cls_states)
        if states:
            self.teacher.record(FeatureRequest(hidden_states=states))
        if self.task is Task.MASKED_LM:
            self._head = HeadAtPositions(self.teacher.model)
            if not self._head.works(self.teacher.model, {name: value[:2] for name, value in inputs.items()}):
                self._head.remove()
                self._head = None

    def close(self) -> None:
        """Leave the teacher as it was."""
        if self.options.hidden_states or self.options.cls_states:
            self.teacher.record(FeatureRequest())
        if self._head is not None:
            self._head.remove()
            self._head = None

    def features(self) -> dict[str, Any]:
        """The columns it makes."""
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
        """The answers to rows, in their order, and what the inputs that were read are known by.

        Args:
            rows: At most as many as memory holds with the answers.
            epoch: Of the masks.
            first_row: Number of the first of the rows in the transfer set.
            progress: Told how many rows more were answered.

        Returns:
            The columns of `features`, and what `Provenance.column` takes.

        Raises:
            ValueError: An answer is not finite, or too large for the precision it is kept in.
        """
        lengths = example_lengths(rows) or [0] * len(rows)
        # The longest first: too little memory shows at once.
        by_length = torch.tensor(lengths).argsort(descending=True, stable=True)
        answers: dict[str, list[Any]] = {name: [None] * len(rows) for name in self.features()}
        read: dict[str, list[Any]] = {}
        for batch in by_length.split(self.options.batch_size):
            numbers = batch.tolist()
            inputs = self._inputs(rows, numbers)
            for name, values in self._ask(inputs, rows, numbers, epoch, first_row).items():
                for number, value in zip(numbers, values, strict=True):
                    answers[name][number] = value
            for name, values in self._prints(inputs).items():
                for number, value in zip(numbers, values, strict=True):
                    read.setdefault(name, [None] * len(rows))[number] = value
            progress(len(numbers))
        types = datasets.Features(self.features()).arrow_schema
        columns = {name: _list_array(values, types.field(name).type) for name, values in answers.items()}
        return columns, {name: np.stack(values) for name, values in read.items()}

    def _inputs(self, rows: datasets.Dataset, numbers: Sequence[int]) -> dict[str, Tensor]:
        prefix = self.teacher.input_prefix
        if rows.format["type"] != "custom":
            rows = rows.select_columns([name for name in rows.column_names if name in self._read])
        examples = rows.__getitems__(list(numbers))
        if prefix:
            examples = [{name.removeprefix(prefix): value for name, value in row.items()} for row in examples]
        batch = self._collate(examples)
        return {prefix + name: value.to(self.teacher.device) for name, value in batch.items() if torch.is_tensor(value)}

    def _prints(self, inputs: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
        """Of what the student reads too; a teacher's own encoding no student's batch is compared with."""
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

    def _ask(
        self, inputs: dict[str, Tensor], rows: datasets.Dataset, numbers: list[int], epoch: int, first_row: int
    ) -> dict[str, list[np.ndarray]]:
        labels = None
        own = {name.removeprefix(self.teacher.input_prefix): value for name, value in inputs.items()}
        valid = valid_positions(own)
        if valid is None and "input_ids" in own:
            valid = torch.ones_like(own["input_ids"], dtype=torch.bool)
        if self.task is Task.MASKED_LM:
            labels = torch.full_like(own["input_ids"], IGNORE_INDEX)
            labels[valid] = torch.tensor(
                [label for row in rows.select(numbers)["labels"] for label in row], device=labels.device
            )
        masked = None if labels is None else labels != IGNORE_INDEX
        with nullcontext() if self._head is None else self._head.at(masked):
            answer = self.teacher.outputs(inputs)
        shape = batch_shape(self.teacher.model, inputs, self.teacher.input_prefix)
        self.flops += self._cost.of(*shape[:2], None if self._head is None else int(masked.sum()))
        if not answer.logits.isfinite().all():
            raise ValueError(f"the teacher's logits are not finite for rows {[first_row + n for n in numbers]}")
        valid = None if valid is None else valid.cpu()
        found = self._states(answer, valid)
        if masked is None:
            return {TEACHER_LOGITS: self._logits(answer.logits.cpu(), valid)} | found
        logits = answer.logits if answer.logits.dim() == 2 else answer.logits[masked]
        return (
            self._top_classes(
                logits[:, : self._words], masked.cpu(), valid, epoch, [first_row + number for number in numbers]
            )
            | found
        )

    def _logits(self, logits: Tensor, valid: Tensor | None) -> list[np.ndarray]:
        if not self.task.is_per_token:
            return self._kept(logits)
        if self.task is Task.QUESTION_ANSWERING:
            return self._kept([row[:, mask] for row, mask in zip(logits, valid, strict=True)])
        return self._kept([row[mask] for row, mask in zip(logits, valid, strict=True)])

    def _states(self, answer: TeacherOutputs, valid: Tensor) -> dict[str, list[np.ndarray]]:
        found = {}
        for index in self.options.hidden_states:
            states = answer.hidden_states[index].float().cpu()
            found[hidden_state_column(index)] = self._kept([row[mask] for row, mask in zip(states, valid, strict=True)])
        for index in self.options.cls_states:
            states = answer.hidden_states[index].float().cpu()
            found[cls_state_column(index)] = self._kept([row[mask][0] for row, mask in zip(states, valid, strict=True)])
        return found

    def _top_classes(
        self, logits: Tensor, masked: Tensor, valid: Tensor, epoch: int, rows: list[int]
    ) -> dict[str, list[np.ndarray]]:
        counts = masked.sum(dim=1).tolist()
        k, temperature = self.options.top_k, self.options.temperature
        if self.options.sampled:
            draws = [self._masks.draws(epoch, row, count, k) for row, count in zip(rows, counts, strict=True)]
            classes, log_probabilities = sampled_classes(logits, torch.cat(draws).to(logits.device), temperature)
        else:
            classes, log_probabilities = top_k_with_tail(logits, k, temperature)
        positions = [mask[real].nonzero()[:, 0].numpy() for mask, real in zip(masked, valid, strict=True)]
        return {
            TEACHER_LOGITS: self._kept(log_probabilities.cpu().split(counts)),
            TEACHER_CLASSES: [each.numpy() for each in classes.cpu().split(counts)],
            TEACHER_POSITIONS: positions,
        }

    def _kept(self, rows: Any) -> list[np.ndarray]:
        with np.errstate(over="ignore"):
            kept = [row.numpy().astype(self.options.dtype) for row in rows]
        if self.options.dtype == "float16" and not all(np.isfinite(row).all() for row in kept):
            raise ValueError(
                f"the teacher's answers reach {max(row.abs().max() for row in rows)}, float16 ends at 65504"
            )
        return kept


def _list_array(rows: Sequence[np.ndarray], kind: pa.DataType) -> pa.Array:
    """Arrays of one number of dimensions, 1 or 2, as lists of lists."""
    flat = np.concatenate([row.ravel() for row in rows])
    if len(flat) > _MOST_VALUES:
        raise ValueError(
            f"{len(rows)} rows hold {len(flat)} values, a shard at most {_MOST_VALUES}: lower rows_per_shard"
        )
    leaves = kind
    while pa.types.is_list(leaves):
        leaves = leaves.value_type
    array = pa.array(flat.astype(leaves.to_pandas_dtype(), copy=False))
    if rows[0].ndim == 2:
        array = pa.ListArray.from_arrays(_offsets([row.shape[1] for row in rows for _ in range(len(row))]), array)
    return pa.ListArray.from_arrays(_offsets([len(row) for row in rows]), array).cast(kind)


def _offsets(lengths: Sequence[int]) -> pa.Array:
    return pa.array(np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int32))

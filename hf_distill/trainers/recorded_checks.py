"""What makes a teacher's recorded answers somebody else's: another teacher, tokenizer, order of labels, or other inputs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from transformers import DataCollatorForLanguageModeling

from hf_distill.fingerprints import sequence_hashes
from hf_distill.tasks import unwrapped
from hf_distill.teachers.alignment import label_names, processing_sha256
from hf_distill.teachers.frozen import FrozenTeacher
from hf_distill.teachers.outputs import Teacher
from hf_distill.teachers.provenance import Provenance
from hf_distill.teachers.trajectory import Trajectory
from hf_distill.trainers.random_state import random_state_kept

_ROWS_AT_ONCE = 10_000
_FIRST_ROWS = 64


def require_own_answers(provenance: Provenance, trainer: Any) -> None:
    """Refuse answers for another task, tokenizer or image processor, order of labels, or way to compare.

    Args:
        provenance: Of the answers.
        trainer: Has the student, its processing class, its data collator and its arguments.

    Raises:
        ValueError: Names both sides.
    """
    if trainer.task is not None and trainer.task.value != provenance.task:
        raise _refusal(f"for the task {provenance.task}", f"the student's is {trainer.task.value}")
    own = processing_sha256(trainer.processing_class)
    recorded = provenance.processing_class
    if own is not None and recorded is not None and own != recorded["sha256"]:
        name = getattr(trainer.processing_class, "name_or_path", "") or type(trainer.processing_class).__name__
        raise _refusal(
            f"to inputs made by {recorded['name']} (sha256 {recorded['sha256'][:16]})",
            f"processing_class is {name} (sha256 {own[:16]})",
        )
    config = getattr(unwrapped(trainer.model), "config", None)
    if provenance.labels is not None and config is not None:
        _require_same_labels(provenance.labels, label_names(config))
    _require_same_comparison(provenance, trainer.args)
    collator = trainer.data_collator
    while hasattr(collator, "data_collator"):
        collator = collator.data_collator
    if isinstance(collator, DataCollatorForLanguageModeling):
        given = "fixed masks" if provenance.top_classes is not None else "inputs without masks"
        raise _refusal(
            f"to {given}",
            f"data_collator is a {type(collator).__name__}, which makes masks or labels of its own at every epoch; use "
            "DataCollatorForTokenClassification, which only pads",
        )


def require_same_teacher(recorded: Sequence[Provenance], teacher: Teacher) -> None:
    """Refuse answers of another teacher than a live one.

    Raises:
        ValueError: Names both.
    """
    if not isinstance(teacher, FrozenTeacher):
        raise _refusal(f"of {recorded[0].teacher['name']}", f"teacher_model is a {type(teacher).__name__}")
    sha256 = teacher.weights_sha256
    for provenance in recorded:
        if provenance.teacher["weights_sha256"] != sha256:
            theirs = provenance.teacher
            name = getattr(getattr(teacher.model, "config", None), "_name_or_path", "") or type(teacher.model).__name__
            raise _refusal(
                f"of {theirs['name']} (weights with sha256 {theirs['weights_sha256'][:16]})",
                f"teacher_model is {name} (weights with sha256 {sha256[:16]})",
            )


def require_same_trajectory(found: Mapping[str, Provenance], trajectory: Trajectory, teacher: FrozenTeacher) -> None:
    """Refuse answers of other checkpoints than those of a trajectory, or of words cut to a few.

    Adapters, and teachers in another precision than their checkpoints, are not compared but counted.

    Args:
        found: By column.
        trajectory: At its first checkpoint, where it is again afterwards.
        teacher: Whose weights the trajectory changes.

    Raises:
        ValueError: Names both sides.
    """
    recorded = [found[column] for column in sorted(found, key=lambda name: (len(name), name))]
    if len(recorded) != len(trajectory.checkpoints):
        raise _refusal(f"of {len(recorded)} checkpoints", f"teacher_checkpoints names {len(trajectory.checkpoints)}")
    if recorded[0].top_classes is not None:
        raise _refusal("cut to a few words at one temperature", "a trajectory is followed at changing ones")
    if trajectory.checkpoints[0].is_adapter or teacher.is_converted:
        return
    for index, provenance in enumerate(recorded):
        trajectory.move_to(index, teacher.model)
        require_same_teacher([provenance], teacher)
    trajectory.move_to(0, teacher.model)


def require_own_inputs(dataset: Any, column: str, provenance: Provenance) -> None:
    """Refuse answers beside rows whose `input_ids` are not those that were answered.

    All rows of a `datasets.Dataset` are looked at, the first ones of a stream or of rows made on the fly.

    Args:
        dataset: Has the column.
        column: Of the provenance.
        provenance: Of the answers.

    Raises:
        ValueError: Names how many rows, and the longest of them and of those that were answered.
    """
    others, rows, longest = 0, 0, 0
    for inputs, read in _inputs_and_hashes(dataset, column):
        read = np.asarray(read)
        others += int(((sequence_hashes(inputs) != read) & (read != 0)).sum())
        rows += len(inputs)
        longest = max(longest, int(pa.compute.max(pa.compute.list_value_length(inputs)).as_py() or 0))
    if others:
        raise _refusal(
            f"to rows of at most {provenance.max_length or 'an unknown number of'} tokens, cut there",
            f"{others} of {rows} rows have other input_ids than those, the longest of them all {longest} tokens: texts were "
            "encoded anew, with another truncation or tokenizer, or answers were put beside other rows",
        )


def require_steady(dataset: Any, collate: Callable[[list], dict[str, Any]], recorded: Collection[str]) -> None:
    """Refuse data and collators that make other inputs of the same rows each time: answers are to one of them only.

    Args:
        dataset: Its first rows are read twice, those of a stream once.
        collate: Makes model inputs of them, twice.
        recorded: Names of the answers themselves.

    Raises:
        ValueError: Names the input, and two values that one element of it took.
    """
    with random_state_kept():
        rows = _first_rows(dataset)
        first = dict(collate([dict(row) for row in rows]))
        second = dict(collate([dict(row) for row in (_first_rows(dataset) if hasattr(dataset, "__len__") else rows)]))
    for name, value in first.items():
        other = second[name]
        if name in recorded or not isinstance(value, Tensor) or torch.equal(value, other):
            continue
        values = "other shapes"
        if value.shape == other.shape:
            place = tuple((value != other).nonzero()[0].tolist())
            values = f"at {place} first {value[place].item()} and then {other[place].item()}"
        raise _refusal("to inputs that stay as they are", f"the same rows gave other {name} when read again, {values}")


def _inputs_and_hashes(dataset: Any, column: str) -> Iterator[tuple[Any, Any]]:
    if not isinstance(dataset, datasets.Dataset) or dataset.format["type"] == "custom":
        rows = [row for row in _first_rows(dataset) if "input_ids" in row and column in row]
        if rows:
            yield pa.array([list(row["input_ids"]) for row in rows]), [int(row[column]["inputs"]) for row in rows]
    elif "input_ids" in dataset.column_names:
        both = dataset.select_columns(["input_ids", column]).with_format("arrow")
        for table in both.iter(batch_size=_ROWS_AT_ONCE):
            yield table["input_ids"], pa.compute.struct_field(table[column], "inputs")


def _first_rows(dataset: Any) -> list[Mapping[str, Any]]:
    if hasattr(dataset, "__len__"):
        return [dataset[index] for index in range(min(_FIRST_ROWS, len(dataset)))]
    return list(islice(iter(dataset), _FIRST_ROWS))


def _require_same_labels(recorded: list[str], own: list[str]) -> None:
    if len(recorded) != len(own) or (
        [name.casefold() for name in recorded] != [name.casefold() for name in own]
        and not any(all(name.startswith("LABEL_") for name in names) for names in (recorded, own))
    ):
        raise _refusal(
            f"in the order of the labels {recorded}",
            f"the student's labels are {own}; label the rows with a teacher made by load_teacher for this student",
        )


def _require_same_comparison(provenance: Provenance, args: Any) -> None:
    kept = provenance.top_classes
    if kept is None:
        return
    if args.temperature != kept["temperature"]:
        raise _refusal(f"softened by temperature {kept['temperature']}", f"temperature is {args.temperature}")
    if args.soft_label_top_k not in (None, kept["top_k"]):
        raise _refusal(f"of {kept['top_k']} words per masked one", f"soft_label_top_k is {args.soft_label_top_k}")
    loss = getattr(args.soft_label_loss, "value", args.soft_label_loss)
    if loss not in (None, "forward_kl"):
        raise _refusal("cut to a few words, which forward_kl alone compares", f"soft_label_loss is {loss}")


def _refusal(recorded: str, given: str) -> ValueError:
    return ValueError(f"the transfer set's recorded answers are {recorded}; {given}")

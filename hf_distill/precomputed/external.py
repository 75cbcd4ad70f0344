"""Teacher outputs from elsewhere, such as the answers of a language model or of a service, as precomputed teacher outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from transformers.utils import logging

from hf_distill.data.files import FILE_TYPES, load_files
from hf_distill.files import require_sound_table
from hf_distill.fingerprints import table_sha256
from hf_distill.objectives.logits import logits_of_probabilities
from hf_distill.objectives.top_k import named_with_tail
from hf_distill.precomputed.external_rows import NamedOutputs, OutputKind, read_outputs
from hf_distill.precomputed.provenance import EXTERNAL, TOKENS_READ, Provenance
from hf_distill.tasks import Task
from hf_distill.teachers.column_names import (
    TEACHER_CLASSES,
    TEACHER_LOGITS,
    TEACHER_POSITIONS,
    TEACHER_PROVENANCE,
    precomputed_columns,
)
from hf_distill.text.privacy import public, public_name
from hf_distill.text.suggestions import choice

logger = logging.get_logger(__name__)

TOLERANCE = 0.01
_RESERVED = ("kind", "outputs", "outputs_sha256", "weights_sha256")


def teacher_outputs_from(
    rows: datasets.Dataset,
    labels: Sequence[str] | None = None,
    *,
    column: str | None = None,
    kind: OutputKind | str | None = None,
    multi_label: bool = False,
    names: Mapping[str, str] | None = None,
    teacher: Mapping[str, Any] | None = None,
    tolerance: float = TOLERANCE,
) -> datasets.Dataset:
    """Turn a teacher's outputs, by label name, into the columns that `label_transfer_set` writes for a classifier of texts.

    The outputs are in the column `teacher_outputs` (a dict of numbers by name; a list of entries with a name, under label or
    token, and a number, under score, probability, logprob or logit; or a list of numbers in the order of `labels`), else in
    `teacher_label` and `teacher_confidence`, else in one column per label. Where a row names some labels only, the rest of
    its probability is that of all other labels together. Rows without outputs are left out, and counted in the log.

    Args:
        rows: The rows, with texts or model inputs.
        labels: The student's labels, in its order. None: those that the outputs name, in alphabetical order, or in that of
            their columns.
        column: The column of outputs, if it has another name.
        kind: What the numbers are: probabilities, log_probabilities or logits. None: as the entries say, else probabilities.
            Of log-probabilities, names that are no labels are other tokens, which do not count; a row that gives them more
            than half of the probability is without outputs.
        multi_label: Whether the labels are independent yes/no labels.
        names: Labels by the names that stand for them in the outputs, such as {"A": "negative"}.
        teacher: What is known of the teacher: its name, and for example date and template. It goes into the provenance.
        tolerance: The largest allowed difference of the sum of a row's probabilities from one.

    Returns:
        The rows with outputs, with the columns of precomputed teacher outputs in place of those that were read.

    Raises:
        ValueError: Probabilities are negative, are no numbers or do not sum to one; a confidence is outside [0, 1]; outputs
            name other labels; or there are none.
    """
    if there := precomputed_columns(rows.column_names):
        raise ValueError(f"the rows have precomputed teacher outputs already, {there}")
    chosen = None if kind is None else choice(OutputKind, kind, "kind")
    found = read_outputs(rows, None if labels is None else list(labels), column, chosen, names or {}, multi_label)
    if len(found.labels) < 2 and not multi_label:
        raise ValueError(f"a classifier needs at least 2 labels, the outputs name {found.labels}: pass the labels")
    columns, answered = _columns(found, multi_label, tolerance)
    numbers = np.flatnonzero(answered)
    if not len(numbers):
        raise ValueError(f"none of the {len(rows)} rows has a teacher's outputs in {found.columns}")
    if len(numbers) < len(rows):
        logger.warning(f"{len(rows) - len(numbers)} of {len(rows)} rows have no teacher's outputs and are left out.")
    table = pa.table({name: pa.array(values.numpy()[numbers].tolist()) for name, values in columns.items()})
    table = table.cast(_features(columns).arrow_schema)
    provenance = _provenance(found, table, multi_label, teacher or {})
    unknown = {TOKENS_READ: np.zeros(len(table), np.int64)}  # what an external teacher read is not known
    features = datasets.Features(_features(columns) | {TEACHER_PROVENANCE: provenance.feature(unknown)})
    table = table.append_column(TEACHER_PROVENANCE, provenance.column(table, unknown)).cast(features.arrow_schema)
    rest = rows.remove_columns(found.columns)
    kept = [rest.select(numbers)] if rest.column_names else []
    return datasets.concatenate_datasets([*kept, datasets.Dataset(table)], axis=1)


def read_rows(source: Path) -> datasets.Dataset:
    """The rows of a data file, or of a folder that `Dataset.save_to_disk` wrote.

    Args:
        source: The path of the file or folder.

    Returns:
        The rows.

    Raises:
        ValueError: It is a file of another type, or the folder holds several splits.
    """
    if source.is_file():
        if source.suffix not in FILE_TYPES:
            raise ValueError(f"a file of teacher outputs must be one of {sorted(FILE_TYPES)}, got {str(source)!r}")
        return load_files({"train": str(source)})["train"]
    rows = datasets.load_from_disk(str(source))
    if not isinstance(rows, datasets.Dataset):
        raise ValueError(f"{source} holds the splits {sorted(rows)}; teacher outputs are read from a single one")
    require_sound_table(rows.data, str(source))
    return rows


def _columns(found: NamedOutputs, multi_label: bool, tolerance: float) -> tuple[dict[str, Tensor], np.ndarray]:
    """The columns of precomputed outputs, and which rows have outputs, bool (rows,)."""
    values, answered = torch.from_numpy(found.values), found.answered
    if multi_label or found.kind is OutputKind.LOGITS:
        _require_all_labels(found)
        if found.kind is OutputKind.LOGITS:
            return {TEACHER_LOGITS: values}, answered
        _require_probabilities(found, tolerance=0.0 if found.kind is OutputKind.PROBABILITIES else tolerance)
        return {TEACHER_LOGITS: logits_of_probabilities(values.clamp(max=1), multi_label=True)}, answered
    named = ~torch.isnan(values)
    probabilities, tail = _distributions(found, tolerance)
    total = probabilities.sum(dim=-1) + tail
    answered = answered & (total > 0).numpy() & (found.others <= 0.5)
    probabilities, tail = probabilities / total[:, None], tail / total
    missing = (~named).sum(dim=-1)
    if (missing[torch.from_numpy(answered)] <= 1).all():
        complete = torch.where(named, probabilities, tail[:, None])
        return {TEACHER_LOGITS: logits_of_probabilities(complete)}, answered
    named[~torch.from_numpy(answered), 0] = True  # these rows are left out later
    classes, log_probabilities = named_with_tail(probabilities, named)
    positions = torch.zeros(len(values), 1, dtype=torch.int64)
    found_columns = {TEACHER_LOGITS: log_probabilities[:, None], TEACHER_CLASSES: classes[:, None]}
    return found_columns | {TEACHER_POSITIONS: positions}, answered


def _distributions(found: NamedOutputs, tolerance: float) -> tuple[Tensor, Tensor]:
    """Probabilities of the labels, 0 where they are not named, (rows, labels), and of all others together, (rows,)."""
    _require_probabilities(found, tolerance)
    is_named, total = ~np.isnan(found.values), np.nansum(found.values, axis=1)
    is_complete, is_open = is_named.all(axis=1), found.kind is OutputKind.LOG_PROBABILITIES
    is_wrong = (total + found.others > 1 + tolerance) | (is_complete & (total < 1 - tolerance) & (not is_open))
    for row in np.flatnonzero(is_wrong & found.answered)[:1]:
        raise ValueError(
            f"the probabilities of row {row + 1} sum to {total[row] + found.others[row]:.6g}; they must sum to 1, to within "
            f"{tolerance}, or to less where a label is missing. For independent labels pass multi_label (--multi-label), for "
            "other numbers than probabilities kind (--outputs-kind)"
        )
    tail = np.where(is_complete, 0, np.maximum(1 - total - found.others, 0))
    return torch.from_numpy(np.nan_to_num(found.values)), torch.from_numpy(tail)


def _require_probabilities(found: NamedOutputs, tolerance: float) -> None:
    is_wrong = (found.values < 0) | (found.values > 1 + tolerance)  # False for NaN, where there is no number
    for row, label in np.argwhere(is_wrong)[:1]:
        given = found.values[row, label]
        raise ValueError(
            f"row {row + 1} has the probability {given:.6g} for {found.labels[label]!r}; allowed are 0 to 1. For other numbers "
            "than probabilities pass kind (--outputs-kind): log_probabilities or logits"
        )


def _require_all_labels(found: NamedOutputs) -> None:
    for row, label in np.argwhere(~np.isfinite(found.values) & found.answered[:, None])[:1]:
        what = "logits" if found.kind is OutputKind.LOGITS else "independent labels"
        raise ValueError(
            f"row {row + 1} has no finite number for the label {found.labels[label]!r}; {what} need one for each of "
            f"{found.labels}"
        )


def _features(columns: Mapping[str, Tensor]) -> datasets.Features:
    kinds = {TEACHER_LOGITS: "float32", TEACHER_CLASSES: "int32", TEACHER_POSITIONS: "int32"}
    features: dict[str, Any] = {}
    for name, values in columns.items():
        features[name] = datasets.Value(kinds[name])
        for _ in range(values.dim() - 1):
            features[name] = datasets.List(features[name])
    return datasets.Features(features)


def _provenance(found: NamedOutputs, outputs: pa.Table, multi_label: bool, teacher: Mapping[str, Any]) -> Provenance:
    if reserved := sorted(teacher.keys() & set(_RESERVED)):
        raise ValueError(f"what is told of the teacher may not be called {reserved}, which are written by this library")
    for name, value in teacher.items():
        if not isinstance(value, str | int | float | bool | None):
            raise ValueError(f"what is told of the teacher is text or a number, got {value!r} for {name!r}")
    told = {str(name): public(value) for name, value in teacher.items()}
    top_k = len(outputs[TEACHER_CLASSES][0].as_py()[0]) if TEACHER_CLASSES in outputs.column_names else None
    return Provenance(
        teacher=told
        | {
            "name": public_name(str(teacher.get("name") or "an external teacher")),
            "kind": EXTERNAL,
            "outputs": found.kind.value,
            "outputs_sha256": table_sha256(outputs),
        },
        task=Task.SEQUENCE_CLASSIFICATION.value,
        labels=found.labels,
        processing_class=None,
        text_columns=[],
        max_length=None,
        dtype="float32",
        top_classes=None if top_k is None else {"top_k": top_k, "temperature": 1.0},
        hidden_states=[],
        cls_states=[],
        rows_per_shard=len(outputs),
        problem_type="multi_label_classification" if multi_label else "single_label_classification",
    )

"""The outputs of a teacher from elsewhere, read from the columns that people and services write them in."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

import datasets
import numpy as np

from hf_distill.data.class_names import ClassIds, shared_names
from hf_distill.data.sequences import label_values

OUTPUTS, HARD_LABEL, CONFIDENCE = "teacher_outputs", "teacher_label", "teacher_confidence"
_NAME_KEYS = ("label", "token", "decoded_token")
_BEFORE_TOKENS = " \t\r\nĠ▁"  # what tokenizers write for the space before a word
_SHOWN = 20  # names in an error message

Entries = list[tuple[str, float]]


class OutputKind(str, Enum):
    """What the numbers of a teacher from elsewhere are."""

    PROBABILITIES = "probabilities"
    LOG_PROBABILITIES = "log_probabilities"
    LOGITS = "logits"
    LABELS = "labels"


_KIND_OF_KEY = {
    "logprob": OutputKind.LOG_PROBABILITIES,
    "log_probability": OutputKind.LOG_PROBABILITIES,
    "probability": OutputKind.PROBABILITIES,
    "score": OutputKind.PROBABILITIES,
    "logit": OutputKind.LOGITS,
}


@dataclass(frozen=True)
class NamedOutputs:
    """Outputs by label.

    Attributes:
        labels: The labels, in the order of the columns of `values`.
        kind: What the numbers were.
        values: Probabilities, or logits, (rows, labels); NaN where a row names no number for a label.
        others: The probability of names that are no labels, (rows,).
        answered: Whether a row has outputs, bool (rows,).
        columns: The columns that the outputs were read from.
    """

    labels: list[str]
    kind: OutputKind
    values: np.ndarray
    others: np.ndarray
    answered: np.ndarray
    columns: list[str]


def read_outputs(
    rows: datasets.Dataset,
    labels: Sequence[str] | None,
    column: str | None,
    kind: OutputKind | None,
    names: Mapping[str, str],
    multi_label: bool,
) -> NamedOutputs:
    """Read a teacher's outputs from the columns of a data set.

    Args:
        rows: The rows, with the column `teacher_outputs`, or `teacher_label`, or one column of numbers per label.
        labels: The labels. None: those that the outputs name.
        column: The name of the column of outputs. None: see `rows`.
        kind: What the numbers are. None: as their keys say, else probabilities.
        names: Labels by the names that stand for them in the outputs.
        multi_label: Whether the labels are independent yes/no labels.

    Returns:
        The outputs.

    Raises:
        ValueError: A column is missing, a name is no label, a value is no number, or the labels are not known.
    """
    if column is None and OUTPUTS not in rows.column_names:
        if HARD_LABEL in rows.column_names:
            return _hard_labels(rows, labels, names, multi_label)
        columns = _label_columns(rows, labels, names)
        by_row = zip(*(rows[name][:] for name in columns), strict=True)
        entries = [_numbers(row, zip(columns, each, strict=True)) for row, each in enumerate(by_row)]
        own = [names.get(name, name) for name in columns]
        return _by_label(entries, labels or own, kind or OutputKind.PROBABILITIES, names, columns)
    place = column or OUTPUTS
    if place not in rows.column_names:
        raise ValueError(f"the data have no column {place!r}, they have {rows.column_names}")
    values = rows[place][:]
    kind = kind or _kind_of(values) or OutputKind.PROBABILITIES
    entries = [_numbers(row, _pairs(row, value, labels)) for row, value in enumerate(values)]
    if labels is None and kind is OutputKind.LOG_PROBABILITIES:
        if not names:
            raise ValueError(
                "log-probabilities are of tokens, of which some are no labels: pass the labels (--labels), or which name stands "
                "for which label"
            )
        labels = list(dict.fromkeys(names.values()))
    elif labels is None:
        labels = sorted({names.get(name, name) for row in entries for name, _ in row or ()})
    return _by_label(entries, labels, kind, names, [place])


def _label_columns(rows: datasets.Dataset, labels: Sequence[str] | None, names: Mapping[str, str]) -> list[str]:
    """The columns of numbers, one per label."""
    numbers = [name for name, each in rows.features.items() if "float" in str(getattr(each, "dtype", ""))]
    wanted = numbers if labels is None else list(labels)
    present = [name for name in rows.column_names if names.get(name, name) in wanted]
    if not wanted or len(present) < len(wanted):
        raise ValueError(
            f"the data have no teacher's outputs: neither a column {OUTPUTS!r} nor {HARD_LABEL!r}, nor one column of numbers "
            f"for each of the labels {list(labels or ())}; their columns of numbers are {numbers}, all are {rows.column_names}"
        )
    return present


def _kind_of(values: Iterable[Any]) -> OutputKind | None:
    """What the numbers are according to the keys of the first entry."""
    for value in values:
        entries = value.values() if isinstance(value, Mapping) else value or ()
        for entry in entries:
            if isinstance(entry, Mapping):
                return next((kind for key, kind in _KIND_OF_KEY.items() if key in entry), None)
            if entry is not None:
                return None
    return None


def _pairs(row: int, value: Any, labels: Sequence[str] | None) -> Iterable[tuple[Any, Any]]:
    """The names and numbers of one row's outputs."""
    if value is None:
        return []
    if isinstance(value, Mapping):
        given = [(name, each) for name, each in value.items() if each is not None]
        return [_entry(row, each, name) if isinstance(each, Mapping) else (name, each) for name, each in given]
    if not isinstance(value, list):
        raise ValueError(f"the outputs of row {row + 1} must be a dict or a list, got {value!r:.80}")
    if value and not isinstance(value[0], Mapping):
        if labels is None or len(labels) != len(value):
            raise ValueError(f"row {row + 1} lists {len(value)} numbers without names for the labels {labels}")
        return zip(labels, value, strict=True)
    return [_entry(row, each) for each in value]


def _entry(row: int, entry: Mapping[str, Any], name: Any = None) -> tuple[Any, Any]:
    names = [entry[key] for key in _NAME_KEYS if entry.get(key) is not None]
    numbers = [entry[key] for key in _KIND_OF_KEY if entry.get(key) is not None]
    if not numbers or (name is None and not names):
        raise ValueError(
            f"an entry of the outputs of row {row + 1} needs one of {_NAME_KEYS} and one of {tuple(_KIND_OF_KEY)}, got "
            f"the keys {list(entry)}"
        )
    return names[0] if names else name, numbers[0]


def _numbers(row: int, pairs: Iterable[tuple[Any, Any]]) -> Entries | None:
    """The names and numbers of one row without missing ones; None: the row has no outputs."""
    found: Entries = []
    for name, value in pairs:
        if value is None:
            continue
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or math.isnan(value):
            raise ValueError(f"row {row + 1} has {value!r} for {name!r}; a teacher's output is a number")
        found.append((str(name).strip(_BEFORE_TOKENS), float(value)))
    return found or None


def _by_label(
    entries: Sequence[Entries | None],
    labels: Sequence[str],
    kind: OutputKind,
    names: Mapping[str, str],
    columns: list[str],
) -> NamedOutputs:
    """The entries as one row of numbers per row, in the order of the labels."""
    labels = list(labels)
    if shared := shared_names(labels):
        raise ValueError(f"every label needs a name of its own, got {shared} several times in {labels}")
    place = _places(labels, names, has_numbers=kind is OutputKind.LABELS)
    is_log = kind is OutputKind.LOG_PROBABILITIES
    values, others = np.full((len(entries), len(labels)), np.nan), np.zeros(len(entries))
    unknown: dict[str, None] = {}
    for row, pairs in enumerate(entries):
        for name, value in pairs or ():
            index = place(name)
            number = math.exp(min(value, 700.0)) if is_log else value
            if index is not None:
                values[row, index] = number + np.nan_to_num(values[row, index])
            elif is_log:
                others[row] += number
            else:
                unknown[name] = None
    has_labels = ~np.isnan(values).all(axis=1)
    if unknown or (is_log and not has_labels.any()):
        named = list(unknown) or list(dict.fromkeys(name for pairs in entries for name, _ in pairs or ()))
        raise ValueError(
            f"the outputs name {named[:_SHOWN]}, which are none of the labels {labels}: pass the labels as the outputs name "
            "them, or say which name stands for which label"
        )
    return NamedOutputs(labels, kind, values, others, has_labels, columns)


def _places(labels: list[str], names: Mapping[str, str], has_numbers: bool) -> Callable[[str], int | None]:
    """A function from a name in the outputs, or a label's number, to the index of the label; None for a name of no label."""
    if unknown := sorted(set(names.values()) - set(labels)):
        raise ValueError(f"names stand for {unknown}, which are none of the labels {labels}")
    ids, known = (
        ClassIds.of(labels, None if has_numbers else ()),
        {name.casefold(): label for name, label in names.items()},
    )
    return lambda name: ids.get(names.get(name, known.get(name.casefold(), name)))


def _hard_labels(
    rows: datasets.Dataset, labels: Sequence[str] | None, names: Mapping[str, str], multi_label: bool
) -> NamedOutputs:
    """Probabilities of hard labels: the confidence for a label that is named, and the rest for all others together."""
    feature, has_confidence = rows.features[HARD_LABEL], CONFIDENCE in rows.column_names
    value_of = label_values(getattr(feature, "feature", feature))
    columns = [HARD_LABEL, *([CONFIDENCE] if has_confidence else [])]
    confidences = rows[CONFIDENCE][:] if has_confidence else [1.0] * len(rows)
    chosen: list[list[str] | None] = []
    for row, (value, confidence) in enumerate(zip(rows[HARD_LABEL][:], confidences, strict=True)):
        if confidence is not None and not 0 <= confidence <= 1:
            raise ValueError(f"a confidence must be between 0 and 1, row {row + 1} has {confidence}")
        if isinstance(value, list) and not multi_label:
            raise ValueError(f"row {row + 1} has several hard labels, {value}: pass multi_label (--multi-label)")
        listed = [value_of(each) for each in (value if isinstance(value, list) else [value])]
        is_missing = None in listed or confidence is None
        chosen.append(None if is_missing else [str(each).strip() for each in listed])
    known = getattr(getattr(feature, "feature", feature), "names", None)
    found = sorted({names.get(name, name) for each in chosen for name in each or ()})
    entries: list[Entries | None] = [None if each is None else [(name, 1.0) for name in each] for each in chosen]
    read = _by_label(entries, labels or known or found, OutputKind.LABELS, names, columns)
    answered = np.array([each is not None for each in chosen])
    share = np.array([0.0 if each is None else each for each in confidences])[:, None]
    rest = 1 - share if multi_label else np.nan
    values = np.where(np.isnan(read.values), rest, share)
    return replace(read, values=values, answered=answered)

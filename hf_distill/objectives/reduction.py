"""Reduction of one value per item to one number per batch, the same for every split of that batch.

An optimizer step covers N items, spread over accumulated micro-batches and processes. A micro-batch that holds n of
them contributes its mean times n / N, so the contributions add up to the mean over all N, however they were split.
What counts as an item (an example, a position, a label) is defined by one of the `..._items` functions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

import torch
from torch import Tensor

IGNORE_INDEX = -100

# Key of a batch whose rows are all repetitions, present only so that every process takes part in the optimizer step.
NO_REAL_EXAMPLE = "no_real_example"


class SoftLabelPositions(str, Enum):
    """Where soft labels of masked-language models are compared."""

    MASKED = "masked"
    ATTENDED = "attended"


def share_of_batch(num_items: Tensor, total_items: Tensor) -> Tensor:
    """Share n / N of a micro-batch in its optimizer step; 0 where the whole step has no item.

    Args:
        num_items: Number of items of each term in the micro-batch, (terms,).
        total_items: Number of items of each term in the whole optimizer step, (terms,).

    Returns:
        Shares in [0, 1], (terms,).
    """
    return num_items / total_items.clamp(min=1)


def mean_over_items(values: Tensor, items: Tensor) -> Tensor:
    """Mean of the items' values, 0 without items; dimensions of the values beyond those of the items are averaged.

    Args:
        values: One value per element of `items`, (*items.shape, ...); or values of the items alone, (number of items,
            ...); or their mean, scalar.
        items: True at the elements that count as items, bool of any shape.

    Returns:
        The mean, scalar.
    """
    if values.dim() == 0:
        return values
    if values.shape[: items.dim()] != items.shape:
        return values.sum() / max(values.numel(), 1)
    per_item = values.reshape(*items.shape, -1).mean(dim=-1)
    return torch.where(items, per_item, 0).sum() / items.sum().clamp(min=1)


def example_items(inputs: Mapping[str, Any]) -> Tensor:
    """Every example of a batch counts as an item.

    Args:
        inputs: Model inputs, tensors (batch, ...).

    Returns:
        All true, bool (batch,).

    Raises:
        ValueError: There is no tensor among the inputs.
    """
    return torch.ones(row_count(inputs), dtype=torch.bool, device=_first_tensor(inputs).device)


def position_items(inputs: Mapping[str, Any]) -> Tensor:
    """Every position that is not padding, bool (batch, sequence); every example where the inputs are not sequences."""
    valid = valid_positions(inputs)
    if valid is not None:
        return valid
    input_ids = inputs.get("input_ids")
    return example_items(inputs) if input_ids is None else torch.ones_like(input_ids, dtype=torch.bool)


def valid_positions(inputs: Mapping[str, Any]) -> Tensor | None:
    """The attention mask as bool (batch, sequence); None where the inputs have none."""
    mask = inputs.get("attention_mask")
    return mask.bool() if isinstance(mask, Tensor) and mask.dim() == 2 else None


def label_items(
    inputs: Mapping[str, Any],
    label_names: Sequence[str],
    causal_shift: bool = False,
    multi_label: bool = False,
) -> Tensor:
    """The labels that the student's loss averages over, or its examples when the batch has no labels.

    Class indices of -100 are ignored, as in torch's cross-entropy. Among float labels every element counts, as in mean
    squared error and binary cross-entropy, unless it is not finite or, for a multi-label head, -100.

    Args:
        inputs: Model inputs.
        label_names: The names of inputs that are labels; the first one present is used.
        causal_shift: Whether the label at position i + 1 is the target at position i, so that the first never is a
            target.
        multi_label: Whether float labels are independent yes/no labels, where -100 marks a missing one. For regression
            -100 is a value like any other.

    Returns:
        True at the positions whose output is compared with a label, bool of the labels' shape.
    """
    labels: Tensor | None = next((inputs[name] for name in label_names if isinstance(inputs.get(name), Tensor)), None)
    if labels is None:
        return example_items(inputs)
    if labels.is_floating_point():
        return labels.isfinite() & labels.ne(IGNORE_INDEX) if multi_label else labels.isfinite()
    if causal_shift:
        labels = torch.nn.functional.pad(labels[..., 1:], (0, 1), value=IGNORE_INDEX)
    return labels.ne(IGNORE_INDEX)


def token_items(inputs: Mapping[str, Any], label_names: Sequence[str], causal_shift: bool = False) -> Tensor:
    """The positions of a token task whose soft labels are compared.

    In a row with labels these are its labeled positions; in a row or batch without labels (a partly labeled data set)
    all that are not padding. In causal language modeling a row whose labels are all -100 has no such position.

    Args:
        inputs: Model inputs.
        label_names: The names of inputs that are labels.
        causal_shift: Whether the label at position i + 1 is the target at position i.

    Returns:
        True at the positions that count, bool (batch, sequence).
    """
    if not has_labels(inputs, label_names):
        return position_items(inputs)
    labeled = label_items(inputs, label_names, causal_shift)
    if causal_shift:
        return labeled
    valid, unlabeled = valid_positions(inputs), ~labeled.any(dim=1, keepdim=True)
    return labeled | (unlabeled if valid is None else valid & unlabeled)


def row_count(inputs: Mapping[str, Any]) -> int:
    """Number of examples in a batch, read from a tensor's shape without synchronizing with the device.

    Args:
        inputs: Model inputs, tensors (batch, ...).

    Returns:
        The batch size.

    Raises:
        ValueError: There is no tensor among the inputs.
    """
    return len(_first_tensor(inputs))


def has_labels(inputs: Mapping[str, Any], label_names: Sequence[str]) -> bool:
    """Whether the batch has every label that the student's loss reads."""
    return bool(label_names) and all(inputs.get(name) is not None for name in label_names)


def widened(values: Tensor) -> Tensor:
    """The values in at least single precision: a log-softmax in bfloat16 keeps only two to three digits."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _first_tensor(inputs: Mapping[str, Any]) -> Tensor:
    for value in inputs.values():
        if isinstance(value, Tensor) and value.dim() > 0:
            return value
    raise ValueError(f"cannot count the examples of a batch without tensors; it holds {sorted(inputs)}")

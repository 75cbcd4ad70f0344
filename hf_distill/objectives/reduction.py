"""From one value per item to one number per batch, the same for every way of splitting that batch.

An optimizer step covers N items, spread over accumulated micro-batches and processes. A micro-batch that holds n of
them contributes its mean times n / N, so the contributions add up to the mean over all N, however they were split.
What an item is (an example, a position, a label) a term says with one of the `..._items` functions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum

import torch
from torch import Tensor

IGNORE_INDEX = -100

# Input of a batch whose rows are all repetitions, there only so that every process takes part in the step.
NO_REAL_EXAMPLE = "no_real_example"


class SoftLabelPositions(str, Enum):
    """Where soft labels of masked-language models are compared."""

    MASKED = "masked"
    ATTENDED = "attended"


def share_of_batch(num_items: Tensor, total_items: Tensor) -> Tensor:
    """Share n / N of a micro-batch in its optimizer step; 0 where the whole step holds no item.

    Args:
        num_items: Items in the micro-batch, per term, (terms,).
        total_items: Items in the whole step, per term, (terms,).

    Returns:
        Shares in [0, 1], (terms,).
    """
    return num_items / total_items.clamp(min=1)


def mean_over_items(values: Tensor, items: Tensor) -> Tensor:
    """Mean of the items' values, 0 without items; dimensions of the values beyond those of the items are averaged.

    Args:
        values: (*items.shape, ...); or (number of items, ...), already picked out; or their mean, scalar.
        items: Which positions count, bool of any shape.

    Returns:
        Scalar.
    """
    if values.dim() == 0:
        return values
    if values.shape[: items.dim()] != items.shape:
        return values.sum() / max(values.numel(), 1)
    per_item = values.reshape(*items.shape, -1).mean(dim=-1)
    return torch.where(items, per_item, 0).sum() / items.sum().clamp(min=1)


def example_items(inputs: Mapping[str, object]) -> Tensor:
    """Every example of a batch of model inputs, bool (batch,) of ones.

    Raises:
        ValueError: `inputs` holds no tensor.
    """
    return torch.ones(row_count(inputs), dtype=torch.bool, device=_first_tensor(inputs).device)


def position_items(inputs: Mapping[str, object]) -> Tensor:
    """Every position that is no padding, bool (batch, sequence); every example where inputs are no sequences."""
    valid = valid_positions(inputs)
    if valid is not None:
        return valid
    input_ids = inputs.get("input_ids")
    return example_items(inputs) if input_ids is None else torch.ones_like(input_ids, dtype=torch.bool)


def valid_positions(inputs: Mapping[str, object]) -> Tensor | None:
    """The attention mask as bool (batch, sequence); None where there is none."""
    mask = inputs.get("attention_mask")
    return mask.bool() if isinstance(mask, Tensor) and mask.dim() == 2 else None


def label_items(
    inputs: Mapping[str, object],
    label_names: Sequence[str],
    causal_shift: bool = False,
    multi_label: bool = False,
) -> Tensor:
    """What the student's own loss averages over: its labels, or its examples when the batch carries none.

    Class indices of -100 are ignored, as torch's cross-entropy does. Of float labels every element counts, as in mean
    squared error and binary cross-entropy, unless it is not finite or, for a multi-label head, -100.

    Args:
        inputs: Model inputs.
        label_names: The inputs that carry labels; the first of them present is counted.
        causal_shift: The label at position i + 1 is learned at position i, so the first is never a target.
        multi_label: Float labels are independent yes/no labels, of which -100 is none. For regression it is a number.

    Returns:
        Bool of the labels' shape, true at the position whose output is compared with a label.
    """
    labels = next((inputs[name] for name in label_names if isinstance(inputs.get(name), Tensor)), None)
    if labels is None:
        return example_items(inputs)
    if labels.is_floating_point():
        return labels.isfinite() & labels.ne(IGNORE_INDEX) if multi_label else labels.isfinite()
    if causal_shift:
        labels = torch.nn.functional.pad(labels[..., 1:], (0, 1), value=IGNORE_INDEX)
    return labels.ne(IGNORE_INDEX)


def token_items(inputs: Mapping[str, object], label_names: Sequence[str], causal_shift: bool = False) -> Tensor:
    """Positions of a token task that soft labels compare, bool (batch, sequence).

    Those with a label; of a row without any, as in a partly labeled set, and of a batch without labels all but padding.
    In causal language modeling a row whose labels are all -100 has nothing to learn and counts for nothing.
    """
    if not has_labels(inputs, label_names):
        return position_items(inputs)
    labeled = label_items(inputs, label_names, causal_shift)
    if causal_shift:
        return labeled
    valid, unlabeled = valid_positions(inputs), ~labeled.any(dim=1, keepdim=True)
    return labeled | (unlabeled if valid is None else valid & unlabeled)


def row_count(inputs: Mapping[str, object]) -> int:
    """Number of examples in a batch of model inputs, read from a shape: nothing waits for the device.

    Raises:
        ValueError: `inputs` holds no tensor.
    """
    return len(_first_tensor(inputs))


def has_labels(inputs: Mapping[str, object], label_names: Sequence[str]) -> bool:
    """Whether the batch carries every label the student's own loss reads."""
    return bool(label_names) and all(inputs.get(name) is not None for name in label_names)


def widened(values: Tensor) -> Tensor:
    """At least single precision: a log-softmax in bfloat16 keeps two to three digits."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _first_tensor(inputs: Mapping[str, object]) -> Tensor:
    for value in inputs.values():
        if isinstance(value, Tensor) and value.dim() > 0:
            return value
    raise ValueError(f"cannot count the examples of a batch without tensors; it holds {sorted(inputs)}")

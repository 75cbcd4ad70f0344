"""From one value per item to one number per batch, the same for every way of splitting that batch.

An optimizer step covers N items, spread over accumulated micro-batches and processes. A micro-batch that holds n of
them contributes its mean times n / N, so the contributions add up to the mean over all N, however they were split.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

IGNORE_INDEX = -100

# Input of a batch whose rows are all repetitions, there only so that every process takes part in the step.
NO_REAL_EXAMPLE = "no_real_example"


def share_of_batch(num_items: Tensor, total_items: Tensor) -> Tensor:
    """Share n / N of a micro-batch in its optimizer step; 0 where the whole step holds no item.

    Args:
        num_items: Items in the micro-batch, per term, (terms,).
        total_items: Items in the whole step, per term, (terms,).

    Returns:
        Shares in [0, 1], (terms,).
    """
    return num_items / total_items.clamp(min=1)


def count_labels(labels: Tensor, causal_shift: bool = False) -> Tensor:
    """Number of labels a loss averages over.

    Class indices equal to -100 are ignored, as torch's cross-entropy does; float labels (regression, multi-label)
    all count, since mean squared error and binary cross-entropy average over every element.

    Args:
        labels: Integer (batch,) or (batch, sequence), or float of any shape.
        causal_shift: Position i is predicted from position i - 1, so the first position is never a target.

    Returns:
        Integer scalar on the labels' device.
    """
    if labels.is_floating_point():
        return torch.full((), labels.numel(), device=labels.device)
    if causal_shift:
        labels = labels[..., 1:]
    return labels.ne(IGNORE_INDEX).sum()


def batch_rows(inputs: Mapping[str, object]) -> Tensor:
    """Number of examples in a batch of model inputs, as an integer scalar on the batch's device.

    Raises:
        ValueError: `inputs` holds no tensor.
    """
    return torch.full((), row_count(inputs), device=_first_tensor(inputs).device)


def row_count(inputs: Mapping[str, object]) -> int:
    """Number of examples in a batch of model inputs, read from a shape: nothing waits for the device.

    Raises:
        ValueError: `inputs` holds no tensor.
    """
    return len(_first_tensor(inputs))


def _first_tensor(inputs: Mapping[str, object]) -> Tensor:
    for value in inputs.values():
        if isinstance(value, Tensor) and value.dim() > 0:
            return value
    raise ValueError(f"cannot count the examples of a batch without tensors; it holds {sorted(inputs)}")


def count_label_items(inputs: Mapping[str, object], label_names: Sequence[str], causal_shift: bool = False) -> Tensor:
    """Number of items the student's own loss averages over: its labels, or its rows when the batch carries none."""
    for name in label_names:
        if isinstance(inputs.get(name), Tensor):
            return count_labels(inputs[name], causal_shift)
    return batch_rows(inputs)


def has_labels(inputs: Mapping[str, object], label_names: Sequence[str]) -> bool:
    """Whether the batch carries every label the student's own loss reads."""
    return bool(label_names) and all(inputs.get(name) is not None for name in label_names)

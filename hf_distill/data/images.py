"""Model inputs for image classification, from rows of an image and its class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import PretrainedConfig

from hf_distill.data.sequences import encode_label, label_ids, label_values

READY = "pixel_values"  # the column of images that are model inputs already


def encode_images(rows: Dataset, processor: Any, config: PretrainedConfig) -> Dataset:
    """Model inputs with labels, computed when rows are read.

    Args:
        rows: Rows with the columns image, or pixel_values for images that are model inputs already, and label.
        processor: The model's image processor. None: the rows have the column pixel_values.
        config: The model's configuration.

    Returns:
        The rows, with a transform that gives the columns pixel_values and labels.

    Raises:
        ValueError: A column or the processor is missing.
    """
    is_ready = READY in rows.column_names
    if "label" not in rows.column_names or not (is_ready or "image" in rows.column_names):
        raise ValueError(f"the data need the columns label and image or {READY}, got {rows.column_names}")
    if processor is None and not is_ready:
        raise ValueError(f"the model has no image processor: the data need the column {READY}")
    mode = "L" if getattr(config, "num_channels", 3) == 1 else "RGB"
    labels_of = image_labels(rows, config)

    def encode(batch: dict[str, list]) -> dict[str, list]:
        if is_ready:
            pixels = batch[READY]
        else:
            pixels = processor([image.convert(mode) for image in batch["image"]], return_tensors="np")[READY]
        return {
            READY: [np.asarray(image, dtype=np.float32) for image in pixels],
            "labels": labels_of(batch["label"]),
        }

    return rows.with_transform(encode)


def image_labels(rows: Dataset, config: PretrainedConfig) -> Callable[[Sequence[Any]], list[int | float]]:
    """A function from values of the column label to the model's classes, matched by name if the column has names."""
    ids, value_of = label_ids(config), label_values(rows.features["label"])
    return lambda values: [encode_label(value_of(value), ids) for value in values]

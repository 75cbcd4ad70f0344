"""What tells one model, or one data set, from another."""

from __future__ import annotations

import hashlib

import datasets
import torch
from torch import nn

from hf_distill.whole_weights import whole_state


def weights_sha256(model: nn.Module) -> str:
    """SHA-256 over names, types, shapes and bytes of a model's whole state, hexadecimal."""
    digest = hashlib.sha256()
    for name, tensor in sorted(whole_state(model).items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def rows_sha256(dataset: datasets.Dataset) -> str:
    """SHA-256 over a data set's column names and rows, in their order, hexadecimal."""
    digest = hashlib.sha256()
    for rows in dataset.with_format(None).iter(batch_size=1000):
        digest.update(repr(sorted(rows.items())).encode())
    return digest.hexdigest()

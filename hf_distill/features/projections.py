"""Linear maps from the student's hidden size to the teacher's, trained with the student and never exported with it."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Any

import torch
from torch import Tensor, nn

PROJECTIONS = "distillation_projections"
EMBEDDING = -1  # the index of the sentence embedding, among those of hidden states


class Projection(str, Enum):
    """When a learned linear map projects the student's hidden states to the teacher's hidden size."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


class Projections(nn.Module):
    """One linear map for the embeddings' output (W_e), one shared by all layers (W_h), as in TinyBERT, and one of sentences.

    Args:
        indices: Indices of the hidden states to be projected; 0 is the embeddings' output, `EMBEDDING` the sentence
            embedding.
        student_size: The student's hidden size.
        teacher_size: The teacher's hidden size.
        seed: The seed of the initial weights; the state of the global random generators does not change.

    Source:
        Jiao et al. 2020, arXiv 1909.10351, equations 8 and 9.
    """

    def __init__(self, indices: Iterable[int], student_size: int, teacher_size: int, seed: int):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # not torch.manual_seed: it moves the devices' generators too
            names = sorted({_map_of(index) for index in indices})
            self.maps = nn.ModuleDict({name: nn.Linear(student_size, teacher_size, bias=False) for name in names})

    def forward(self, states: Tensor, index: int) -> Tensor:
        """Project hidden states from the student's hidden size to the teacher's.

        Args:
            states: The student's hidden states, (batch, sequence, student hidden), or embeddings, (batch, student hidden).
            index: The index of these hidden states; 0 is the embeddings' output, `EMBEDDING` the sentence embedding.

        Returns:
            The projected hidden states, (batch, sequence, teacher hidden), or embeddings, (batch, teacher hidden).
        """
        return self.maps[_map_of(index)](states)


def _map_of(index: int) -> str:
    return {0: "embeddings", EMBEDDING: "sentence"}.get(index, "layers")


def attach(model: nn.Module, projections: Projections) -> None:
    """Add the projections to a model as a submodule, so that they are trained with it, but not to its state dict.

    Args:
        model: The student itself, not its wrapper.
        projections: The projections, which are moved to the device and precision of the model's parameters.
    """
    parameter = next(model.parameters())
    model.add_module(PROJECTIONS, projections.to(parameter.device, parameter.dtype))
    model.register_state_dict_post_hook(_leave_out)
    model.register_load_state_dict_post_hook(_do_not_miss)


def _leave_out(module: nn.Module, state_dict: dict, prefix: str, local_metadata: Any) -> None:
    for name in [name for name in state_dict if name.startswith(f"{prefix}{PROJECTIONS}.")]:
        del state_dict[name]


def _do_not_miss(module: nn.Module, incompatible: Any) -> None:
    incompatible.missing_keys[:] = [name for name in incompatible.missing_keys if f"{PROJECTIONS}." not in name]

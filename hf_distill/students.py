"""Students: smaller models of the teacher's family, and the weights they start from."""

from __future__ import annotations

import copy
import re
from enum import Enum

import torch
from torch import Tensor
from transformers import PreTrainedModel

# The named sizes of Turc et al. 2019 (arXiv 1908.08962), as layers/hidden size; heads are hidden / 64.
MINIATURES = {"tiny": "2/128", "mini": "4/256", "small": "4/512", "medium": "8/512", "base": "12/768"}

_HEAD_SIZE = 64
_LAYER_INDEX = re.compile(r"(?<=\.layer\.)\d+(?=\.)|(?<=\.layers\.)\d+(?=\.)")


class Initialisation(str, Enum):
    """Where a student's first weights come from (Turc et al. 2019, section 4)."""

    RANDOM = "random"
    EMBEDDINGS = "embeddings"
    TRUNCATED = "truncated"


def create_student(
    shape: str, teacher: PreTrainedModel, initialisation: Initialisation | str = Initialisation.TRUNCATED
) -> PreTrainedModel:
    """A student of the teacher's architecture, head, labels and vocabulary, in another size.

    Args:
        shape: A name in `MINIATURES`, or "layers/hidden size" such as "3/384". With the teacher's hidden size the
            heads and feed-forward size are the teacher's, else hidden / 64 and 4 · hidden.
        teacher: Gives configuration, labels and weights; it is left unchanged.
        initialisation: "random"; "embeddings", the teacher's embedding tables (on their leading principal directions
            when the student is narrower); or "truncated", the teacher's bottom layers, embeddings and head.

    Returns:
        A stock model in single precision, in training mode.

    Raises:
        ValueError: The shape cannot be read or built, or the initialisation does not fit it.

    Source:
        Turc et al. 2019, arXiv 1908.08962, section 4. Projecting embeddings of a wider teacher is ours.
    """
    initialisation = Initialisation(initialisation)
    layers, hidden_size = _parse_shape(shape)
    config = copy.deepcopy(teacher.config)
    config.num_hidden_layers = layers
    if hidden_size != config.hidden_size:
        if hidden_size % _HEAD_SIZE:
            raise ValueError(f"the hidden size of {shape!r} must be a multiple of {_HEAD_SIZE}, got {hidden_size}")
        config.hidden_size = hidden_size
        config.num_attention_heads = hidden_size // _HEAD_SIZE
        config.intermediate_size = 4 * hidden_size
    config._name_or_path = ""
    student = type(teacher)._from_config(config, dtype=torch.float32)
    if initialisation is Initialisation.TRUNCATED:
        _copy_bottom_layers(student, teacher)
    elif initialisation is Initialisation.EMBEDDINGS:
        _copy_embeddings(student, teacher)
    return student.train()


def _parse_shape(shape: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)/(\d+)", MINIATURES.get(shape, shape))
    if match is None or int(match[1]) == 0 or int(match[2]) == 0:
        raise ValueError(f"a shape is one of {sorted(MINIATURES)} or layers/hidden size such as '3/384', got {shape!r}")
    return int(match[1]), int(match[2])


def _copy_bottom_layers(student: PreTrainedModel, teacher: PreTrainedModel) -> None:
    size, layers = teacher.config.hidden_size, teacher.config.num_hidden_layers
    if student.config.hidden_size != size or student.config.num_hidden_layers > layers:
        raise ValueError(
            f"a truncated student keeps the teacher's hidden size ({size}) and at most its {layers} layers, got "
            f"{student.config.num_hidden_layers}/{student.config.hidden_size}; use 'embeddings' or 'random' for it"
        )
    kept = {
        name: weight
        for name, weight in teacher.state_dict().items()
        if not (index := _LAYER_INDEX.search(name)) or int(index[0]) < student.config.num_hidden_layers
    }
    student.load_state_dict(kept)


def _copy_embeddings(student: PreTrainedModel, teacher: PreTrainedModel) -> None:
    width = student.config.hidden_size
    tables = _embedding_tables(teacher)
    if width > teacher.config.hidden_size:
        raise ValueError(
            f"embeddings of a teacher of hidden size {teacher.config.hidden_size} cannot fill a student of {width}"
        )
    directions = None
    if width < teacher.config.hidden_size:
        words = teacher.get_input_embeddings().weight.detach().float()
        directions = torch.linalg.eigh(words.T @ words).eigenvectors[:, -width:]  # (teacher hidden, student hidden)
    with torch.no_grad():
        for name, target in _embedding_tables(student).items():
            source = tables[name].detach().float()
            target.copy_(source if directions is None else source @ directions)


def _embedding_tables(model: PreTrainedModel) -> dict[str, Tensor]:
    """Word, position and segment tables, (entries, hidden), by name."""
    return {
        name: parameter
        for name, parameter in model.named_parameters()
        if name.endswith("embeddings.weight") and parameter.shape[-1] == model.config.hidden_size
    }

"""Initial weights of a student, copied from its teacher."""

from __future__ import annotations

from enum import Enum
from typing import cast

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from hf_distill.pruning.compaction import compact, feed_forward_size
from hf_distill.pruning.importance import Criterion, largest, leading, score
from hf_distill.pruning.structure import SUPPORTED


class LayerSelection(str, Enum):
    """The layers of a deeper teacher that a student is initialized from."""

    BOTTOM = "bottom"
    TOP = "top"
    UNIFORM = "uniform"


class DimensionSelection(str, Enum):
    """The dimensions, heads and neurons of a wider teacher that a student is initialized from."""

    LEADING = "leading"
    LARGEST = "largest"


def selected_layers(selection: LayerSelection, student_layers: int, teacher_layers: int) -> list[int]:
    """The index of the teacher's layer for each layer of the student; a shallower teacher's layers repeat cyclically."""
    if selection is LayerSelection.TOP:
        return [(teacher_layers - student_layers + index) % teacher_layers for index in range(student_layers)]
    if selection is LayerSelection.UNIFORM and student_layers <= teacher_layers:
        return [index * teacher_layers // student_layers for index in range(student_layers)]
    return [index % teacher_layers for index in range(student_layers)]


def require_truncation(size: tuple[int, int], teacher: PreTrainedModel) -> None:
    """Check that a student can consist of some of its teacher's layers.

    Args:
        size: The student's number of layers and hidden size.
        teacher: The teacher whose layers are to be copied.

    Raises:
        ValueError: The hidden sizes differ, or the student is deeper.
    """
    width, layers = teacher.config.hidden_size, teacher.config.num_hidden_layers
    if size[1] != width or size[0] > layers:
        raise ValueError(
            f"a truncated student keeps the teacher's hidden size ({width}) and at most its {layers} layers, got "
            f"{size[0]}/{size[1]}; use 'width', 'embeddings' or 'random' for it, or none for what fits"
        )


def can_be_narrowed(teacher: PreTrainedModel, hidden_size: int) -> bool:
    """Whether `narrowed` supports the teacher's architecture and this hidden size."""
    config = teacher.config
    own_width = getattr(config, "embedding_size", config.hidden_size)
    needs_projection = own_width != config.hidden_size and own_width == hidden_size
    return config.model_type in SUPPORTED and _keeps_whole_heads(config, hidden_size) and not needs_projection


def _keeps_whole_heads(config: PretrainedConfig, hidden_size: int) -> bool:
    return hidden_size <= config.hidden_size and hidden_size % (config.hidden_size // config.num_attention_heads) == 0


def narrowed(teacher: PreTrainedModel, hidden_size: int, dimensions: DimensionSelection) -> PreTrainedModel:
    """The teacher without some of its dimensions, heads and neurons; the head size is unchanged.

    Args:
        teacher: The model to narrow; it is not modified.
        hidden_size: The number of dimensions to keep; heads and neurons are reduced in proportion.
        dimensions: The rule by which units are selected.

    Returns:
        A new model of the teacher's class.

    Raises:
        ValueError: The architecture is not supported, or the hidden size is not a multiple of the head size.
    """
    config = teacher.config
    head_size = config.hidden_size // config.num_attention_heads
    if not _keeps_whole_heads(config, hidden_size):
        fitting = list(range(head_size, config.hidden_size + 1, head_size))
        raise ValueError(
            f"of a teacher {config.hidden_size} wide with heads of {head_size}, a student can keep {fitting} dimensions, "
            f"got {hidden_size}"
        )
    scores = score(teacher, Criterion.MAGNITUDE)
    scores = scores if dimensions is DimensionSelection.LARGEST else leading(scores)
    neurons = feed_forward_size(config) * hidden_size // config.hidden_size
    return compact(teacher, largest(teacher, scores, hidden_size, hidden_size // head_size, neurons))


def can_give_embeddings(teacher: PreTrainedModel, hidden_size: int) -> bool:
    """Whether `copy_embeddings` can fill the embedding tables of a student of this hidden size."""
    table = teacher.get_input_embeddings()
    if not isinstance(table, nn.Embedding):
        return False
    return table.weight.shape[-1] != teacher.config.hidden_size or hidden_size <= teacher.config.hidden_size


def copy_embeddings(student: PreTrainedModel, teacher: PreTrainedModel) -> None:
    """Copy the teacher's embedding tables; a wider teacher's are projected on their leading principal directions.

    Args:
        student: The model whose embedding tables are overwritten.
        teacher: The model they are copied from; it is not modified.

    Raises:
        ValueError: The student is wider than its teacher, or the models have no token embeddings.
    """
    if not isinstance(teacher.get_input_embeddings(), nn.Embedding):
        raise ValueError(
            f"a {type(teacher).__name__} has no token embeddings; start from 'truncated' or 'width' instead"
        )
    width = _token_embeddings(student).shape[-1]
    tables = _embedding_tables(teacher)
    tokens = _token_embeddings(teacher).detach().float()  # (vocabulary, teacher's width)
    if width > tokens.shape[-1]:
        raise ValueError(f"embeddings of a teacher of hidden size {tokens.shape[-1]} cannot fill a student of {width}")
    directions = None
    if width < tokens.shape[-1]:
        directions = torch.linalg.eigh(tokens.T @ tokens).eigenvectors[:, -width:]  # (teacher's width, student's width)
    with torch.no_grad():
        for name, target in _embedding_tables(student).items():
            source = tables[name].detach().float()
            target.copy_(source if directions is None else source @ directions)


def _token_embeddings(model: PreTrainedModel) -> Tensor:
    """The token embeddings of a model that has them, (vocabulary, width)."""
    return cast(nn.Embedding, model.get_input_embeddings()).weight


def _embedding_tables(model: PreTrainedModel) -> dict[str, Tensor]:
    """The token, position and segment embeddings by parameter name, each (entries, width)."""
    width = _token_embeddings(model).shape[-1]
    return {
        name: parameter
        for name, parameter in model.named_parameters()
        if name.endswith("embeddings.weight") and parameter.shape[-1] == width
    }

"""A student's first weights, taken from its teacher."""

from __future__ import annotations

from enum import Enum

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from hf_distill.pruning.compaction import compact, feed_forward_size
from hf_distill.pruning.importance import Criterion, largest, leading, score
from hf_distill.pruning.structure import SUPPORTED


class KeptLayers(str, Enum):
    """Which of a deeper teacher's layers a student starts from."""

    BOTTOM = "bottom"
    TOP = "top"
    UNIFORM = "uniform"


class Dimensions(str, Enum):
    """Which of a wider teacher's units a student starts from."""

    LEADING = "leading"
    LARGEST = "largest"


def kept_layers_of(kept: KeptLayers, student_layers: int, teacher_layers: int) -> list[int]:
    """The teacher's layer for each layer of the student; where it has fewer, from the first again."""
    if kept is KeptLayers.TOP:
        return [(teacher_layers - student_layers + index) % teacher_layers for index in range(student_layers)]
    if kept is KeptLayers.UNIFORM and student_layers <= teacher_layers:
        return [index * teacher_layers // student_layers for index in range(student_layers)]
    return [index % teacher_layers for index in range(student_layers)]


def require_truncation(size: tuple[int, int], teacher: PreTrainedModel) -> None:
    """Refuse a student, (layers, hidden size), that is not some layers of its teacher.

    Raises:
        ValueError: The widths differ, or the student is deeper.
    """
    width, layers = teacher.config.hidden_size, teacher.config.num_hidden_layers
    if size[1] != width or size[0] > layers:
        raise ValueError(
            f"a truncated student keeps the teacher's hidden size ({width}) and at most its {layers} layers, got "
            f"{size[0]}/{size[1]}; use 'width', 'embeddings' or 'random' for it, or none for what fits"
        )


def can_be_narrowed(teacher: PreTrainedModel, hidden_size: int) -> bool:
    """Whether `narrowed` knows the family and can keep so many dimensions."""
    config = teacher.config
    own_width = getattr(config, "embedding_size", config.hidden_size)
    needs_projection = own_width != config.hidden_size and own_width == hidden_size
    return config.model_type in SUPPORTED and _keeps_whole_heads(config, hidden_size) and not needs_projection


def _keeps_whole_heads(config: PretrainedConfig, hidden_size: int) -> bool:
    return hidden_size <= config.hidden_size and hidden_size % (config.hidden_size // config.num_attention_heads) == 0


def narrowed(teacher: PreTrainedModel, hidden_size: int, dimensions: Dimensions) -> PreTrainedModel:
    """The teacher without some of its dimensions, heads and neurons; heads keep their size.

    Args:
        teacher: Left unchanged.
        hidden_size: Dimensions that stay; heads and neurons in proportion.
        dimensions: Which.

    Raises:
        ValueError: The family is not supported, or the width does not fit.
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
    scores = scores if dimensions is Dimensions.LARGEST else leading(scores)
    neurons = feed_forward_size(config) * hidden_size // config.hidden_size
    return compact(teacher, largest(teacher, scores, hidden_size, hidden_size // head_size, neurons))


def can_give_embeddings(teacher: PreTrainedModel, hidden_size: int) -> bool:
    """Whether `copy_embeddings` can fill the tables of a student of this width."""
    table = teacher.get_input_embeddings()
    if not isinstance(table, nn.Embedding):
        return False
    return table.weight.shape[-1] != teacher.config.hidden_size or hidden_size <= teacher.config.hidden_size


def copy_embeddings(student: PreTrainedModel, teacher: PreTrainedModel) -> None:
    """Fill the embedding tables; those of a wider teacher are written on their leading principal directions.

    Raises:
        ValueError: The student is wider, or the models read no words.
    """
    if not isinstance(teacher.get_input_embeddings(), nn.Embedding):
        raise ValueError(f"a {type(teacher).__name__} has no table of words; start from 'truncated' or 'width' instead")
    width = student.get_input_embeddings().weight.shape[-1]
    tables = _embedding_tables(teacher)
    words = teacher.get_input_embeddings().weight.detach().float()  # (words, teacher's width)
    if width > words.shape[-1]:
        raise ValueError(f"embeddings of a teacher of hidden size {words.shape[-1]} cannot fill a student of {width}")
    directions = None
    if width < words.shape[-1]:
        directions = torch.linalg.eigh(words.T @ words).eigenvectors[:, -width:]  # (teacher's width, student's width)
    with torch.no_grad():
        for name, target in _embedding_tables(student).items():
            source = tables[name].detach().float()
            target.copy_(source if directions is None else source @ directions)


def _embedding_tables(model: PreTrainedModel) -> dict[str, Tensor]:
    """Word, position and segment tables, (entries, width), by name."""
    width = model.get_input_embeddings().weight.shape[-1]
    return {
        name: parameter
        for name, parameter in model.named_parameters()
        if name.endswith("embeddings.weight") and parameter.shape[-1] == width
    }

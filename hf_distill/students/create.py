"""Creation of a student: a stock model of a given size, with random, teacher or pretrained initial weights."""

from __future__ import annotations

import os
from enum import Enum
from typing import Any, cast

import torch
from transformers import BertConfig, PretrainedConfig, PreTrainedModel
from transformers.utils import logging

from hf_distill.distributed.deepspeed import default_deepspeed_to_cpu
from hf_distill.distributed.weights import gathered_copy, unsharded_loading
from hf_distill.pretrained.files import require_floating_weights
from hf_distill.pretrained.loading import config_of, load_as_saved
from hf_distill.pretrained.origin import note_initialization
from hf_distill.pretrained.reports import from_pretrained
from hf_distill.pruning.compaction import feed_forward_size, set_feed_forward_size
from hf_distill.pruning.depth import config_of_layers, copy_layers
from hf_distill.students.initialization import (
    DimensionSelection,
    LayerSelection,
    can_be_narrowed,
    can_give_embeddings,
    copy_embeddings,
    narrowed,
    require_truncation,
    selected_layers,
)
from hf_distill.students.miniatures import HEAD_SIZE, MINIATURES, Miniature, shape_of
from hf_distill.tasks import Task
from hf_distill.text.suggestions import choice, suggestion

logger = logging.get_logger(__name__)


class Initialization(str, Enum):
    """The source of a student's initial weights."""

    RANDOM = "random"
    EMBEDDINGS = "embeddings"
    TRUNCATED = "truncated"
    WIDTH = "width"
    PRETRAINED = "pretrained"


def create_student(
    shape: str,
    teacher: PreTrainedModel | str | os.PathLike | None = None,
    initialization: Initialization | str | None = None,
    *,
    task: Task | str | None = None,
    layers: LayerSelection | str = LayerSelection.BOTTOM,
    dimensions: DimensionSelection | str = DimensionSelection.LEADING,
    pretrained_model_name_or_path: str | None = None,
    **config: Any,
) -> PreTrainedModel:
    """Create a student of a given size with the teacher's architecture, labels and vocabulary, or a miniature BERT.

    Args:
        shape: The name of a miniature (tiny, mini, small, medium, base), or "layers/hidden size" such as "3/384". With
            the teacher's hidden size, heads and feed-forward size are the teacher's. Otherwise heads have 64 dimensions
            ("width": the teacher's head size), and the feed-forward ratio is the default of the architecture.
        teacher: The model that gives configuration, labels and weights; it is not modified. A Hub id or a folder is
            loaded with the head it was saved with. None: the student is a BERT.
        initialization: The source of the initial weights: "random"; "embeddings", the teacher's embedding tables
            (projected on their leading principal directions when the student is narrower); "truncated", layers,
            embeddings and head of a teacher of the same width; "width", the same of a wider teacher, without some of
            its dimensions, heads and neurons; "pretrained", a published miniature, or the checkpoint named. None: the
            first of truncated, width, embeddings and random that fits, which is logged; random without a teacher.
        task: The task of the student's head. None: the teacher's task.
        layers: The teacher's layers that "truncated" and "width" copy: "bottom", "top", or "uniform" (evenly spaced).
        dimensions: The units that "width" keeps: the "leading" ones, or the "largest" by the sum of squared weights.
        pretrained_model_name_or_path: The checkpoint that "pretrained" loads. None: the miniature's Hub id.
        **config: Fields of the configuration, such as `num_labels=3`; they override the teacher's.

    Returns:
        A stock model of transformers in single precision, in training mode.

    Raises:
        ValueError: The shape is invalid, the initialization does not fit it, or the teacher has no head.
        OSError: The teacher cannot be found.

    Source:
        Turc et al. 2019, arXiv 1908.08962, section 4. Projected embeddings and "width" are additions of this library.
    """
    default_deepspeed_to_cpu()  # which transformers imports when a model is saved
    size, dimensions = shape_of(shape), choice(DimensionSelection, dimensions, "dimensions")
    layers = choice(LayerSelection, layers, "layers")
    teacher = None if teacher is None else _model_of(teacher)
    initialization = _chosen(initialization, size, teacher)
    model_class = _model_class(teacher, task)
    if initialization is Initialization.PRETRAINED:
        with unsharded_loading():
            student = _pretrained(model_class, size, teacher, pretrained_model_name_or_path, config)
    elif pretrained_model_name_or_path is not None:
        raise ValueError(f"pretrained_model_name_or_path is for 'pretrained', got {initialization.value!r}")
    elif teacher is not None:
        student = _from_teacher(model_class, size, teacher, initialization, layers, dimensions, config)
    elif initialization is Initialization.RANDOM:
        student = _new(model_class, _updated(BertConfig(**Miniature(*size).sizes), config))
    else:
        raise ValueError(f"initialization {initialization.value!r} needs the weights of a teacher, got None")
    note_initialization(student, initialization.value)
    return student.train()


def _model_of(teacher: PreTrainedModel | str | os.PathLike) -> PreTrainedModel:
    """The teacher as a loaded model with gathered (unsharded) weights."""
    if isinstance(teacher, (str, os.PathLike)):
        return load_as_saved(os.fspath(teacher))
    if getattr(teacher, "config", None) is None:
        raise ValueError(
            f"teacher must be a model of transformers, a Hub id or a folder, got a {type(teacher).__name__}"
        )
    return cast(PreTrainedModel, gathered_copy(teacher))


def _chosen(
    initialization: Initialization | str | None, size: tuple[int, int], teacher: PreTrainedModel | None
) -> Initialization:
    if initialization is not None:
        return choice(Initialization, initialization, "initialization")
    if teacher is None:
        return Initialization.RANDOM
    chosen, reason = fitting_initialization(size, teacher)
    config = teacher.config
    sizes = f"{size[0]}/{size[1]}, from a model of {config.num_hidden_layers}/{config.hidden_size}"
    logger.warning(f"Initial weights of the student ({sizes}): {chosen.value}, because {reason}.")
    return chosen


def fitting_initialization(size: tuple[int, int], teacher: PreTrainedModel) -> tuple[Initialization, str]:
    """Choose the initialization that reuses most of the teacher's weights among those that fit the student.

    Args:
        size: The student's number of layers and hidden size.
        teacher: The teacher.

    Returns:
        The initialization, and the reason in words.
    """
    (layers, width), config = size, teacher.config
    is_shallower = layers <= config.num_hidden_layers
    if is_shallower and width == config.hidden_size:
        return Initialization.TRUNCATED, "it has the same width and no more layers"
    if is_shallower and can_be_narrowed(teacher, width):
        return Initialization.WIDTH, "it is narrower by whole heads, and has no more layers"
    if can_give_embeddings(teacher, width):
        return Initialization.EMBEDDINGS, "the layers do not fit it, the embeddings do"
    return Initialization.RANDOM, "none of the weights fit it"


def _from_teacher(
    model_class: type[Any],
    size: tuple[int, int],
    teacher: PreTrainedModel,
    initialization: Initialization,
    layers: LayerSelection,
    dimensions: DimensionSelection,
    changes: dict[str, Any],
) -> PreTrainedModel:
    kept = selected_layers(layers, size[0], teacher.config.num_hidden_layers)
    if initialization is Initialization.WIDTH:
        teacher = narrowed(teacher, size[1], dimensions)
    student = _new(model_class, _updated(_resized(teacher.config, size, kept), changes))
    if initialization in (Initialization.TRUNCATED, Initialization.WIDTH):
        require_truncation(size, teacher)
        _require_same_vocabulary_size(student, teacher)
        copy_layers(student, teacher, kept)
    elif initialization is Initialization.EMBEDDINGS:
        _require_same_vocabulary_size(student, teacher)
        copy_embeddings(student, teacher)
    return student


def _require_same_vocabulary_size(student: PreTrainedModel, teacher: PreTrainedModel) -> None:
    own, theirs = (getattr(model.config, "vocab_size", None) for model in (student, teacher))
    if own != theirs:
        raise ValueError(
            f"the student's vocab_size is {own}, the teacher's {theirs}, so its embeddings cannot be copied: leave "
            "vocab_size out, start from 'random', or trim the teacher's vocabulary first (hf_distill.pruning.trim_vocabulary)"
        )


def _model_class(teacher: PreTrainedModel | None, task: Task | str | None) -> type[Any]:
    if task is not None:
        return choice(Task, task, "task").auto_class
    if teacher is None:
        raise ValueError(f"without a teacher a student needs a task, one of {[task.value for task in Task]}, got None")
    return type(teacher)


def _new(model_class: type[Any], config: PretrainedConfig) -> PreTrainedModel:
    make = getattr(model_class, "_from_config", None) or model_class.from_config
    with unsharded_loading():
        return make(config, dtype=torch.float32)


def _updated(config: PretrainedConfig, changes: dict[str, Any]) -> PretrainedConfig:
    for name in changes:
        if not hasattr(config, name):
            known = [*config.to_dict(), "num_labels"]
            raise ValueError(f"a {type(config).__name__} has no field {name}{suggestion(name, known)}")
    if changes.get("num_labels", 1) < 1:
        raise ValueError(f"num_labels must be at least 1, got {changes['num_labels']}")
    config.update(changes)
    config._name_or_path = ""
    return config


def _resized(teacher: PretrainedConfig, size: tuple[int, int], kept: list[int]) -> PretrainedConfig:
    """A copy of the teacher's configuration with the layers kept and another hidden size."""
    config, hidden_size = config_of_layers(teacher, kept), size[1]
    if hidden_size == config.hidden_size:
        return config
    if hidden_size % HEAD_SIZE:
        raise ValueError(f"the hidden size of a student must be a multiple of {HEAD_SIZE}, got {hidden_size}")
    family = type(config)()
    ratio = feed_forward_size(family) / family.hidden_size
    for name in ("embedding_size", "pooler_hidden_size"):
        if getattr(config, name, None) == config.hidden_size:
            setattr(config, name, hidden_size)
    if getattr(config, "head_dim", None) is not None:
        config.head_dim = HEAD_SIZE
    config.hidden_size, config.num_attention_heads = hidden_size, hidden_size // HEAD_SIZE
    set_feed_forward_size(config, int(ratio * hidden_size))
    return config


def _pretrained(
    model_class: type[Any],
    size: tuple[int, int],
    teacher: PreTrainedModel | None,
    name: str | None,
    changes: dict[str, Any],
) -> PreTrainedModel:
    shape = f"{size[0]}/{size[1]}"
    if name is None and shape not in MINIATURES:
        raise ValueError(
            f"no checkpoint of size {shape} is published; published are {list(MINIATURES)}; create_student loads another one as "
            "pretrained_model_name_or_path"
        )
    name = MINIATURES[shape].hub_id if name is None else name
    config = config_of(name)
    found = f"{config.num_hidden_layers}/{config.hidden_size}"
    if found != shape:
        raise ValueError(f"the checkpoint {name} is of size {found}, not {shape}")
    saved = str(config.dtype).removeprefix("torch.")
    if saved in ("float16", "bfloat16"):
        logger.warning(
            f"{name} is saved in {saved}; the student is loaded in single precision, so that small updates are not rounded away"
        )
    meaning = ("id2label", "label2id", "problem_type")
    labels = {key: value for key in meaning if (value := getattr(getattr(teacher, "config", None), key, None))}
    config = _updated(config, labels | changes)
    model, _ = from_pretrained(model_class, name, config=config, dtype=torch.float32, trust_remote_code=False)
    require_floating_weights(model, name)
    return model

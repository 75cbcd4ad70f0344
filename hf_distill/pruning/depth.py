"""An encoder with fewer layers."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence

from transformers import PretrainedConfig, PreTrainedModel

from hf_distill.pruning.importance import Scores, require_distinct_scores

_LAYER_INDEX = re.compile(r"(?<=\.layer\.)\d+(?=\.)|(?<=\.layers\.)\d+(?=\.)")


def highest_scoring_layers(scores: Scores, number: int) -> list[int]:
    """The layers whose units together count most, ascending.

    Args:
        scores: As `score` gives them.
        number: How many layers to keep.

    Raises:
        ValueError: There are fewer, or the scores do not tell them apart.
    """
    require_distinct_scores(scores)
    worth: dict[int, float] = {}
    for (_, layer), values in scores.items():
        if layer is not None:
            worth[layer] = worth.get(layer, 0.0) + float(values.sum())
    if not 0 < number <= len(worth):
        raise ValueError(f"1 to {len(worth)} layers can be kept, got {number}")
    return sorted(sorted(worth, key=worth.get, reverse=True)[:number])


def keep_layers(model: PreTrainedModel, kept: Sequence[int]) -> PreTrainedModel:
    """A stock model of some of a model's layers, in the order given.

    Args:
        model: Left unchanged.
        kept: Indices of the layers that stay.

    Returns:
        A new model of the same class, in the same mode and precision.

    Raises:
        ValueError: There is no such layer, or a layer has no place where it would come.
    """
    layers = model.config.num_hidden_layers
    if not kept or not set(kept) <= set(range(layers)) or len(set(kept)) < len(kept):
        raise ValueError(f"layers to keep must be different ones of 0 to {layers - 1}, got {list(kept)}")
    smaller = type(model)._from_config(config_of_layers(model.config, kept), dtype=model.dtype)
    copy_layers(smaller, model, kept)
    return smaller.to(model.device).train(model.training)


def config_of_layers(config: PretrainedConfig, kept: Sequence[int]) -> PretrainedConfig:
    """A copy of a configuration with only the layers that stay."""
    config = copy.deepcopy(config)
    config.num_hidden_layers = len(kept)
    if isinstance(getattr(config, "layer_types", None), list):  # of ModernBERT: which attend locally
        config.layer_types = [config.layer_types[index] for index in kept]
    return config


def copy_layers(smaller: PreTrainedModel, model: PreTrainedModel, kept: Sequence[int]) -> None:
    """Fill a model with the kept layers of a deeper one, in their order, and with all that is no layer.

    Parameters that the deeper one does not have, such as those of another head, keep their values.

    Raises:
        ValueError: A layer has no place in it.
    """
    weights, own = {}, smaller.state_dict()
    for name, weight in model.state_dict().items():
        if index := _LAYER_INDEX.search(name):
            if int(index[0]) not in kept:
                continue
            place = kept.index(int(index[0]))
            name = f"{name[: index.start()]}{place}{name[index.end() :]}"
            if name not in own and _LAYER_INDEX.sub("*", name) in {_LAYER_INDEX.sub("*", each) for each in own}:
                raise ValueError(
                    f"layer {index[0]} has a parameter {name} for which a {type(smaller).__name__} has no place in layer "
                    f"{place}; start from other layers ('bottom' always fits)"
                )
        if name in own and own[name].shape == weight.shape:
            weights[name] = weight
    smaller.load_state_dict(weights, strict=False)

"""Removal of layers from an encoder."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence

from transformers import PretrainedConfig, PreTrainedModel

from hf_distill.pretrained.origin import initialization_of, note_initialization
from hf_distill.pruning.importance import Scores, require_distinct_scores

_LAYER_INDEX = re.compile(r"(?<=\.layer\.)\d+(?=\.)|(?<=\.layers\.)\d+(?=\.)")


def highest_scoring_layers(scores: Scores, number: int) -> list[int]:
    """Select the layers whose units have the highest sums of importance scores.

    Args:
        scores: The importance scores of all units, as returned by `score`.
        number: The number of layers to keep.

    Returns:
        The indices of the layers to keep, ascending.

    Raises:
        ValueError: There are fewer layers, or the scores are not finite or all 0.
    """
    require_distinct_scores(scores)
    totals: dict[int, float] = {}
    for (_, layer), values in scores.items():
        if layer is not None:
            totals[layer] = totals.get(layer, 0.0) + float(values.sum())
    if not 0 < number <= len(totals):
        raise ValueError(f"1 to {len(totals)} layers can be kept, got {number}")
    return sorted(sorted(totals, key=lambda layer: totals[layer], reverse=True)[:number])


def keep_layers(model: PreTrainedModel, kept: Sequence[int]) -> PreTrainedModel:
    """A stock model of some of a model's layers, in the order given.

    Args:
        model: The model to take the layers from; it is not modified.
        kept: The indices of the layers to keep, without repetition.

    Returns:
        A new model of the same class, in the same mode and precision.

    Raises:
        ValueError: There is no such layer, or a layer has parameters that its new position does not have.
    """
    layers = model.config.num_hidden_layers
    if not kept or not set(kept) <= set(range(layers)) or len(set(kept)) < len(kept):
        raise ValueError(f"layers to keep must be different ones of 0 to {layers - 1}, got {list(kept)}")
    smaller = type(model)._from_config(config_of_layers(model.config, kept), dtype=model.dtype)
    copy_layers(smaller, model, kept)
    note_initialization(smaller, initialization_of(model))
    return smaller.to(model.device).train(model.training)


def config_of_layers(config: PretrainedConfig, kept: Sequence[int]) -> PretrainedConfig:
    """A copy of a configuration with only the layers of the given indices."""
    config = copy.deepcopy(config)
    config.num_hidden_layers = len(kept)
    if isinstance(getattr(config, "layer_types", None), list):  # ModernBERT: local or global attention of each layer
        config.layer_types = [config.layer_types[index] for index in kept]
    return config


def copy_layers(smaller: PreTrainedModel, model: PreTrainedModel, kept: Sequence[int]) -> None:
    """Copy some layers of a model, and all parameters outside of layers, into a model with fewer layers.

    Parameters that the source does not have in the same shape, such as those of another head, keep their values.

    Args:
        smaller: The model whose weights are overwritten.
        model: The model to copy from; it is not modified.
        kept: The indices of the layers to copy, one per layer of the smaller model, in order.

    Raises:
        ValueError: A layer has parameters that its new position does not have.
    """
    weights, own = {}, smaller.state_dict()
    for name, weight in model.state_dict().items():
        if index := _LAYER_INDEX.search(name):
            if int(index[0]) not in kept:
                continue
            place = kept.index(int(index[0]))
            name = f"{name[: index.start()]}{place}{name[index.end() :]}"
            if name not in own and any(each.startswith(f"{name[: index.start()]}{place}.") for each in own):
                raise ValueError(
                    f"layer {index[0]} has a parameter {name} for which a {type(smaller).__name__} has no place in layer "
                    f"{place}; start from other layers ('bottom' always fits)"
                )
        if name in own and own[name].shape == weight.shape:
            weights[name] = weight
    smaller.load_state_dict(weights, strict=False)

"""The cost of a model's forward pass, from its configuration and the shapes of its inputs."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from hf_distill.compute.cost import Cost
from hf_distill.compute.flops import FAMILIES, forward_cost, parameter_cost
from hf_distill.objectives.reduction import row_count
from hf_distill.tasks import task_of, unwrapped

logger = logging.getLogger(__name__)


def model_forward_cost(model: nn.Module) -> Cost:
    """The cost of a forward pass, head included; outside of `FAMILIES` an estimate from the number of parameters."""
    model = unwrapped(model)
    if is_known(model):
        return forward_cost(model.config, task_of(model))
    logger.warning(f"FLOPs of {type(model).__name__} are estimated from its parameters; known are {FAMILIES}")
    embeddings = {id(each.weight) for each in model.modules() if isinstance(each, nn.Embedding)}
    return parameter_cost(sum(each.numel() for each in model.parameters() if id(each) not in embeddings))


def is_known(model: nn.Module) -> bool:
    """Whether the model is of one of `FAMILIES`."""
    return getattr(getattr(model, "config", None), "model_type", None) in FAMILIES


def batch_shape(model: nn.Module, inputs: Mapping[str, Any], prefix: str = "") -> tuple[int, int, Tensor | None]:
    """The shape of a batch of model inputs.

    Args:
        model: The model that the inputs are for.
        inputs: Model inputs.
        prefix: The prefix of the names of this model's inputs, such as "teacher_".

    Returns:
        The number of sequences or images, the number of positions of each, and the attention mask, (batch, sequence),
        or None if there is no padding.
    """
    main = inputs.get(prefix + getattr(model, "main_input_name", "input_ids"))
    main = inputs.get(f"{prefix}inputs_embeds") if main is None else main
    if not isinstance(main, Tensor) or main.dim() < 2:
        return row_count(inputs), 1, None
    if main.dim() == 4:
        patch = getattr(getattr(unwrapped(model), "config", None), "patch_size", None)
        return len(main), 1 if not patch else (main.shape[2] // patch) * (main.shape[3] // patch) + 1, None
    mask = inputs.get(f"{prefix}attention_mask")
    return *main.shape[:2], mask if isinstance(mask, Tensor) and mask.dim() == 2 else None

"""Resolves training arguments: fills in recipes and defaults, and refuses impossible values."""

from __future__ import annotations

from enum import Enum
from numbers import Real
from typing import Any

from hf_distill.features.projections import Projection
from hf_distill.objectives.attention import AttentionLoss
from hf_distill.objectives.hidden_states import HiddenStateLoss, HiddenStatePositions
from hf_distill.objectives.logits import SoftLabelLoss
from hf_distill.objectives.ranking import RANKING_LOSSES
from hf_distill.objectives.reduction import SoftLabelPositions
from hf_distill.quantization import Quantization
from hf_distill.recipes import RECIPES, RecipeName
from hf_distill.text.suggestions import choice

WEIGHTS = (
    "soft_label_weight",
    "hard_label_weight",
    "hidden_state_weight",
    "embedding_weight",
    "attention_weight",
    "relation_weight",
    "similarity_weight",
)
# Beyond these, values in single precision lose their digits or overflow: the loss grows with the temperature's square.
_LARGEST_WEIGHT, _TEMPERATURES = 1e30, (1e-3, 1e3)
# What None means in fields that neither the user nor a recipe has set.
DEFAULTS = {
    "temperature": 1.0,
    "hidden_state_weight": 0.0,
    "embedding_weight": 0.0,
    "attention_weight": 0.0,
    "relation_weight": 0.0,
    "similarity_weight": 0.0,
    "hidden_state_loss": HiddenStateLoss.MSE,
    "hidden_state_positions": HiddenStatePositions.ALL,
    "attention_loss": AttentionLoss.SCORE_MSE,
    "layer_map": "uniform",
    "relation_layer_map": "final",
    "relations": "queries,keys,values",
}
_CHOICES: dict[str, type[Enum]] = {
    "recipe": RecipeName,
    "soft_label_loss": SoftLabelLoss,
    "soft_label_positions": SoftLabelPositions,
    "hidden_state_loss": HiddenStateLoss,
    "hidden_state_positions": HiddenStatePositions,
    "attention_loss": AttentionLoss,
    "projection": Projection,
    "quantization": Quantization,
}


def resolve_defaults(args: Any) -> None:
    """Fill fields that are None from the recipe, then with their defaults; convert names to enum members."""
    if args.recipe is not None:
        args.recipe = choice(RecipeName, args.recipe, "recipe")
        for name, value in RECIPES[args.recipe.value].arguments.items():
            if getattr(args, name) is None:
                setattr(args, name, value)
    for name, value in DEFAULTS.items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    for name, choices in _CHOICES.items():
        if getattr(args, name) is not None:
            setattr(args, name, choice(choices, getattr(args, name), name))


def left_open(args: Any) -> list[str]:
    """The names of the fields that are None and that `resolve_defaults` will fill."""
    filled_by_recipes = {name for recipe in RECIPES.values() for name in recipe.arguments}
    return [name for name in sorted({*DEFAULTS, *filled_by_recipes}) if getattr(args, name) is None]


def resolved_weights(args: Any, has_teacher: bool) -> dict[str, float]:
    """The weights of all terms, with None replaced by the default.

    Args:
        args: Training arguments with the fields of `DistillationTrainingArguments`.
        has_teacher: Whether there is a teacher.

    Returns:
        The weights by field name.

    Raises:
        ValueError: A term that needs a teacher has none, or all weights are 0.
    """
    require_valid_objective(args)
    weights = {name: getattr(args, name) for name in WEIGHTS}
    imitates = any(weights[name] for name in WEIGHTS[2:])
    if weights["soft_label_weight"] is None:
        weights["soft_label_weight"] = float(has_teacher)
    if weights["hard_label_weight"] is None:
        weights["hard_label_weight"] = float(not has_teacher and not imitates)
    taught = [name for name in WEIGHTS if name != "hard_label_weight" and weights[name] > 0]
    if taught and not has_teacher:
        raise ValueError(
            f"{taught[0]} is {weights[taught[0]]} but there is no teacher: pass teacher_model, in "
            "scripts --teacher_model_name_or_path (a model, a Hub id or a local path), give the dataset a teacher_logits "
            f"column (`hf-distill label`, label_transfer_set), or set {taught[0]} to 0"
        )
    if not any(weights.values()):
        raise ValueError(
            f"soft_label_weight is {weights['soft_label_weight']} and hard_label_weight {weights['hard_label_weight']}"
            f"{' (its default with a teacher)' if args.hard_label_weight is None else ''}: at least one weight must be "
            "above 0, else there is nothing to learn from"
        )
    return weights


def require_valid_objective(args: Any) -> None:
    """Refuse weights, temperatures and combinations that no objective can be made of.

    Args:
        args: Training arguments with the fields of `DistillationTrainingArguments`.

    Raises:
        ValueError: A value is out of range; names the field, the value and the values allowed.
    """
    weights = {name: getattr(args, name) for name in WEIGHTS}
    for name, weight in weights.items():
        if weight is not None and not (isinstance(weight, Real) and 0 <= float(weight) <= _LARGEST_WEIGHT):
            raise ValueError(
                f"{name} must be a finite number of at least 0 and at most {_LARGEST_WEIGHT:g}, got {weight!r}"
            )
    if all(weight == 0 for weight in weights.values()):
        raise ValueError(f"at least one weight must be above 0, got {weights}: there is nothing to learn from")
    low, high = _TEMPERATURES
    if not (isinstance(args.temperature, Real) and low <= float(args.temperature) <= high):
        raise ValueError(f"temperature must be a number above 0, from {low} to {high}, got {args.temperature!r}")
    for name in ("soft_label_top_k", "relation_heads"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise ValueError(f"{name} must be None or at least 1, got {value}")
    if args.soft_label_top_k is not None and args.soft_label_loss not in (None, SoftLabelLoss.FORWARD_KL):
        raise ValueError(
            f"soft_label_top_k works with forward_kl only, got soft_label_loss {args.soft_label_loss.value}"
        )
    loss = args.soft_label_loss and args.soft_label_loss.value
    if loss in RANKING_LOSSES and args.query_column is None:
        raise ValueError(
            f"soft_label_loss {loss!r} compares the candidates of a query: pass query_column, the column of integers that says "
            "which query a row is of, got None"
        )

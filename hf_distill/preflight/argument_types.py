"""Checks of the types of what a user passes to a trainer."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from typing import Any

import datasets
from torch import nn
from transformers import TrainingArguments

from hf_distill.tasks import class_of, is_class_without_head, task_of, unwrapped


def require_arguments(args: Any, kind: type[TrainingArguments] = TrainingArguments) -> None:
    """Refuse arguments that are no instance of a class.

    Args:
        args: The training arguments.
        kind: The class they must be an instance of.

    Raises:
        ValueError: They are no instance; names the class.
    """
    if not isinstance(args, kind):
        raise ValueError(f"args must be {kind.__name__}, got {_described(args)}")


def require_model(model: Any) -> None:
    """Refuse a student that is no model.

    Args:
        model: The student. None: `model_init` makes it.

    Raises:
        ValueError: The student is neither a model nor None; names what was given.
    """
    if model is not None and not isinstance(model, nn.Module):
        raise ValueError(
            f"model must be the student itself, got {_described(model)}: load it with from_pretrained, or make it with "
            "create_student"
        )


def require_data_sets(named_sets: Mapping[str, Any]) -> None:
    """Refuse data sets that are names, or dicts of splits.

    Args:
        named_sets: The data sets, by name.

    Raises:
        ValueError: A data set is a name or a dict; names the data set and what was given.
    """
    for name, dataset in named_sets.items():
        if isinstance(dataset, str | os.PathLike):
            raise ValueError(f"{name} must be a data set, got {_described(dataset)}: open it with load_dataset")
        if isinstance(dataset, dict):
            raise ValueError(f"{name} must be one data set, got splits by name: pass one of {sorted(dataset)}")


def require_inputs(named_sets: Mapping[str, Any], model: nn.Module, args: TrainingArguments, also: set[str]) -> None:
    """Refuse data sets without any column that the student reads, such as texts that were never tokenized.

    Args:
        named_sets: The data sets, by name; only a `datasets.Dataset` without a transform is checked.
        model: The student.
        args: The training arguments, of which `remove_unused_columns` turns the check on.
        also: Names of columns that do not count: labels, and inputs that the teacher alone reads.

    Raises:
        ValueError: A data set has none of the student's inputs; names the columns it has.
    """
    read = set(inspect.signature(unwrapped(model).forward).parameters) - also - {"label", "label_ids"}
    for name, dataset in named_sets.items() if args.remove_unused_columns else ():
        if not isinstance(dataset, datasets.Dataset) or dataset.format["type"] == "custom":
            continue
        if dataset.column_names and not read & set(dataset.column_names):
            main = getattr(unwrapped(model), "main_input_name", "input_ids")
            raise ValueError(
                f"{name} has the columns {dataset.column_names}, none of which the {class_of(model).__name__} reads: it needs "
                f"{main}. Tokenize the texts, or process the images, before they are given to the trainer."
            )


def require_head(model: nn.Module, role: str) -> None:
    """Refuse a base model without a head, which gives no logits.

    Args:
        model: The model, or its wrapper.
        role: The model's role for the error message, such as "teacher".

    Raises:
        ValueError: The model has no head; names its class.
    """
    name = class_of(model).__name__
    if is_class_without_head(name) and task_of(model) is None:
        raise ValueError(
            f"the {role} is a {name}, which has no head and gives no logits: load it with an AutoModelFor... class, such "
            "as AutoModelForSequenceClassification, or with hf_distill.SentenceEncoder for embeddings"
        )


def require_weights_that_learn(model: nn.Module) -> None:
    """Refuse a student all of whose weights are frozen.

    Args:
        model: The student.

    Raises:
        ValueError: No parameter requires a gradient.
    """
    if not any(each.requires_grad for each in model.parameters()):
        raise ValueError(
            f"no weight of the student ({class_of(model).__name__}) learns, all have requires_grad False: call "
            "student.requires_grad_(True), or freeze less"
        )


def _described(value: Any) -> str:
    if isinstance(value, str | os.PathLike):
        return repr(str(value))
    return f"the class {value.__name__}" if isinstance(value, type) else f"a {type(value).__name__}"

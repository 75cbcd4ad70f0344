"""What a model's head is for, read off its class, and what follows from it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from hf_distill.objectives.logits import MASKED_LOGIT

# What the logits of a classifier of texts or images mean, as `PretrainedConfig.problem_type` says it.
SINGLE_LABEL = "single_label_classification"
MULTI_LABEL = "multi_label_classification"
REGRESSION = "regression"


class Task(str, Enum):
    """The tasks of transformers' heads that a student can have."""

    SEQUENCE_CLASSIFICATION = "sequence_classification"
    TOKEN_CLASSIFICATION = "token_classification"
    QUESTION_ANSWERING = "question_answering"
    MASKED_LM = "masked_lm"
    CAUSAL_LM = "causal_lm"
    IMAGE_CLASSIFICATION = "image_classification"

    @property
    def is_per_token(self) -> bool:
        """Whether the logits speak of positions, so that both models need the same tokens."""
        return not self.has_problem_type

    @property
    def has_problem_type(self) -> bool:
        """Whether heads of this task differ in what their logits mean (`problem_type_of`)."""
        return self in (Task.SEQUENCE_CLASSIFICATION, Task.IMAGE_CLASSIFICATION)

    @property
    def auto_class(self) -> type:
        """The `AutoModelFor...` class that loads such models."""
        return getattr(transformers, _AUTO_CLASSES[self][0])


_AUTO_CLASSES = {
    Task.SEQUENCE_CLASSIFICATION: (
        "AutoModelForSequenceClassification",
        "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES",
    ),
    Task.TOKEN_CLASSIFICATION: ("AutoModelForTokenClassification", "MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES"),
    Task.QUESTION_ANSWERING: ("AutoModelForQuestionAnswering", "MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES"),
    Task.MASKED_LM: ("AutoModelForMaskedLM", "MODEL_FOR_MASKED_LM_MAPPING_NAMES"),
    Task.CAUSAL_LM: ("AutoModelForCausalLM", "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES"),
    Task.IMAGE_CLASSIFICATION: ("AutoModelForImageClassification", "MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES"),
}


def task_of(model: nn.Module) -> Task | None:
    """The task of a model's head; None for a class that is none of transformers'."""
    return task_of_class(class_of(model).__name__)


def task_of_class(class_name: str) -> Task | None:
    """The task of a class of transformers, such as "BertForMaskedLM"; None for others."""
    for task, (_, mapping_name) in _AUTO_CLASSES.items():
        for names in getattr(transformers.models.auto.modeling_auto, mapping_name).values():
            if class_name in ((names,) if isinstance(names, str) else names):
                return task
    return None


def problem_type_of(config: Any, labels: Tensor | None = None) -> str | None:
    """What a classifier's logits mean: `SINGLE_LABEL`, `MULTI_LABEL` or `REGRESSION`.

    Args:
        config: The model's configuration; its `problem_type` decides where it is set, then whether it has one label.
        labels: A batch of labels, where there is one; floats of several columns mean multi-label.

    Returns:
        None where neither tells.
    """
    if getattr(config, "problem_type", None):
        return config.problem_type
    if getattr(config, "num_labels", 2) == 1:
        return REGRESSION
    if labels is None:
        return None
    return MULTI_LABEL if labels.is_floating_point() and labels.dim() > 1 else SINGLE_LABEL


def auto_class_of(model: nn.Module) -> type:
    """The `AutoModelFor...` class whose models include this one.

    Raises:
        ValueError: The model is of a class no supported auto class makes.
    """
    task = task_of(model)
    if task is None:
        raise ValueError(
            f"cannot tell which head a teacher for a {class_of(model).__name__} needs; supported by name are "
            f"the models of {', '.join(name for name, _ in _AUTO_CLASSES.values())}. Pass the teacher as a model "
            "instead."
        )
    return task.auto_class


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside a torch.compile or PEFT wrapper."""
    model = getattr(model, "_orig_mod", model)
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def class_of(model: nn.Module) -> type[nn.Module]:
    """The class of the model inside such a wrapper, whatever FSDP2 has made of it."""
    return next(each for each in type(unwrapped(model)).__mro__ if not issubclass(each, FSDPModule))


def logits_of(output: Mapping[str, Any], valid: Tensor | None) -> Tensor:
    """What a model's output says, as one tensor whose last dimension is a distribution.

    Args:
        output: A model's output.
        valid: The positions that are no padding, bool (batch, sequence); None where all are.

    Returns:
        The logits; for question answering start and end as (batch, 2, sequence), padding all but impossible.

    Raises:
        ValueError: There are none.
    """
    if "start_logits" not in output:
        if "logits" not in output:
            raise ValueError(f"a model without a head answers nothing: its output has {sorted(output)} and no logits")
        return output["logits"]
    logits = torch.stack([output["start_logits"], output["end_logits"]], dim=1)  # (batch, 2, sequence)
    if valid is None:
        return logits
    return logits.masked_fill(~valid[:, None, :], MASKED_LOGIT)

"""What a model's head is for, read off its class, and what follows from it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel

from hf_distill.objectives.logits import RULED_OUT


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
        return self not in (Task.SEQUENCE_CLASSIFICATION, Task.IMAGE_CLASSIFICATION)

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


def config_of(name: str, **options: Any) -> PretrainedConfig:
    """The configuration of a model.

    Args:
        name: A Hub id or a folder.
        options: Of `from_pretrained`, such as `revision`.

    Raises:
        OSError: It is not there.
    """
    try:
        return AutoConfig.from_pretrained(name, **options)
    except OSError as error:
        reason = str(error).partition("\n")[0]
        raise OSError(f"{name} is no folder with a model, nor one on the Hub that can be reached: {reason}") from error


def load_as_saved(name: str, **options: Any) -> PreTrainedModel:
    """A trained model with the head that its configuration names.

    Args:
        name: A Hub id or a folder.
        options: Of `from_pretrained`, such as `revision`.

    Raises:
        ValueError: The configuration names no model of transformers, or weights are missing.
        OSError: It is not there.
    """
    architectures = config_of(name, **options).architectures or []
    if not architectures or not hasattr(transformers, architectures[0]):
        raise ValueError(f"the configuration of {name!r} names no model of transformers, got {architectures}")
    model_class = getattr(transformers, architectures[0])
    model, report = model_class.from_pretrained(name, output_loading_info=True, **options)
    if report["missing_keys"]:
        raise ValueError(f"the teacher {name!r} has no trained weights for {sorted(report['missing_keys'])}")
    return model


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
    """
    if "start_logits" not in output:
        return output["logits"]
    logits = torch.stack([output["start_logits"], output["end_logits"]], dim=1)  # (batch, 2, sequence)
    if valid is None:
        return logits
    return logits.masked_fill(~valid[:, None, :], RULED_OUT)

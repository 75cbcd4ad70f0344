"""The task of a model's head, determined from its class, and the meaning of its logits."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, cast

import torch
import transformers
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from hf_distill.objectives.logits import MASKED_LOGIT
from hf_distill.sentence_encoder import SentenceEncoder

# The values of `PretrainedConfig.problem_type`: the meaning of the logits of a text or image classifier.
SINGLE_LABEL = "single_label_classification"
MULTI_LABEL = "multi_label_classification"
REGRESSION = "regression"
# In its place, for a model whose "logits" are an embedding.
EMBEDDING = "embedding"


class Task(str, Enum):
    """The tasks of the transformers heads that a student can have."""

    SEQUENCE_CLASSIFICATION = "sequence_classification"
    TOKEN_CLASSIFICATION = "token_classification"
    QUESTION_ANSWERING = "question_answering"
    MASKED_LM = "masked_lm"
    CAUSAL_LM = "causal_lm"
    IMAGE_CLASSIFICATION = "image_classification"
    SENTENCE_EMBEDDING = "sentence_embedding"

    @property
    def is_per_token(self) -> bool:
        """Whether the logits are for single positions, so that student and teacher need the same tokens."""
        return not (self.has_problem_type or self is Task.SENTENCE_EMBEDDING)

    @property
    def has_problem_type(self) -> bool:
        """Whether the meaning of the logits depends on the model's problem type (`problem_type_of`)."""
        return self in (Task.SEQUENCE_CLASSIFICATION, Task.IMAGE_CLASSIFICATION)

    @property
    def has_labels(self) -> bool:
        """Whether the head has an output per label, with names that mean something."""
        return self.has_problem_type or self is Task.TOKEN_CLASSIFICATION

    @property
    def auto_class(self) -> type:
        """The `AutoModelFor...` class for models of this task; `SentenceEncoder` for embeddings."""
        if self is Task.SENTENCE_EMBEDDING:
            return SentenceEncoder
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
    """The task of a model's head; None if its class is neither one of transformers nor a sentence encoder."""
    if issubclass(class_of(model), SentenceEncoder):
        return Task.SENTENCE_EMBEDDING
    return task_of_class(class_of(model).__name__)


def task_of_class(class_name: str) -> Task | None:
    """The task of a transformers class, such as "BertForMaskedLM"; None for any other name."""
    for task, (_, mapping_name) in _AUTO_CLASSES.items():
        for names in getattr(transformers.models.auto.modeling_auto, mapping_name).values():
            if class_name in ((names,) if isinstance(names, str) else names):
                return task
    return None


def is_class_without_head(class_name: str) -> bool:
    """Whether a transformers class, such as "BertModel", is one that `AutoModel` loads."""
    names = transformers.models.auto.modeling_auto.MODEL_MAPPING_NAMES.values()
    return any(class_name in ((each,) if isinstance(each, str) else each) for each in names)


def problem_type_of(config: Any, labels: Tensor | None = None) -> str | None:
    """The meaning of a classifier's logits.

    Args:
        config: The model's configuration, whose `problem_type` is used if it is set; a single label means regression.
        labels: A batch of labels; float labels in several columns mean multi-label classification. None: unknown.

    Returns:
        `SINGLE_LABEL`, `MULTI_LABEL` or `REGRESSION`; None if it can be determined from neither.
    """
    if getattr(config, "problem_type", None):
        return config.problem_type
    if getattr(config, "num_labels", 2) == 1:
        return REGRESSION
    if labels is None:
        return None
    return MULTI_LABEL if labels.is_floating_point() and labels.dim() > 1 else SINGLE_LABEL


def auto_class_of(model: nn.Module) -> type:
    """The `AutoModelFor...` class that can load a model's class.

    Args:
        model: A transformers model.

    Returns:
        The auto class.

    Raises:
        ValueError: No supported auto class can load the model's class.
    """
    task = task_of(model)
    if task is None:
        raise ValueError(
            f"cannot tell which head a teacher for a {class_of(model).__name__} needs; supported by name are "
            f"the models of {', '.join([*(name for name, _ in _AUTO_CLASSES.values()), 'SentenceEncoder'])}. Pass the teacher "
            "as a model instead."
        )
    return task.auto_class


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside a torch.compile or PEFT wrapper."""
    inner: Any = getattr(model, "_orig_mod", model)
    return inner.get_base_model() if hasattr(inner, "get_base_model") else inner


def class_of(model: nn.Module) -> type[nn.Module]:
    """The class of the model inside a torch.compile or PEFT wrapper, without the subclass that FSDP2 makes of it."""
    own_class = next(each for each in type(unwrapped(model)).__mro__ if not issubclass(each, FSDPModule))
    return cast("type[nn.Module]", own_class)


def logits_of(output: Mapping[str, Any], valid: Tensor | None) -> Tensor:
    """The logits of a model's output, as one tensor.

    Args:
        output: A model's output.
        valid: True at positions that are not padding, bool (batch, sequence). None: there is no padding.

    Returns:
        The logits, with one distribution over the last dimension; for question answering those of start and end,
        (batch, 2, sequence), with `MASKED_LOGIT` at padding.

    Raises:
        ValueError: The output has no logits.
    """
    if "start_logits" not in output:
        if "logits" not in output:
            raise ValueError(f"a model without a head gives no logits: its output has {sorted(output)}")
        return output["logits"]
    logits = torch.stack([output["start_logits"], output["end_logits"]], dim=1)  # (batch, 2, sequence)
    if valid is None:
        return logits
    return logits.masked_fill(~valid[:, None, :], MASKED_LOGIT)

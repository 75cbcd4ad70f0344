"""How the example scripts name models: the one to train, from weights or at random, and its teacher."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from transformers import (
    CONFIG_MAPPING,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.hf_argparser import HfArg

from hf_distill.pretrained.files import load_tokenizer
from hf_distill.pretrained.loading import SavedModel, config_of
from hf_distill.text.suggestions import suggestion
from hf_distill.trainers.distillation_arguments import DistillationTrainingArguments

logger = transformers.logging.get_logger("transformers.examples")


@dataclass
class TeacherArguments:
    """Where models are fetched from, and which teaches."""

    teacher_model_name_or_path: str | None = HfArg(default=None, help="A model trained on the task. None: no teacher.")
    cache_dir: str | None = HfArg(default=None, help="Where downloads are kept. None: the libraries' own caches.")
    model_revision: str = HfArg(default="main", help="Branch, tag or commit of the model.")
    token: str | None = HfArg(default=None, help="Access token of the Hub, for the model and the teacher.")
    trust_remote_code: bool = HfArg(default=False, help="Run code that comes with the model. Read it first.")

    @property
    def source(self) -> dict[str, str | None]:
        """What every download takes."""
        return {"cache_dir": self.cache_dir, "token": self.token}

    @property
    def hub(self) -> dict[str, Any]:
        """What `from_pretrained` takes for the model, its configuration and its tokenizer."""
        return self.source | {"revision": self.model_revision, "trust_remote_code": self.trust_remote_code}


@dataclass
class FineTuningArguments(TeacherArguments):
    """A model that has weights."""

    model_name_or_path: str | None = HfArg(default=None, help="The model to train: a Hub id or a local path.")
    config_name: str | None = HfArg(default=None, help="Hub id or path of the configuration. None: the model's.")
    tokenizer_name: str | None = HfArg(default=None, help="Hub id or path of the tokenizer. None: the model's.")
    ignore_mismatched_sizes: bool = HfArg(default=False, help="Replace weights of other shapes, such as another head.")

    def __post_init__(self) -> None:
        if not self.model_name_or_path:
            raise ValueError("model_name_or_path must be a Hub id or a local path, got none")

    def config(self) -> PretrainedConfig:
        """Of the model to train."""
        return config_of(self.config_name or self.model_name_or_path, **self.hub)


@dataclass
class AnyModelArguments(TeacherArguments):
    """A model that has weights, or one that starts at random."""

    model_name_or_path: str | None = HfArg(default=None, help="Weights to start from: Hub id or path. None: random.")
    model_type: str | None = HfArg(default=None, help="Architecture of a model with random weights: bert, vit, ...")
    config_name: str | None = HfArg(default=None, help="Hub id or path of the configuration. None: the model's.")
    config_overrides: str | None = HfArg(
        default=None, help="Changes to that of --model_type, such as hidden_size=256,num_hidden_layers=4."
    )

    def __post_init__(self) -> None:
        if not (self.model_name_or_path or self.model_type or self.config_name):
            raise ValueError("the model must come from model_name_or_path, model_type or config_name, got none of them")
        if self.model_type and self.model_type not in CONFIG_MAPPING:
            raise ValueError(
                f"model_type must be an architecture of transformers, got {self.model_type!r}"
                f"{suggestion(self.model_type, CONFIG_MAPPING.keys())}"
            )
        if self.config_overrides and (self.config_name or self.model_name_or_path or not self.model_type):
            raise ValueError("config_overrides changes the configuration of model_type only, not a given one")

    def config(self, **defaults: Any) -> PretrainedConfig:
        """Of the model to train; the defaults are for one of `model_type`, and the overrides win over them."""
        if self.config_name or self.model_name_or_path:
            return config_of(self.config_name or self.model_name_or_path, **self.hub)
        config = CONFIG_MAPPING[self.model_type](**defaults)
        if self.config_overrides:
            config.update_from_string(self.config_overrides)
        return config


def teacher_options(args: DistillationTrainingArguments) -> dict[str, Any]:
    """What `from_pretrained` takes for the teacher's configuration and tokenizer."""
    return {"revision": args.teacher_revision, "trust_remote_code": False} | (args.teacher_model_init_kwargs or {})


def config_of_teacher(teacher: str | None, args: DistillationTrainingArguments) -> PretrainedConfig | None:
    """The teacher's configuration, of an adapter its base's with the adapter's number of labels; None without a teacher."""
    return None if teacher is None else SavedModel.find(teacher, **teacher_options(args)).config


def tokenizer_of_teacher(teacher: str, args: DistillationTrainingArguments) -> PreTrainedTokenizerBase:
    """The tokenizer saved with the teacher, or with the base of an adapter."""
    return SavedModel.find(teacher, **teacher_options(args)).needed_tokenizer()


def load_student(auto_class: type, name: str, config: PretrainedConfig, dtype: Any = None, **kwargs: Any) -> Any:
    """The model to train, with its weights; those saved in half precision become single precision, unless told otherwise.

    Args:
        auto_class: Has `from_pretrained`.
        name: Hub id or path.
        config: As it was saved.
        dtype: For the weights. None: float32.
        kwargs: Further arguments of `from_pretrained`.
    """
    saved = str(config.dtype).removeprefix("torch.")
    if dtype is None and saved in ("float16", "bfloat16"):
        logger.warning(
            f"{name} is saved in {saved} and is trained in float32, because small updates are lost in half precision; "
            "--bf16 and --fp16 compute in half precision beside float32 weights"
        )
    return auto_class.from_pretrained(name, config=config, dtype=dtype or torch.float32, **kwargs)


def token_type_ids_for_teacher(
    model: PreTrainedModel, teacher: str | None, args: DistillationTrainingArguments
) -> bool | None:
    """What `return_token_type_ids` must be for a teacher that tells two texts apart by them, though the model does not.

    A tokenizer leaves out what its own model does not read, such as DistilBERT's; BERT then takes both texts for one.

    Returns:
        True, or None for the tokenizer's own choice.
    """
    if teacher is None or "token_type_ids" in inspect.signature(model.forward).parameters:
        return None
    options = teacher_options(args)
    tokenizer = load_tokenizer(teacher, **options) or SavedModel.find(teacher, **options).tokenizer()
    return (tokenizer is not None and "token_type_ids" in tokenizer.model_input_names) or None

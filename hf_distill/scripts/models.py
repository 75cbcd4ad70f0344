"""Arguments that name the model to train and its teacher, and functions that load what they name."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import transformers
from datasets import Dataset
from transformers import (
    CONFIG_MAPPING,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from hf_distill.pretrained.files import load_tokenizer
from hf_distill.pretrained.loading import SavedModel, config_of
from hf_distill.pretrained.reports import from_pretrained
from hf_distill.text.suggestions import suggestion
from hf_distill.trainers.distillation_arguments import DistillationTrainingArguments

logger = transformers.logging.get_logger("transformers.examples")


@dataclass
class TeacherArguments:
    """Where models are loaded from, and the teacher."""

    teacher_model_name_or_path: str | None = field(
        default=None, metadata={"help": "A model trained on the task. None: no teacher."}
    )
    cache_dir: str | None = field(
        default=None, metadata={"help": "Where downloads are kept. None: the libraries' own caches."}
    )
    model_revision: str = field(default="main", metadata={"help": "Branch, tag or commit of the model."})
    token: str | None = field(
        default=None, metadata={"help": "Access token of the Hub, for the model and the teacher."}
    )
    trust_remote_code: bool = field(
        default=False, metadata={"help": "Run code that comes with the model. Read it first."}
    )

    @property
    def source(self) -> dict[str, str | None]:
        """Keyword arguments of `from_pretrained` that hold for every model."""
        return {"cache_dir": self.cache_dir, "token": self.token}

    @property
    def hub(self) -> dict[str, Any]:
        """Keyword arguments of `from_pretrained` for the model to train, its configuration and its tokenizer."""
        return self.source | {"revision": self.model_revision, "trust_remote_code": self.trust_remote_code}


@dataclass
class FineTuningArguments(TeacherArguments):
    """A model that starts from trained weights."""

    model_name_or_path: str | None = field(
        default=None, metadata={"help": "The model to train: a Hub id or a local path."}
    )
    config_name: str | None = field(
        default=None, metadata={"help": "Hub id or path of the configuration. None: the model's."}
    )
    tokenizer_name: str | None = field(
        default=None, metadata={"help": "Hub id or path of the tokenizer. None: the model's."}
    )
    ignore_mismatched_sizes: bool = field(
        default=False, metadata={"help": "Replace weights of other shapes, such as another head."}
    )

    def __post_init__(self) -> None:
        if not self.model_name_or_path:
            raise ValueError("model_name_or_path must be a Hub id or a local path, got none")

    def config(self) -> PretrainedConfig:
        """The configuration of the model to train."""
        name = self.config_name or self.model_name_or_path
        assert name is not None  # __post_init__ refuses it
        return config_of(name, **self.hub)


@dataclass
class AnyModelArguments(TeacherArguments):
    """A model that starts from trained weights or at random."""

    model_name_or_path: str | None = field(
        default=None, metadata={"help": "Weights to start from: Hub id or path. None: random."}
    )
    model_type: str | None = field(
        default=None, metadata={"help": "Architecture of a model with random weights: bert, vit, ..."}
    )
    config_name: str | None = field(
        default=None, metadata={"help": "Hub id or path of the configuration. None: the model's."}
    )
    config_overrides: str | None = field(
        default=None, metadata={"help": "Changes to that of --model_type, such as hidden_size=256,num_hidden_layers=4."}
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
        """The configuration of the model to train.

        Args:
            **defaults: Values of a new configuration of `model_type`, which `config_overrides` replaces.

        Returns:
            The configuration.
        """
        if name := self.config_name or self.model_name_or_path:
            return config_of(name, **self.hub)
        assert self.model_type is not None  # __post_init__ refuses it
        config = CONFIG_MAPPING[self.model_type](**defaults)
        if self.config_overrides:
            config.update_from_string(self.config_overrides)
        return config


def teacher_options(args: DistillationTrainingArguments) -> dict[str, Any]:
    """Keyword arguments of `from_pretrained` for the teacher's configuration and tokenizer."""
    return {"revision": args.teacher_revision, "trust_remote_code": False} | teacher_init_kwargs(args)


def teacher_init_kwargs(args: DistillationTrainingArguments) -> dict[str, Any]:
    """The arguments' `teacher_model_init_kwargs`, empty where none are given."""
    kwargs = args.teacher_model_init_kwargs or {}
    assert not isinstance(kwargs, str)  # TrainingArguments parses JSON when it is made
    return kwargs


def config_of_teacher(teacher: str | None, args: DistillationTrainingArguments) -> PretrainedConfig | None:
    """The teacher's configuration; of an adapter, its base's with the adapter's number of labels; None without a teacher."""
    return None if teacher is None else SavedModel.find(teacher, **teacher_options(args)).config


def tokenizer_of_teacher(teacher: str, args: DistillationTrainingArguments) -> PreTrainedTokenizerBase:
    """The tokenizer saved with the teacher, or with the base of an adapter."""
    return SavedModel.find(teacher, **teacher_options(args)).needed_tokenizer()


def load_student(auto_class: Any, name: str, config: PretrainedConfig, dtype: Any = None, **kwargs: Any) -> Any:
    """Load the model to train; weights saved in half precision become single precision unless a precision is given.

    Args:
        auto_class: A class with `from_pretrained`.
        name: A folder, or an id on the Hub.
        config: The model's configuration.
        dtype: The precision of the weights. None: float32.
        **kwargs: Further keyword arguments of `from_pretrained`.

    Returns:
        The model.
    """
    saved = str(config.dtype).removeprefix("torch.")
    if dtype is None and saved in ("float16", "bfloat16"):
        logger.warning(
            f"{name} is saved in {saved} and is trained in float32, because small updates are lost in half precision; "
            "--bf16 and --fp16 compute in half precision beside float32 weights"
        )
    return from_pretrained(auto_class, name, config=config, dtype=dtype or torch.float32, **kwargs)[0]


def token_type_ids_for_teacher(
    model: PreTrainedModel, teacher: str | None, args: DistillationTrainingArguments
) -> bool | None:
    """Whether the tokenizer must return `token_type_ids` for a teacher that reads them, though the model does not.

    A tokenizer leaves out inputs that its own model does not read, such as DistilBERT's; a BERT teacher then takes both
    texts of a pair for one.

    Args:
        model: The model to train.
        teacher: The teacher's folder, or its id on the Hub. None: there is none.
        args: The training arguments, which say how the teacher is loaded.

    Returns:
        The value for `return_token_type_ids`: True, or None for the tokenizer's default.
    """
    if teacher is None or "token_type_ids" in inspect.signature(model.forward).parameters:
        return None
    options = teacher_options(args)
    tokenizer = load_tokenizer(teacher, **options) or SavedModel.find(teacher, **options).tokenizer()
    return (tokenizer is not None and "token_type_ids" in tokenizer.model_input_names) or None


def require_training_labels(
    args: DistillationTrainingArguments,
    teacher: str | None,
    splits: Mapping[str, Dataset],
    column: str | None,
    advice: str,
) -> None:
    """Refuse a training on labels alone whose rows have none, before models are loaded.

    Args:
        args: The training arguments, which say whether there is a training, and of which some name the teachers of a training in stages.
        teacher: The teacher's folder, or its id on the Hub. None: there is none.
        splits: The rows by split, train among them if there is a training.
        column: The column of labels. None: none was found.
        advice: The end of the message, which says where labels are read from.

    Raises:
        ValueError: There is no teacher, and no such column; the message names the columns.
    """
    has_teacher = teacher is not None or bool(getattr(args, "teacher_checkpoints", None))
    if not args.do_train or has_teacher:
        return
    names = splits["train"].column_names
    if column not in names:
        raise ValueError(f"training without a teacher needs labels, got only the columns {names}: {advice}")

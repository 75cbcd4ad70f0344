"""Loading of a trained model by name: a full model, or a PEFT adapter merged into the base model it names."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import transformers
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, WEIGHTS_INDEX_NAME, WEIGHTS_NAME
from transformers.utils.peft_utils import find_adapter_config_file

from hf_distill.extras import require_extra
from hf_distill.files import read_json
from hf_distill.files.sentence_transformers import saved_pooling
from hf_distill.pretrained.files import SOURCE_KWARGS, load_tokenizer, require_floating_weights
from hf_distill.pretrained.reports import from_pretrained
from hf_distill.sentence_encoder import POOLING
from hf_distill.tasks import Task, is_class_without_head, task_of_class

_ADAPTER_ONLY_KWARGS = {"revision", "subfolder"}
_TASKS = {
    "SEQ_CLS": Task.SEQUENCE_CLASSIFICATION,
    "TOKEN_CLS": Task.TOKEN_CLASSIFICATION,
    "QUESTION_ANS": Task.QUESTION_ANSWERING,
    "CAUSAL_LM": Task.CAUSAL_LM,
}
_CLASSES_OF_HEAD = re.compile(r"(^|\.)(classifier|score|out_proj|qa_outputs)\.weight$")


@dataclass(frozen=True)
class SavedModel:
    """A saved model whose weights are not loaded yet.

    Attributes:
        name: The folder, or the Hub id, of the model or adapter.
        source: The arguments of `from_pretrained` in `SOURCE_KWARGS` that were given.
        config: The model's configuration; for an adapter the base model's, with the adapter's number of labels.
        adapter: The content of `adapter_config.json`; None for a full model.
    """

    name: str
    source: dict[str, Any]
    config: PretrainedConfig
    adapter: dict[str, Any] | None = None

    @classmethod
    def find(cls, name: str, **kwargs: Any) -> SavedModel:
        """Read the configuration of a saved model.

        Args:
            name: A folder, or a Hub id.
            **kwargs: Arguments of `from_pretrained`; those outside `SOURCE_KWARGS` are ignored.

        Returns:
            The model's description, without weights.

        Raises:
            OSError: The model cannot be found.
            ValueError: The folder holds no model, or an adapter that names no base model or cannot be read.
            ImportError: The folder holds an adapter, and peft is not installed.
        """
        source = {"trust_remote_code": False} | {key: kwargs[key] for key in SOURCE_KWARGS & kwargs.keys()}
        path = _found(name, lambda: find_adapter_config_file(name, **_for_peft(source)))
        if path is None or _has_all_weights(name):
            return cls(name, source, _found(name, lambda: AutoConfig.from_pretrained(name, **source)))
        adapter = read_json(path)
        if not adapter.get("base_model_name_or_path"):
            raise ValueError(f"{name} holds a PEFT adapter whose adapter_config.json names no base_model_name_or_path")
        try:
            config = AutoConfig.from_pretrained(name, **source)  # some adapters are saved with one
        except (OSError, ValueError):
            config = _config_of_base(name, adapter, source)
        return cls(name, source, config, adapter)

    @property
    def task(self) -> Task | None:
        """The task of the model's head; None if it is not in `Task`."""
        architecture = next(iter(self.config.architectures or ()), "")
        if self.adapter is None:
            return task_of_class(architecture) or self._embedding_task(architecture)
        mapped = (self.adapter.get("auto_mapping") or {}).get("base_model_class", "")
        return _TASKS.get(self.adapter.get("task_type", "")) or task_of_class(mapped) or task_of_class(architecture)

    def _embedding_task(self, architecture: str) -> Task | None:
        """The task of a sentence encoder, or a model of sentence-transformers, whose class has no head."""
        if not is_class_without_head(architecture):
            return None
        is_encoder = getattr(self.config, POOLING, None) is not None or saved_pooling(self.name, **self.source)
        return Task.SENTENCE_EMBEDDING if is_encoder else None

    def load(self, model_class: type[Any], **kwargs: Any) -> tuple[PreTrainedModel, list[str]]:
        """Load the model; an adapter, and the head trained with it, are merged into the base model.

        Args:
            model_class: A class with `from_pretrained`, such as `AutoModelForSequenceClassification`.
            **kwargs: Arguments of `from_pretrained`, such as `dtype`; they override those in `source`.

        Returns:
            The model, and the sorted names of the weights that are in no file and so were initialized at random.

        Raises:
            ValueError: Weights are not floating-point numbers, or the adapter does not fit its base or cannot be merged.
        """
        kwargs = self.source | kwargs
        if self.adapter is None:
            model, report = from_pretrained(model_class, self.name, **kwargs)
            require_floating_weights(model, self.name, **self.source)
            return model, sorted(report["missing_keys"])
        from peft import PeftModel

        base, of_base = self.adapter["base_model_name_or_path"], _of_base(self.adapter, kwargs)
        labels = {"id2label": self.config.id2label, "label2id": self.config.label2id}
        model, report = from_pretrained(model_class, base, **labels | of_base)
        require_floating_weights(model, base, **of_base)
        try:
            adapted = PeftModel.from_pretrained(model, self.name, **_for_peft(self.source))
        except RuntimeError as error:
            raise ValueError(f"the PEFT adapter {self.name} does not fit its base {base}: {error}") from error
        if not hasattr(adapted.base_model, "merge_and_unload"):
            kind = self.adapter.get("peft_type")
            raise ValueError(f"{self.name} must hold an adapter that can be merged, such as LoRA, got {kind}")
        model = adapted.merge_and_unload()
        model.config._name_or_path = self.name
        trained = {_name_in_base(key) for key in _weights(self.name, self.source)}
        return model, sorted(key for key in report["missing_keys"] if key not in trained)

    def tokenizer(self, **settings: Any) -> PreTrainedTokenizerBase | None:
        """Load the tokenizer saved with the model, or else with the adapter's base model.

        Args:
            **settings: Arguments of the tokenizer's `from_pretrained`, such as `use_fast`.

        Returns:
            The tokenizer; None if none was saved.

        Raises:
            ValueError: The tokenizer exists and cannot be read.
        """
        found = load_tokenizer(self.name, **self.source, **settings)
        if found is not None or self.adapter is None:
            return found
        base = self.adapter["base_model_name_or_path"]
        return load_tokenizer(base, **_of_base(self.adapter, self.source), **settings)

    def needed_tokenizer(self) -> PreTrainedTokenizerBase:
        """Load the tokenizer like `tokenizer`, and raise if there is none.

        Returns:
            The tokenizer.

        Raises:
            OSError: No tokenizer was saved with the model.
            ValueError: The tokenizer cannot be read.
        """
        found = self.tokenizer()
        if found is None:
            raise OSError(f"{self.name} was saved without a tokenizer: save one into the same folder (save_pretrained)")
        return found


def config_of(name: str, **options: Any) -> PretrainedConfig:
    """Load the configuration of a full model.

    Args:
        name: A Hub id or a folder.
        **options: Arguments of `from_pretrained`, such as `revision`.

    Returns:
        The configuration.

    Raises:
        OSError: The model cannot be found.
    """
    return _found(name, lambda: AutoConfig.from_pretrained(name, **({"trust_remote_code": False} | options)))


def load_as_saved(name: str, **options: Any) -> PreTrainedModel:
    """Load a trained model with the head that its configuration, or its adapter, names.

    Args:
        name: A Hub id or a folder.
        **options: Arguments of `from_pretrained`, such as `revision`.

    Returns:
        The model.

    Raises:
        ValueError: The configuration names no model class of transformers, or weights are missing.
        OSError: The model cannot be found.
    """
    saved = SavedModel.find(name, **options)
    architectures = saved.config.architectures or []
    if saved.task is not None and (saved.adapter is not None or saved.task is Task.SENTENCE_EMBEDDING):
        model_class = saved.task.auto_class
    elif architectures and hasattr(transformers, architectures[0]):
        model_class = getattr(transformers, architectures[0])
    else:
        raise ValueError(f"the configuration of {name!r} names no model of transformers, got {architectures}")
    model, missing = saved.load(model_class, **options)
    if missing:
        raise ValueError(f"the teacher {name!r} has no trained weights for {missing}")
    return model


def _found(name: str, load: Callable[[], Any]) -> Any:
    """The result of a call of transformers or peft, with a shorter message if the model cannot be found."""
    try:
        return load()
    except OSError as error:
        reason = str(error).partition("\n")[0]
        raise OSError(f"{name} is no folder with a model, nor one on the Hub that can be reached: {reason}") from error


def _has_all_weights(name: str) -> bool:
    files = (SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME, WEIGHTS_NAME, WEIGHTS_INDEX_NAME)
    return any(Path(name, file).is_file() for file in files)


def _config_of_base(name: str, adapter: dict[str, Any], source: dict[str, Any]) -> PretrainedConfig:
    base = adapter["base_model_name_or_path"]
    try:
        config = AutoConfig.from_pretrained(base, **_of_base(adapter, source))
    except (OSError, ValueError) as error:
        raise OSError(f"{name} holds a PEFT adapter of {base}, which cannot be loaded: {error}") from error
    weights = _weights(name, source)
    heads = [weights[key].shape[0] for key in sorted(weights) if _CLASSES_OF_HEAD.search(key) and "lora_" not in key]
    if (
        heads
        and _TASKS.get(adapter.get("task_type", "")) is not Task.QUESTION_ANSWERING
        and heads[-1] != config.num_labels
    ):
        config.num_labels = heads[-1]
    return config


def _weights(name: str, source: dict[str, Any]) -> dict[str, Any]:
    require_extra("peft", "peft", f"the PEFT adapter {name}")
    from peft import load_peft_weights

    return load_peft_weights(name, device="cpu", **_for_peft(source))


def _for_peft(source: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in source.items() if key != "trust_remote_code" and value is not None}


def _of_base(adapter: dict[str, Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `from_pretrained` for the adapter's base model, derived from those for the adapter."""
    rest = {key: value for key, value in kwargs.items() if key not in _ADAPTER_ONLY_KWARGS}
    return rest | ({"revision": adapter["revision"]} if adapter.get("revision") else {})


def _name_in_base(key: str) -> str:
    return key.removeprefix("base_model.model.").replace(".modules_to_save", "")

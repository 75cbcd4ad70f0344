"""Sentence encoders: stock models without a head that give one embedding per text, and their folders.

A sentence encoder is an instance of a subclass of a stock model, such as BertModel, with the same weights. Its folder is
that of the stock model with the files of sentence-transformers beside it, so that AutoModel and sentence-transformers
load it.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from functools import cache, wraps
from pathlib import Path
from typing import Any

from torch.nn.functional import normalize
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.models.auto.auto_factory import _get_model_class
from transformers.models.auto.modeling_auto import MODEL_MAPPING

from hf_distill.files.sentence_transformers import saved_pooling, saved_prompts, write_modules
from hf_distill.objectives.embeddings import Pooling, pooled
from hf_distill.text.suggestions import choice

# Fields of the configuration.
POOLING, NORMALIZE = "sentence_pooling", "sentence_normalize"
PROMPTS, DEFAULT_PROMPT = "sentence_prompts", "sentence_default_prompt"
_SOURCE = {"cache_dir", "force_download", "local_files_only", "revision", "subfolder", "token", "trust_remote_code"}
_CHANGES = {"id2label", "label2id", "num_labels"}
_QUERY, _DOCUMENT = (
    ("query",),
    ("document", "passage", "corpus"),
)  # the names that encode_query and encode_document look for


class SentenceEncoder:
    """A model that gives one embedding per text: its output's `logits`, (batch, hidden).

    `from_pretrained`, `from_config` and `from_model` make one of any stock encoder or decoder of texts; the result is an
    instance of both classes, such as SentenceEncoder and BertModel, with the weights of the latter, without its pooler.
    How hidden states are pooled is in its configuration, as `sentence_pooling` and `sentence_normalize`; what texts begin
    with, as `sentence_prompts` by name and `sentence_default_prompt`, the name of one of them or None.
    """

    config: Any

    @classmethod
    def from_pretrained(
        cls,
        name: str | os.PathLike,
        *,
        pooling: Pooling | str | None = None,
        normalize: bool | None = None,
        prompts: Mapping[str, str] | None = None,
        default_prompt: str | None = None,
        config: PretrainedConfig | None = None,
        **kwargs: Any,
    ) -> Any:
        """Load a sentence encoder.

        Args:
            name: A folder or Hub id of a sentence encoder, of a model of sentence-transformers, or of any encoder, whose head
                is left out.
            pooling: "mean", "cls" (the first token) or "last" (the last token). None: as saved with the model.
            normalize: Whether embeddings have length 1. None: as saved with the model, else they have.
            prompts: What texts begin with, by name, such as {"query": "query: ", "document": "passage: "}. None: as saved
                with the model.
            default_prompt: The name of the prompt of texts that are neither queries nor documents. None: as saved with the
                model, or, where prompts are given, no prompt.
            config: The configuration. None: the saved one.
            **kwargs: Further arguments of `from_pretrained`, such as `dtype` and `revision`.

        Returns:
            The model; with `output_loading_info=True` the pair of model and loading information.

        Raises:
            ValueError: No pooling was given or saved, the default prompt is none of the prompts, or the model is one of
                sentence-transformers with other parts than a transformer, pooling and normalization, or that leaves prompts
                out of pooling.
        """
        source = {key: kwargs[key] for key in _SOURCE & kwargs.keys()}
        changes = {key: kwargs.pop(key) for key in _CHANGES & kwargs.keys()}
        if config is None:
            config = AutoConfig.from_pretrained(name, **source, **changes)
        if getattr(config, POOLING, None) is None and (saved := saved_pooling(name, pooling, **source)) is not None:
            _set(config, *saved)
        _set(config, pooling, normalize)
        if not hasattr(config, PROMPTS):
            set_prompts(config, *saved_prompts(name, **source))
        set_prompts(config, prompts, default_prompt)
        if getattr(config, POOLING, None) is None:
            raise ValueError(
                f"{name} does not say how its hidden states are pooled: pass pooling, one of {[each.value for each in Pooling]}"
            )
        load: Callable = PreTrainedModel.from_pretrained.__func__  # type: ignore[attr-defined]  # not this method again
        return load(_class_for(config), name, config=config, **kwargs)

    @classmethod
    def from_config(cls, config: PretrainedConfig, **kwargs: Any) -> Any:
        """A sentence encoder with random weights, which takes the mean unless the configuration says otherwise."""
        if getattr(config, POOLING, None) is None:
            _set(config, Pooling.MEAN, None)
        return _class_for(config)._from_config(config, **kwargs)

    @classmethod
    def from_model(
        cls,
        model: PreTrainedModel,
        pooling: Pooling | str = "mean",
        normalize: bool = True,
        prompts: Mapping[str, str] | None = None,
        default_prompt: str | None = None,
    ) -> Any:
        """A sentence encoder with a copy of the weights of a model, whose head is left out.

        Args:
            model: A model with or without a head.
            pooling: "mean", "cls" or "last".
            normalize: Whether embeddings have length 1.
            prompts: What texts begin with, by name. None: the model's.
            default_prompt: The name of the prompt of texts that are neither queries nor documents. None: the model's, or,
                where prompts are given, no prompt.

        Returns:
            The sentence encoder, on the device and in the precision and mode of the model.

        Raises:
            ValueError: The pooling is none of the three, or the default prompt none of the prompts.
        """
        base: Any = model.base_model
        stock: Any = type(base)
        config = type(base.config).from_dict(base.config.to_dict())
        _set(config, pooling, normalize)
        set_prompts(config, prompts, default_prompt)
        encoder = encoder_class(stock)._from_config(config, dtype=base.dtype)
        own = encoder.state_dict()
        encoder.load_state_dict({name: tensor for name, tensor in base.state_dict().items() if name in own})
        return encoder.to(base.device).train(model.training)

    def save_pretrained(self, save_directory: str | os.PathLike, is_main_process: bool = True, **kwargs: Any) -> None:
        """Save the stock model, and the files with which sentence-transformers loads the folder."""
        super().save_pretrained(save_directory, is_main_process=is_main_process, **kwargs)  # type: ignore[misc]
        if is_main_process:
            config = self.config
            prompts = dict(getattr(config, PROMPTS, None) or {})
            if prompts:  # by the names that sentence-transformers looks for; a missing one is no prompt there
                prompts |= zip(("query", "document"), prompts_of(config, 2), strict=True)
            write_modules(
                Path(save_directory),
                config.hidden_size,
                getattr(config, POOLING),
                getattr(config, NORMALIZE),
                prompts,
                getattr(config, DEFAULT_PROMPT, None),
            )


def _set(config: PretrainedConfig, pooling: Pooling | str | None, normalize: bool | None) -> None:
    """Write settings into a configuration; those that are None stay as they are."""
    if pooling is not None:
        setattr(config, POOLING, choice(Pooling, pooling, "pooling").value)
    if normalize is not None or not hasattr(config, NORMALIZE):
        setattr(config, NORMALIZE, True if normalize is None else normalize)


def set_prompts(config: Any, prompts: Mapping[str, str] | None, default: str | None) -> None:
    """Write what texts begin with into the configuration of a sentence encoder.

    Args:
        config: The configuration.
        prompts: The prompts by name. None: those that it has.
        default: The name of the prompt of texts that are neither queries nor documents. None: the one that it has, or, where
            prompts are given, no prompt.

    Raises:
        ValueError: There is no prompt with the default's name.
    """
    known = dict(getattr(config, PROMPTS, {}) if prompts is None else prompts)
    if default is None and prompts is None:
        default = getattr(config, DEFAULT_PROMPT, None)
    if default is not None and default not in known:
        raise ValueError(f"default_prompt must be the name of one of the prompts, {list(known)}, got {default!r}")
    setattr(config, PROMPTS, known)
    setattr(config, DEFAULT_PROMPT, default)


def prompts_of(config: Any, columns: int = 1) -> list[str]:
    """What the texts that a sentence encoder reads begin with, "" for nothing.

    Args:
        config: The configuration of a model.
        columns: 1 for texts of one kind, which have the default prompt; 2 for pairs, of which the first texts are queries and
            the second ones documents, with the prompts that sentence-transformers gives to these, or else the default.

    Returns:
        The prompt of each column.
    """
    prompts = getattr(config, PROMPTS, None) or {}
    default = getattr(config, DEFAULT_PROMPT, None)
    names = ((), ()) if columns == 1 else (_QUERY, _DOCUMENT)
    return [
        next((prompts[name] for name in kind if name in prompts), prompts.get(default, "")) for kind in names[:columns]
    ]


def _class_for(config: PretrainedConfig) -> type[Any]:
    return encoder_class(_get_model_class(config, MODEL_MAPPING))


@cache
def encoder_class(stock: type[Any]) -> type[Any]:
    """The class of sentence encoders of a stock class without a head; it has its name, and its forward's parameters."""
    if issubclass(stock, SentenceEncoder):
        return stock
    parameters = inspect.signature(stock.forward)
    options = {"add_pooling_layer": False} if "add_pooling_layer" in inspect.signature(stock).parameters else {}

    @wraps(stock.__init__)
    def __init__(self: Any, config: PretrainedConfig, *args: Any, **kwargs: Any) -> None:
        stock.__init__(self, config, *args, **kwargs | options)

    @wraps(stock.forward)
    def forward(self: Any, *args: Any, **kwargs: Any) -> SequenceClassifierOutput:
        output = stock.forward(self, *args, **kwargs | {"return_dict": True})
        valid = parameters.bind(self, *args, **kwargs).arguments.get("attention_mask")
        embeddings = pooled(output.last_hidden_state, valid, Pooling(getattr(self.config, POOLING)))
        if getattr(self.config, NORMALIZE):
            embeddings = normalize(embeddings, dim=-1)
        return SequenceClassifierOutput(
            logits=embeddings, hidden_states=output.get("hidden_states"), attentions=output.get("attentions")
        )

    names = {name: getattr(stock, name) for name in ("__module__", "__qualname__", "__doc__")}
    return type(stock.__name__, (SentenceEncoder, stock), {**names, "__init__": __init__, "forward": forward})

"""Sentence encoders: stock models without a head that give one embedding per text, and their folders.

A sentence encoder is an instance of a subclass of a stock model, such as BertModel, with the same weights. Its folder is
that of the stock model with the files of sentence-transformers beside it, so that AutoModel and sentence-transformers
load it.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from functools import cache, wraps
from pathlib import Path
from typing import Any

from torch.nn.functional import normalize
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.models.auto.auto_factory import _get_model_class
from transformers.models.auto.modeling_auto import MODEL_MAPPING
from transformers.utils.hub import cached_file

from hf_distill.files import atomic_write, json_bytes, read_json
from hf_distill.objectives.embeddings import Pooling, pooled
from hf_distill.text.suggestions import choice

# Fields of the configuration.
POOLING, NORMALIZE = "sentence_pooling", "sentence_normalize"
_SOURCE = {"cache_dir", "force_download", "local_files_only", "revision", "subfolder", "token", "trust_remote_code"}
_CHANGES = {"id2label", "label2id", "num_labels"}
# The names of sentence-transformers, whose version 6 reads those of all earlier versions.
_MODES = {Pooling.MEAN: "mean", Pooling.CLS: "cls", Pooling.LAST: "lasttoken"}
_NAMES = [each.value for each in Pooling]
_FLAGS = {"mean": "pooling_mode_mean_tokens", "cls": "pooling_mode_cls_token", "lasttoken": "pooling_mode_lasttoken"}
_OTHER_FLAGS = ("pooling_mode_max_tokens", "pooling_mode_mean_sqrt_len_tokens", "pooling_mode_weightedmean_tokens")
_MODULES = "sentence_transformers.models"
MODULES = "modules.json"
_POOLING_FOLDER, _NORMALIZE_FOLDER = "1_Pooling", "2_Normalize"


class SentenceEncoder:
    """A model that gives one embedding per text: its output's `logits`, (batch, hidden).

    `from_pretrained`, `from_config` and `from_model` make one of any stock encoder or decoder of texts; the result is an
    instance of both classes, such as SentenceEncoder and BertModel, with the weights of the latter, without its pooler.
    How hidden states are pooled is in its configuration, as `sentence_pooling` and `sentence_normalize`.
    """

    config: Any

    @classmethod
    def from_pretrained(
        cls,
        name: str | os.PathLike,
        *,
        pooling: Pooling | str | None = None,
        normalize: bool | None = None,
        config: PretrainedConfig | None = None,
        **kwargs: Any,
    ) -> Any:
        """Load a sentence encoder.

        Args:
            name: A folder or Hub id of a sentence encoder, of a model of sentence-transformers, or of any encoder, whose head
                is left out.
            pooling: "mean", "cls" (the first token) or "last" (the last token). None: as saved with the model.
            normalize: Whether embeddings have length 1. None: as saved with the model, else they have.
            config: The configuration. None: the saved one.
            **kwargs: Further arguments of `from_pretrained`, such as `dtype` and `revision`.

        Returns:
            The model; with `output_loading_info=True` the pair of model and loading information.

        Raises:
            ValueError: No pooling was given or saved, or the model is one of sentence-transformers with other parts than a
                transformer, pooling and normalization.
        """
        source = {key: kwargs[key] for key in _SOURCE & kwargs.keys()}
        changes = {key: kwargs.pop(key) for key in _CHANGES & kwargs.keys()}
        if config is None:
            config = AutoConfig.from_pretrained(name, **source, **changes)
        if getattr(config, POOLING, None) is None and (saved := saved_pooling(name, pooling, **source)) is not None:
            _set(config, *saved)
        _set(config, pooling, normalize)
        if getattr(config, POOLING, None) is None:
            raise ValueError(f"{name} does not say how its hidden states are pooled: pass pooling, one of {_NAMES}")
        load: Callable = PreTrainedModel.from_pretrained.__func__  # type: ignore[attr-defined]  # not this method again
        return load(_class_for(config), name, config=config, **kwargs)

    @classmethod
    def from_config(cls, config: PretrainedConfig, **kwargs: Any) -> Any:
        """A sentence encoder with random weights, which takes the mean unless the configuration says otherwise."""
        if getattr(config, POOLING, None) is None:
            _set(config, Pooling.MEAN, None)
        return _class_for(config)._from_config(config, **kwargs)

    @classmethod
    def from_model(cls, model: PreTrainedModel, pooling: Pooling | str = "mean", normalize: bool = True) -> Any:
        """A sentence encoder with a copy of the weights of a model, whose head is left out.

        Args:
            model: A model with or without a head.
            pooling: "mean", "cls" or "last".
            normalize: Whether embeddings have length 1.

        Returns:
            The sentence encoder, on the device and in the precision and mode of the model.

        Raises:
            ValueError: The pooling is none of the three.
        """
        base: Any = model.base_model
        stock: Any = type(base)
        config = type(base.config).from_dict(base.config.to_dict())
        _set(config, pooling, normalize)
        encoder = encoder_class(stock)._from_config(config, dtype=base.dtype)
        own = encoder.state_dict()
        encoder.load_state_dict({name: tensor for name, tensor in base.state_dict().items() if name in own})
        return encoder.to(base.device).train(model.training)

    def save_pretrained(self, save_directory: str | os.PathLike, is_main_process: bool = True, **kwargs: Any) -> None:
        """Save the stock model, and the files with which sentence-transformers loads the folder."""
        super().save_pretrained(save_directory, is_main_process=is_main_process, **kwargs)  # type: ignore[misc]
        if is_main_process:
            write_modules(Path(save_directory), self.config)


def _set(config: PretrainedConfig, pooling: Pooling | str | None, normalize: bool | None) -> None:
    """Write settings into a configuration; those that are None stay as they are."""
    if pooling is not None:
        setattr(config, POOLING, choice(Pooling, pooling, "pooling").value)
    if normalize is not None or not hasattr(config, NORMALIZE):
        setattr(config, NORMALIZE, True if normalize is None else normalize)


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


def saved_pooling(
    name: str | os.PathLike, pooling: Pooling | str | None = None, **source: Any
) -> tuple[Pooling | str, bool] | None:
    """How the embeddings of a model of sentence-transformers are made.

    Args:
        name: A folder or Hub id.
        pooling: A pooling to use in place of the saved one, which then need not be there. None: the saved one.
        **source: Arguments of `from_pretrained` that locate the files.

    Returns:
        The pooling, and whether embeddings are normalized; None if the folder has no modules.json.

    Raises:
        ValueError: The model has parts other than a transformer, pooling and normalization, or another pooling, or lacks
            the file that says which.
    """
    path = _file(name, MODULES, source)
    if path is None:
        return None
    kinds = {str(each["type"]).rpartition(".")[2]: each["path"] for each in read_json(path, kind=list[dict[str, Any]])}
    if not {"Transformer", "Pooling"} <= set(kinds) <= {"Transformer", "Pooling", "Normalize"}:
        raise ValueError(
            f"{name} consists of {list(kinds)}; a sentence encoder is a Transformer with Pooling and perhaps Normalize. As a "
            "teacher it can be recorded: add its embeddings to the data set as the column teacher_logits"
        )
    if pooling is not None:
        return pooling, "Normalize" in kinds
    settings_file = f"{kinds['Pooling']}/config.json"
    if (path := _file(name, settings_file, source)) is None:
        raise ValueError(f"{name} lacks {settings_file}, which its {MODULES} names: pass pooling, one of {_NAMES}")
    settings = read_json(path)
    modes = settings.get("pooling_mode", [mode for mode, flag in _FLAGS.items() if settings.get(flag)])
    modes = [modes] if isinstance(modes, str) else [*modes, *(flag for flag in _OTHER_FLAGS if settings.get(flag))]
    for found, mode in _MODES.items():
        if modes == [mode]:
            return found, "Normalize" in kinds
    raise ValueError(f"{name} pools hidden states by {modes}; supported is one of {list(_MODES.values())}")


def _file(name: str | os.PathLike, file: str, source: dict[str, Any]) -> str | None:
    absent = {f"_raise_exceptions_for_{what}": False for what in ("missing_entries", "connection_errors")}
    source = {key: value for key, value in source.items() if key != "trust_remote_code"}
    return cached_file(os.fspath(name), file, **source, **absent)


def write_modules(folder: Path, config: Any) -> None:
    """Write the files with which sentence-transformers loads a folder with a stock model.

    Args:
        folder: The folder.
        config: The configuration of a sentence encoder.
    """
    kinds = [("Transformer", ""), ("Pooling", _POOLING_FOLDER)]
    if getattr(config, NORMALIZE):
        kinds.append(("Normalize", _NORMALIZE_FOLDER))
        (folder / _NORMALIZE_FOLDER).mkdir(exist_ok=True)
    modules = [
        {"idx": index, "name": str(index), "path": path, "type": f"{_MODULES}.{kind}"}
        for index, (kind, path) in enumerate(kinds)
    ]
    (folder / _POOLING_FOLDER).mkdir(exist_ok=True)
    mode = _MODES[Pooling(getattr(config, POOLING))]
    flags = {flag: own == mode for own, flag in _FLAGS.items()} | dict.fromkeys(_OTHER_FLAGS, False)
    settings = {"word_embedding_dimension": config.hidden_size, **flags}
    atomic_write(folder / _POOLING_FOLDER / "config.json", json_bytes(settings))
    atomic_write(folder / MODULES, json_bytes(modules))

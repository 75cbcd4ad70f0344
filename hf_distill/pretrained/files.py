"""What lies beside a saved model's configuration: its tokenizer, its image processor, the numbers of its weights."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from safetensors import safe_open
from transformers import AutoImageProcessor, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME
from transformers.utils.hub import cached_files

from hf_distill.files import named_file, read_json

# Of the arguments of from_pretrained those that say where the files are: configuration and tokenizer need them too.
SOURCE_KWARGS = {
    "cache_dir",
    "force_download",
    "local_files_only",
    "proxies",
    "revision",
    "subfolder",
    "token",
    "trust_remote_code",
}
_TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "vocab.json", "vocab.txt", "merges.txt", "tokenizer.model"),
    *("spiece.model", "sentencepiece.bpe.model", "spm.model", "bpe.codes", "sentencepiece.model"),
)
_PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")


def load_tokenizer(place: str | os.PathLike, **options: Any) -> PreTrainedTokenizerBase | None:
    """The tokenizer of a saved model; None where none was saved with it.

    Args:
        place: A folder, or an id on the Hub.
        options: Of `from_pretrained`.

    Raises:
        ValueError: There is one, and it cannot be read.
    """
    tokenizer = _loaded(AutoTokenizer.from_pretrained, "tokenizer", place, _TOKENIZER_FILES, options)
    # For a folder without tokenizer files transformers (seen in 5.23) makes one that knows special tokens alone.
    if tokenizer is not None and len(tokenizer) <= len(tokenizer.all_special_tokens):
        return tokenizer if _saved_files(place, _TOKENIZER_FILES, options) else None
    return tokenizer


def load_image_processor(place: str | os.PathLike, **options: Any) -> Any:
    """The image processor of a saved model; None where none was saved with it.

    Args:
        place: A folder, or an id on the Hub.
        options: Of `from_pretrained`.

    Raises:
        ValueError: There is one, and it cannot be read.
    """
    return _loaded(AutoImageProcessor.from_pretrained, "image processor", place, _PROCESSOR_FILES, options)


def require_floating_weights(model: PreTrainedModel, place: str | os.PathLike, **options: Any) -> None:
    """Refuse saved weights that are whole numbers where the model has fractions: loading casts them without a word.

    Args:
        model: As it was loaded; one that is quantized, and says so in its configuration, may have any.
        place: Where from: a folder, or an id on the Hub.
        options: Of `from_pretrained`.

    Raises:
        ValueError: Names tensors and their type.
    """
    if getattr(model.config, "quantization_config", None) is not None:
        return
    fractions = {name for name, tensor in model.state_dict().items() if tensor.is_floating_point()}
    prefix = f"{model.base_model_prefix}."
    for file in _weight_files(place, options):
        found = {
            name: dtype
            for name, dtype in dtypes_of(file).items()
            if not is_floating(dtype) and {name, prefix + name, name.removeprefix(prefix)} & fractions
        }
        if found:
            raise ValueError(
                f"{place} holds {len(found)} weights of the type {next(iter(found.values()))}, such as "
                f"{next(iter(found))}: a model computes with floating-point numbers, and quantized weights need the "
                "quantization_config that says what they stand for"
            )


def dtypes_of(file: str | os.PathLike) -> dict[str, str]:
    """The type of each tensor in a file of weights, as safetensors calls it, read off the file's head."""
    with safe_open(file, "pt") as tensors:
        return {name: tensors.get_slice(name).get_dtype() for name in tensors.keys()}  # noqa: SIM118 -- no mapping


def is_floating(dtype: str) -> bool:
    """Whether a type, as safetensors calls it, is of floating-point numbers."""
    return dtype.startswith(("F", "BF"))


def _loaded(
    load: Callable[..., Any], kind: str, place: str | os.PathLike, names: Sequence[str], options: dict[str, Any]
) -> Any:
    try:
        return load(place, **({"trust_remote_code": False} | options))
    except Exception as error:  # the tokenizers library raises it bare
        if not _saved_files(place, names, options):
            return None
        raise ValueError(f"the {kind} of {place} cannot be read: {str(error) or repr(error)}") from error


def _weight_files(place: str | os.PathLike, options: dict[str, Any]) -> list[Path]:
    found = _saved_files(place, [SAFE_WEIGHTS_NAME], options)
    if not found and (found := _saved_files(place, [SAFE_WEIGHTS_INDEX_NAME], options)):
        names = read_json(found[0], {"weight_map": dict[str, str]})["weight_map"].values()
        found = [named_file(found[0].parent, name, SAFE_WEIGHTS_INDEX_NAME) for name in sorted(set(names))]
    return found


def _saved_files(place: str | os.PathLike, names: Sequence[str], options: dict[str, Any]) -> list[Path]:
    """Those of the files that are there."""
    source = {name: options[name] for name in SOURCE_KWARGS - {"trust_remote_code"} & options.keys()}
    allowed = dict(_raise_exceptions_for_missing_entries=False, _raise_exceptions_for_connection_errors=False)
    return [Path(path) for path in cached_files(str(place), list(names), **source, **allowed) or ()]

"""Tokenizer, image processor and data types of the weights of a saved model."""

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

# The arguments of from_pretrained that locate the files: configuration and tokenizer are loaded with the same ones.
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
    """Load the tokenizer of a saved model.

    Args:
        place: A folder, or a Hub id.
        **options: Arguments of `from_pretrained`, such as `revision`.

    Returns:
        The tokenizer; None if none was saved with the model.

    Raises:
        ValueError: The tokenizer exists and cannot be read.
    """
    tokenizer = _loaded(AutoTokenizer.from_pretrained, "tokenizer", place, _TOKENIZER_FILES, options)
    # For a folder without tokenizer files transformers (seen in 5.23) makes a tokenizer of special tokens alone.
    if tokenizer is not None and len(tokenizer) <= len(tokenizer.all_special_tokens):
        return tokenizer if _saved_files(place, _TOKENIZER_FILES, options) else None
    return tokenizer


def load_image_processor(place: str | os.PathLike, **options: Any) -> Any:
    """Load the image processor of a saved model.

    Args:
        place: A folder, or a Hub id.
        **options: Arguments of `from_pretrained`, such as `revision`.

    Returns:
        The image processor; None if none was saved with the model.

    Raises:
        ValueError: The image processor exists and cannot be read.
    """
    return _loaded(AutoImageProcessor.from_pretrained, "image processor", place, _PROCESSOR_FILES, options)


def require_floating_weights(model: PreTrainedModel, place: str | os.PathLike, **options: Any) -> None:
    """Check that no weights were saved as integers where the model has floats: `from_pretrained` casts them silently.

    Args:
        model: The loaded model. Models with a quantization config in their configuration are not checked.
        place: The folder, or the Hub id, that it was loaded from.
        **options: The arguments of `from_pretrained` that it was loaded with, such as `revision`.

    Raises:
        ValueError: Some weights are integers; the message names a tensor and its type.
    """
    if getattr(model.config, "quantization_config", None) is not None:
        return
    floating = {name for name, tensor in model.state_dict().items() if tensor.is_floating_point()}
    prefix = f"{model.base_model_prefix}."
    for file in _weight_files(place, options):
        found = {
            name: dtype
            for name, dtype in dtypes_of(file).items()
            if not is_floating(dtype) and {name, prefix + name, name.removeprefix(prefix)} & floating
        }
        if found:
            raise ValueError(
                f"{place} holds {len(found)} weights of the type {next(iter(found.values()))}, such as "
                f"{next(iter(found))}: a model computes with floating-point numbers, and quantized weights need the "
                "quantization_config that says what they stand for"
            )


def dtypes_of(file: str | os.PathLike) -> dict[str, str]:
    """The data type of each tensor in a safetensors file (such as "F32"), read from the header alone."""
    with safe_open(file, "pt") as tensors:
        return {name: tensors.get_slice(name).get_dtype() for name in tensors.keys()}  # noqa: SIM118 -- no mapping


def is_floating(dtype: str) -> bool:
    """Whether a safetensors data type (such as "F32" or "I8") is a floating-point type."""
    return dtype.startswith(("F", "BF"))


def _loaded(
    load: Callable[..., Any], kind: str, place: str | os.PathLike, names: Sequence[str], options: dict[str, Any]
) -> Any:
    try:
        return load(place, **({"trust_remote_code": False} | options))
    except Exception as error:  # the tokenizers library raises plain Exception
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
    """The local paths of those of the named files that exist in the folder or on the Hub."""
    source = {name: options[name] for name in SOURCE_KWARGS - {"trust_remote_code"} & options.keys()}
    found = cached_files(
        str(place),
        list(names),
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
        **source,
    )
    return [Path(path) for path in found or ()]

"""The files with which sentence-transformers loads a folder: how hidden states are pooled, and what texts begin with."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers.utils.hub import cached_file

from hf_distill.files import atomic_write, checked, json_bytes, read_json
from hf_distill.objectives.embeddings import Pooling

# The names of sentence-transformers, whose version 6 reads those of all earlier versions.
_MODES = {Pooling.MEAN: "mean", Pooling.CLS: "cls", Pooling.LAST: "lasttoken"}
_NAMES = [each.value for each in Pooling]
_FLAGS = {"mean": "pooling_mode_mean_tokens", "cls": "pooling_mode_cls_token", "lasttoken": "pooling_mode_lasttoken"}
_OTHER_FLAGS = ("pooling_mode_max_tokens", "pooling_mode_mean_sqrt_len_tokens", "pooling_mode_weightedmean_tokens")
_MODULES = "sentence_transformers.models"
MODULES = "modules.json"
PROMPTS_FILE = "config_sentence_transformers.json"
_POOLING_FOLDER, _NORMALIZE_FOLDER = "1_Pooling", "2_Normalize"


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
            the file that says which, or leaves prompts out of pooling.
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
    if settings.get("include_prompt") is False and saved_prompts(name, **source)[0]:
        raise ValueError(
            f"{name} leaves prompts out of pooling, which is not supported: pass pooling, to pool them too"
        )
    for found, mode in _MODES.items():
        if modes == [mode]:
            return found, "Normalize" in kinds
    raise ValueError(f"{name} pools hidden states by {modes}; supported is one of {list(_MODES.values())}")


def saved_prompts(name: str | os.PathLike, **source: Any) -> tuple[dict[str, str], str | None]:
    """What the texts of a model of sentence-transformers begin with.

    Args:
        name: A folder or Hub id.
        **source: Arguments of `from_pretrained` that locate the files.

    Returns:
        The prompts by name, without empty ones, and the name of the default; none where the folder names none.

    Raises:
        FileFormatError: The file has prompts that are no texts.
    """
    path = _file(name, PROMPTS_FILE, source)
    saved = {} if path is None else read_json(path)
    named = checked(saved.get("prompts") or {}, dict[str, str | None], f"'prompts' of {path}")
    prompts = {key: text for key, text in named.items() if text}
    default = saved.get("default_prompt_name")
    return prompts, default if default in prompts else None


def _file(name: str | os.PathLike, file: str, source: dict[str, Any]) -> str | None:
    absent = {f"_raise_exceptions_for_{what}": False for what in ("missing_entries", "connection_errors")}
    source = {key: value for key, value in source.items() if key != "trust_remote_code"}
    return cached_file(os.fspath(name), file, **source, **absent)


def write_modules(
    folder: Path,
    width: int,
    pooling: Pooling | str,
    normalize: bool,
    prompts: Mapping[str, str],
    default_prompt: str | None,
) -> None:
    """Write the files with which sentence-transformers loads a folder with a stock model.

    Args:
        folder: The folder.
        width: The dimensions of an embedding.
        pooling: How hidden states are pooled.
        normalize: Whether embeddings have length 1.
        prompts: What texts begin with, by name.
        default_prompt: The name of the prompt of texts that are neither queries nor documents, or None.
    """
    kinds = [("Transformer", ""), ("Pooling", _POOLING_FOLDER)]
    if normalize:
        kinds.append(("Normalize", _NORMALIZE_FOLDER))
        (folder / _NORMALIZE_FOLDER).mkdir(exist_ok=True)
    modules = [
        {"idx": index, "name": str(index), "path": path, "type": f"{_MODULES}.{kind}"}
        for index, (kind, path) in enumerate(kinds)
    ]
    (folder / _POOLING_FOLDER).mkdir(exist_ok=True)
    mode = _MODES[Pooling(pooling)]
    flags = {flag: own == mode for own, flag in _FLAGS.items()} | dict.fromkeys(_OTHER_FLAGS, False)
    settings = {"word_embedding_dimension": width, **flags}
    atomic_write(folder / _POOLING_FOLDER / "config.json", json_bytes(settings))
    atomic_write(folder / MODULES, json_bytes(modules))
    if prompts:
        named = {"prompts": dict(prompts), "default_prompt_name": default_prompt, "similarity_fn_name": "cosine"}
        atomic_write(folder / PROMPTS_FILE, json_bytes(named))

"""The files of a student's folder that are published, and the checks they must pass before."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import transformers
import yaml
from huggingface_hub import ModelCard
from huggingface_hub.utils.sha import git_hash
from safetensors.torch import load_file
from torch import Tensor

from hf_distill.files import FileFormatError, checked, read_json
from hf_distill.files.sentence_transformers import MODULES, PROMPTS_FILE, saved_pooling
from hf_distill.publishing.file_kinds import require_no_code, require_own_files
from hf_distill.publishing.usage import HERE
from hf_distill.sentence_encoder import SentenceEncoder
from hf_distill.text.credentials import find_credential

# Besides the weights, and the plots that the card shows, only these files are published.
_ALLOWED = (
    *(
        "config.json",
        "generation_config.json",
        "adapter_config.json",
        "run.json",
        "README.md",
        "LICENSE",
        "LICENSE.txt",
        "LICENSE.md",
    ),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json"),
    *("vocab.txt", "merges.txt", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model", "spm.model"),
    *("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json", "chat_template.jinja"),
)
_WEIGHTS, _INDEX, _ADAPTER = "model.safetensors", "model.safetensors.index.json", "adapter_model.safetensors"
_SHARDS = "model-*-of-*.safetensors"
_WEIGHT_NAMES = (_WEIGHTS, _INDEX, _ADAPTER, _SHARDS)
_PICKLES = ("pytorch_model*.bin", "model*.bin", "adapter_model*.bin")
_SAFELY = {"local_files_only": True, "trust_remote_code": False}
_PLOT = re.compile(r"!\[[^\]\[\n]*\]\(([\w.-]+\.png)\)")
_PLACES = (HERE, "NAMESPACE/NAME")  # placeholders in the code of the cards of students and labeled data sets
_MANY_BYTES = 2**24  # larger binary files are not searched for strings that look like secrets
# In these files the names are tokens of a vocabulary, not settings such as "password".
_VOCABULARIES = ("tokenizer.json", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", "*.model")


@dataclass(frozen=True)
class PublishedFile:
    """A file to publish on the Hub.

    Attributes:
        name: The name of the file in the repository.
        path: The local path.
        size: The size in bytes.
        sha256: The SHA-256 of the content, by which the Hub identifies large (LFS) files.
        git_oid: The git blob id (SHA-1) of the content, by which the Hub identifies small files.
        content: The content to upload in place of the local file's. None: the local file's.
    """

    name: str
    path: Path
    size: int
    sha256: str
    git_oid: str
    content: bytes | None = field(default=None, repr=False)

    def read(self) -> bytes:
        """The content to upload."""
        return self.path.read_bytes() if self.content is None else self.content


def files_to_publish(folder: str | os.PathLike, secret: str | None = None) -> list[PublishedFile]:
    """Check a student's folder, and list the files to publish.

    Args:
        folder: The student's folder, as written by `save_model` and `write_model_card`.
        secret: A token that no file may contain, besides strings that look like tokens, passwords or keys. None: there
            is none.

    Returns:
        The files with their checksums, sorted by name.

    Raises:
        FileNotFoundError: The folder does not exist, or lacks weights, a configuration, a card or a plot that it shows.
        ValueError: The weights are pickled, or no class of transformers loads all of them; the card's metadata are
            invalid; a file contains a token, loads custom code, is not a regular file or is a link out of the folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"the student must be a folder, got {str(folder)!r}")
    names = {path.name for path in folder.iterdir() if path.name in _ALLOWED}
    require_own_files(folder, {*names, *filter(is_weights, os.listdir(folder))})
    weights = _weights(folder)
    plots = plots_of_card(folder)
    require_own_files(folder, plots)
    paths = [folder / name for name in sorted({*names, *weights, *plots})]
    modules = [folder / name for name in _modules(folder)]
    require_no_code([*paths, *modules])
    require_no_secrets([*paths, *modules], secret)
    if _ADAPTER in weights:
        _check_adapter(folder)
    else:
        _check_model(folder)
    files = [describe_file(path) for path in paths]
    files += [replace(describe_file(path), name=path.relative_to(folder).as_posix()) for path in modules]
    return sorted(files, key=lambda file: file.name)


def left_out(folder: str | os.PathLike, files: list[PublishedFile]) -> list[str]:
    """The sorted names of the files and folders that are not published; names of folders end with a slash."""
    sent = {file.name.partition("/")[0] for file in files}
    empty = {path.name for path in Path(folder).iterdir() if path.is_dir() and not any(path.iterdir())}
    kept = (path for path in Path(folder).iterdir() if path.name not in sent | empty)
    return sorted(path.name + "/" * path.is_dir() for path in kept)


def describe_file(path: Path) -> PublishedFile:
    """A file with its checksums, to be published under its own name."""
    return replace(describe_content(path, path.read_bytes()), content=None)


def describe_content(path: Path, content: bytes) -> PublishedFile:
    """A file with checksums that is published with other content than the local file's."""
    checksums = hashlib.sha256(content).hexdigest(), git_hash(content)
    return PublishedFile(path.name, path, len(content), *checksums, content)


def with_repository(card: PublishedFile, repo_id: str) -> PublishedFile:
    """A card whose code names the repository in place of the placeholder, if it still has one."""
    content = card.read()
    for place in _PLACES:
        content = content.replace(f'"{place}"'.encode(), f'"{repo_id}"'.encode())
    return card if content == card.read() else describe_content(card.path, content)


def is_weights(name: str) -> bool:
    """Whether transformers or peft load weights from a file of this name."""
    return any(fnmatch(name, pattern) for pattern in _WEIGHT_NAMES)


def _weights(folder: Path) -> list[str]:
    """The names of the files with the weights, as `from_pretrained` selects them."""
    pickles = sorted(path.name for path in folder.iterdir() if any(fnmatch(path.name, each) for each in _PICKLES))
    if pickles:
        raise ValueError(
            f"{folder} has pickled weights, {', '.join(pickles)}: only safetensors are published; load the model with "
            "transformers, save it again with save_pretrained, and remove the .bin files"
        )
    for name in (_WEIGHTS, _ADAPTER):
        if (folder / name).is_file():
            return [name]
    if not (folder / _INDEX).is_file():
        raise FileNotFoundError(f"{folder} has no weights: neither {_WEIGHTS} nor {_INDEX} nor {_ADAPTER}")
    shards = _shards(folder / _INDEX)
    missing = [name for name in shards if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(f"{folder} lacks weights that {_INDEX} names: {', '.join(missing)}")
    return [_INDEX, *shards]


def _shards(index: Path) -> list[str]:
    """The sorted names of the shards that an index of weights lists."""
    named = read_json(index, {"weight_map": dict[str, str]})["weight_map"]
    strange = [name for name in named.values() if not fnmatch(name, _SHARDS) or "/" in name]
    if strange or not named:
        got = strange[0] if strange else "none"
        raise FileFormatError(f"{index} must name files such as model-00001-of-00002.safetensors, got {got!r}")
    return sorted(set(named.values()))


def _modules(folder: Path) -> list[str]:
    """The names of the files with which sentence-transformers loads a sentence encoder; empty for other models."""
    if saved_pooling(folder) is None:
        return []
    require_own_files(folder, [MODULES])
    pooling = next(
        str(each["path"]) for each in read_json(folder / MODULES, kind=list) if each["type"].endswith("Pooling")
    )
    if Path(pooling).name != pooling:
        raise FileFormatError(f"{folder / MODULES} must name folders beside it, got {pooling!r}")
    require_own_files(folder / pooling, ["config.json"])
    prompts = [PROMPTS_FILE] * (folder / PROMPTS_FILE).exists()
    require_own_files(folder, prompts)
    return [MODULES, f"{pooling}/config.json", *prompts]


def plots_of_card(folder: Path) -> list[str]:
    """The sorted names of the plots that the card shows, all of which exist; the card's metadata are checked, too."""
    path = folder / "README.md"
    if not path.is_file():
        raise FileNotFoundError(f"{folder} has no README.md; `hf-distill card {folder}` renders it from run.json")
    try:
        card = ModelCard.load(path)
    except (ValueError, TypeError, yaml.YAMLError) as error:
        raise ValueError(f"the metadata of {path} is invalid: {error}") from error
    if not card.data.to_dict():
        raise ValueError(f"{path} must begin with metadata, a block of YAML between two lines of ---, got none")
    plots = sorted(set(_PLOT.findall(card.text)))
    missing = [name for name in plots if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(f"{path} shows {', '.join(missing)}, which {folder} does not have")
    return plots


def _check_model(folder: Path) -> None:
    """Check that the model can be loaded by the class that its configuration names, without custom code."""
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{folder} has no config.json")
    config = read_json(folder / "config.json")
    names = checked(config.get("architectures") or [], list[str], f"'architectures' of {folder / 'config.json'}")
    stock: list[Any] = [getattr(transformers, name, None) for name in names]
    if not stock or not all(map(_is_model, stock)):
        raise ValueError(f"config.json must name a stock architecture of transformers, got {names}")
    loader: Any = (
        stock[0] if saved_pooling(folder) is None else SentenceEncoder
    )  # which has no pooler beside its pooling
    try:
        model, found = loader.from_pretrained(folder, **_SAFELY, output_loading_info=True)
    except Exception as error:  # any failure would affect all users of the model
        raise ValueError(f"{names[0]}.from_pretrained does not load {folder}: {error}") from error
    if found["missing_keys"]:
        raise ValueError(f"{folder} lacks weights of {names[0]}: {', '.join(sorted(found['missing_keys']))}")
    _require_finite(folder, model.state_dict())


def _is_model(found: object) -> bool:
    return isinstance(found, type) and issubclass(found, transformers.PreTrainedModel)


def _require_finite(folder: Path, weights: Mapping[str, Tensor]) -> None:
    bad = [name for name, tensor in weights.items() if tensor.is_floating_point() and not tensor.isfinite().all()]
    if bad:
        raise ValueError(
            f"{folder} has weights that are NaN or infinite, {len(bad)} parameters such as {bad[0]}: the training that "
            "produced them has failed, and the model is unusable"
        )


def _check_adapter(folder: Path) -> None:
    """Check that an adapter's base model is a Hub id, not a local folder, and that its weights can be read."""
    if not (folder / "adapter_config.json").is_file():
        raise FileNotFoundError(f"{folder} has no adapter_config.json")
    base = str(read_json(folder / "adapter_config.json").get("base_model_name_or_path"))
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", base) or base.startswith(".") or Path(base).exists():
        raise ValueError(f"base_model_name_or_path of adapter_config.json must be a Hub id, got {base!r}")
    try:
        weights = load_file(folder / _ADAPTER)
    except Exception as error:  # SafetensorError derives from Exception alone
        raise ValueError(f"{folder / _ADAPTER} cannot be read: {error}") from error
    if not weights:
        raise ValueError(f"{folder / _ADAPTER} holds no weights")
    _require_finite(folder, weights)


def require_no_secrets(paths: list[Path], secret: str | None) -> None:
    """Check that no file contains a token, password or key; of weights only the header, with its metadata, is searched."""
    for path in paths:
        if line := line_of_secret(path, secret):
            raise ValueError(f"{path} contains what looks like a token, a password or a key, in line {line}: remove it")


def line_of_secret(path: Path, secret: str | None) -> int:
    """Find the first credential in a file.

    Args:
        path: The file.
        secret: A token to find, whatever it looks like. None: only strings that look like credentials are found.

    Returns:
        The number of the line, from 1; 0 if there is none.
    """
    content = _readable(path)
    text = content.decode("latin-1")  # one character per byte, for binary files too
    is_binary = b"\0" in content
    with_names = not is_binary and not any(fnmatch(path.name, name) for name in _VOCABULARIES)
    start = text.find(secret.encode().decode("latin-1")) if secret else -1
    if start < 0 and not (is_binary and len(content) > _MANY_BYTES):
        start = find_credential(text, with_names)
    return text.count("\n", 0, start) + 1 if start >= 0 else 0


def _readable(path: Path) -> bytes:
    with path.open("rb") as file:
        if path.suffix == ".safetensors":
            header_bytes = int.from_bytes(file.read(8), "little")
            return file.read(min(header_bytes, path.stat().st_size))
        return file.read()

"""Training checkpoints of a teacher: found in a folder or by name, checked, and described."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from safetensors import SafetensorError, safe_open
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from hf_distill.files import named_file, parse_json, read_json
from hf_distill.pretrained.files import dtypes_of, is_floating

_WEIGHTS, _INDEX = "model.safetensors", "model.safetensors.index.json"
_ADAPTER_CONFIG, _ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
# What must be the same in all checkpoints of one teacher.
_SHAPE = (
    *("architectures", "model_type", "hidden_size", "num_hidden_layers"),
    *("num_attention_heads", "vocab_size", "id2label"),
)


@dataclass(frozen=True)
class Checkpoint:
    """A folder with a teacher's weights, of the complete model or of an adapter.

    Attributes:
        folder: The checkpoint's folder.
        step: The teacher's optimizer step, with which the name of the folder or revision ends; else the checkpoint's
            place in the list, counted from 1.
    """

    folder: Path
    step: int

    @property
    def is_adapter(self) -> bool:
        """Whether the folder holds a LoRA adapter instead of a complete model."""
        return (self.folder / _ADAPTER_CONFIG).exists()

    def files(self) -> list[Path]:
        """The paths of the weight files.

        Returns:
            One path, or those of all files that the index names.

        Raises:
            ValueError: The index cannot be read, or names files of other folders.
        """
        if self.is_adapter:
            return [self.folder / _ADAPTER_WEIGHTS]
        if (self.folder / _INDEX).exists():
            index = read_json(self.folder / _INDEX, {"weight_map": dict[str, str]})
            return [named_file(self.folder, name, _INDEX) for name in sorted(set(index["weight_map"].values()))]
        return [self.folder / _WEIGHTS]

    def shapes(self) -> dict[str, list[int]]:
        """The shape of each tensor, read from the headers of the files.

        Returns:
            Shapes by the tensor's name.

        Raises:
            ValueError: A file is missing or truncated.
        """
        found: dict[str, list[int]] = {}
        for file in self.files():
            try:
                if file.exists() and not file.is_file():  # to open a pipe is to wait
                    raise OSError("it must be a regular file")
                with safe_open(file, "pt") as tensors:
                    found |= {name: tensors.get_slice(name).get_shape() for name in tensors.keys()}  # noqa: SIM118 -- no mapping
            except (OSError, SafetensorError) as error:
                raise ValueError(
                    f"the teacher's checkpoint {self.folder} cannot be read: {file.name}: {error}"
                ) from error
        return found

    def number_types(self) -> dict[str, str]:
        """The number type of each tensor, the same for floating-point numbers of any precision.

        Returns:
            "floating point", or another type as safetensors names it, such as "I8", by the tensor's name.

        Raises:
            ValueError: An adapter has tensors of other types than floating point.
        """
        kinds = {name: dtype for file in self.files() for name, dtype in dtypes_of(file).items()}
        others = {name: dtype for name, dtype in kinds.items() if not is_floating(dtype)}
        if others and self.is_adapter:
            name = next(iter(others))
            raise ValueError(
                f"{self.folder} must hold an adapter of floating-point numbers, got {name} of type {others[name]}"
            )
        return dict.fromkeys(kinds, "floating point") | others

    def description(self) -> dict[str, Any]:
        """The fields of the configuration that must be equal in all checkpoints of a teacher.

        Returns:
            Architecture, sizes and labels; of an adapter its base model, type, rank and task.

        Raises:
            ValueError: The configuration is missing or cannot be read.
        """
        path = self.folder / (_ADAPTER_CONFIG if self.is_adapter else "config.json")
        try:
            config = read_json(path)
        except (OSError, ValueError) as error:
            raise ValueError(f"the teacher's checkpoint {self.folder} cannot be read: {path.name}: {error}") from error
        if self.is_adapter:
            return {name: config.get(name) for name in ("base_model_name_or_path", "peft_type", "r", "task_type")}
        return {name: config.get(name) for name in _SHAPE}


def find_checkpoints(source: str | Sequence[str], skip_unreadable: bool = False) -> list[Checkpoint]:
    """Find the checkpoints of a teacher, all of one architecture, with the same labels and tokenizer.

    Args:
        source: A Trainer's output folder, whose `checkpoint-*` are taken in the order of their steps, or, if it has none, the
            model in it; or a list of folders in the order of training. A name such as "team/model@revision" that is no
            folder is taken for a Hub id.
        skip_unreadable: Leave out checkpoints that are missing or incomplete, instead of refusing them.

    Returns:
        The checkpoints in the order of training.

    Raises:
        ValueError: There is none, one cannot be read, or they differ in more than their weights.
    """
    if isinstance(source, str) and not Path(source).is_dir():
        raise ValueError(f"teacher_checkpoints must be a folder with checkpoint-* or a list, got {source!r}")
    if isinstance(source, str):
        folders = sorted(Path(source).glob(f"{PREFIX_CHECKPOINT_DIR}-*"), key=_step_of)
        if not folders and any(Path(source, name).exists() for name in ("config.json", _ADAPTER_CONFIG)):
            folders = [Path(source)]
    else:
        folders = [_fetched(name) for name in source]
    names: Sequence[str | Path] = folders if isinstance(source, str) else source
    found, left_out = [], []
    for number, (folder, name) in enumerate(zip(folders, names, strict=True), start=1):
        checkpoint = Checkpoint(folder, _step_of(name) or number)
        try:
            described = checkpoint.description() | {
                "tensors": checkpoint.shapes(),
                "number types": checkpoint.number_types(),
            }
            described["tokenizer"] = _tokenizer_of(folder)
        except ValueError:
            if not skip_unreadable:
                raise
            left_out.append(folder.name)
            continue
        found.append((checkpoint, described))
    if not found:
        raise ValueError(
            f"{source} holds no checkpoint that can be read ({PREFIX_CHECKPOINT_DIR}-*); left out: {left_out}"
        )
    first, expected = found[0]
    for checkpoint, described in found[1:]:
        for name, value in expected.items():
            if described[name] != value:
                raise ValueError(_difference(name, first, value, checkpoint, described[name]))
    return [checkpoint for checkpoint, _ in found]


def _difference(name: str, first: Checkpoint, expected: Any, other: Checkpoint, got: Any) -> str:
    if isinstance(expected, dict) and isinstance(got, dict):
        keys = [key for key in {**expected, **got} if expected.get(key) != got.get(key)]
        expected, got = ({key: side.get(key) for key in keys[:3]} for side in (expected, got))
    if name == "tokenizer":
        expected, got = "one tokenizer.json", "another"
    return (
        f"the checkpoints of a trajectory must be of one teacher: {name} is {expected} in {first.folder.name} and {got} in "
        f"{other.folder.name}"
    )


def _step_of(name: str | Path) -> int:
    match = re.search(r"-(\d+)/*$", str(name))
    return int(match[1]) if match else 0


def _tokenizer_of(folder: Path) -> bytes | None:
    path = folder / "tokenizer.json"
    if not path.exists():
        return None
    parse_json(content := path.read_bytes(), str(path), finite=False)  # a truncated file does not mean another teacher
    return content


def _fetched(name: str) -> Path:
    repository, _, revision = name.partition("@")
    if Path(name).is_dir() or Path(name).is_absolute() or repository.count("/") > 1:
        return Path(name)
    return Path(snapshot_download(repository, revision=revision or None))

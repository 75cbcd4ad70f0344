"""A teacher's training checkpoints as a sequence of teachers: one is in memory, the next is read in the background."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch
from huggingface_hub import snapshot_download
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from hf_distill.distributed.weights import unsharded_loading
from hf_distill.files import named_file, parse_json, read_json
from hf_distill.fingerprints import file_sha256, json_sha256
from hf_distill.pretrained.files import dtypes_of, is_floating, require_floating_weights
from hf_distill.pretrained.loading import SavedModel
from hf_distill.tasks import auto_class_of

_WEIGHTS, _INDEX = "model.safetensors", "model.safetensors.index.json"
_ADAPTER_CONFIG, _ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_ADAPTER_PREFIX = "base_model.model."
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


class Trajectory:
    """Loads one checkpoint after the other into a teacher, in place.

    The weights of the next checkpoint are read into host memory in the background, so that a change costs a copy. Adapters are
    merged into the weights that they change, so that the teacher computes no more than a complete model.

    Args:
        checkpoints: The checkpoints of one teacher in the order of training.

    Attributes:
        checkpoints: The checkpoints.
        current: The index of the checkpoint that the teacher has.
    """

    def __init__(self, checkpoints: Sequence[Checkpoint]):
        self.checkpoints = tuple(checkpoints)
        self.current = 0
        self._reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="teacher-checkpoint")
        self._next: tuple[int, Future] | None = None
        self._unmerged: dict[Any, dict[str, Tensor]] = {}  # weights without the adapter, by layer that has one

    @cached_property
    def weights_sha256(self) -> str:
        """SHA-256 of all checkpoints' weight files, hexadecimal; the files are read for it once."""
        return json_sha256([[file_sha256(file) for file in checkpoint.files()] for checkpoint in self.checkpoints])

    def first_model(self, student: nn.Module) -> str | nn.Module:
        """The first checkpoint, in the form that the teacher is made of.

        Args:
            student: The student, which has the head that an adapter's base gets.

        Returns:
            The checkpoint's folder; of an adapter, the base model with the adapter's layers.
        """
        first = self.checkpoints[0]
        if not first.is_adapter:
            return str(first.folder)
        from peft import PeftModel

        with unsharded_loading():
            name = first.description()["base_model_name_or_path"]
            config = SavedModel.find(str(first.folder)).config  # as many labels as the adapter's head has
            labels = {"id2label": config.id2label, "label2id": config.label2id}
            auto_class: Any = auto_class_of(student)
            base = auto_class.from_pretrained(name, trust_remote_code=False, **labels)
            require_floating_weights(base, name)
        return PeftModel.from_pretrained(base, first.folder).get_base_model()

    def move_to(self, index: int, model: nn.Module) -> bool:
        """Load the weights of a checkpoint into the teacher, unless it has them.

        Args:
            index: The index of the checkpoint.
            model: The teacher's model, which keeps its precision and device.

        Returns:
            Whether the weights were changed.
        """
        if index == self.current:
            self._merge_adapters(model)
            return False
        self._unmerge_adapters()
        weights = self._next[1].result() if self._next and self._next[0] == index else self._read(index)
        checkpoint, own = self.checkpoints[index], model.state_dict()
        if checkpoint.is_adapter:
            own = {_name_in_adapter(name): tensor for name, tensor in own.items()}
        else:  # some families' files have other names than their modules
            own = revert_weight_conversion(cast(PreTrainedModel, model), own)
        if not weights.keys() <= own.keys():  # files of an older version of the library
            with unsharded_loading():
                older = type(cast(PreTrainedModel, model)).from_pretrained(checkpoint.folder, trust_remote_code=False)
            own, weights = model.state_dict(), older.state_dict()
        with torch.no_grad():
            for name, tensor in weights.items():
                own[name].copy_(tensor)
        self._merge_adapters(model)
        self.current, self._next = index, None
        return True

    def _merge_adapters(self, model: nn.Module) -> None:
        if self._unmerged or not self.checkpoints[0].is_adapter:
            return
        from peft.tuners.tuners_utils import BaseTunerLayer

        with torch.no_grad():
            for layer in model.modules():
                if isinstance(layer, BaseTunerLayer):
                    weights = layer.get_base_layer().state_dict()
                    self._unmerged[layer] = {name: tensor.clone() for name, tensor in weights.items()}
                    layer.merge()

    def _unmerge_adapters(self) -> None:
        """Restore the copied weights: subtracting the adapter again would leave rounding errors."""
        for layer, weights in self._unmerged.items():
            layer.get_base_layer().load_state_dict(weights)
            layer.merged_adapters.clear()
        self._unmerged = {}

    def prefetch(self) -> None:
        """Start reading the next checkpoint in the background, unless there is none or it is being read already."""
        following = self.current + 1
        if following < len(self.checkpoints) and (self._next is None or self._next[0] != following):
            self._next = following, self._reader.submit(self._read, following)

    def _read(self, index: int) -> Mapping[str, Tensor]:
        files = map(load_file, self.checkpoints[index].files())
        return {name.removeprefix(_ADAPTER_PREFIX): tensor for file in files for name, tensor in file.items()}


def _name_in_adapter(name: str) -> str:
    """The name in an adapter's file of a tensor of the model that has the adapter's layers."""
    return re.sub(r"(\.lora_[A-Za-z_]+)\.default", r"\1", name.replace(".modules_to_save.default", ""))

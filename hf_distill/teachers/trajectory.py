"""A teacher's footprints: the checkpoints its own training left, one of them in memory, the next on its way."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers.core_model_loading import revert_weight_conversion
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from hf_distill.distributed.weights import unsharded_loading
from hf_distill.extras import require_extra
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
    """A folder with a teacher's weights, all of them or an adapter's.

    Attributes:
        folder: Where it is.
        step: The teacher's optimizer step, which the name of the folder or revision ends with; else the number in the
            list, from 1.
    """

    folder: Path
    step: int

    @property
    def is_adapter(self) -> bool:
        """Whether it holds a LoRA adapter and not a whole model."""
        return (self.folder / _ADAPTER_CONFIG).exists()

    def files(self) -> list[Path]:
        """The weight files.

        Raises:
            ValueError: The index cannot be read, or names files elsewhere.
        """
        if self.is_adapter:
            return [self.folder / _ADAPTER_WEIGHTS]
        if (self.folder / _INDEX).exists():
            index = read_json(self.folder / _INDEX, {"weight_map": dict[str, str]})
            return [named_file(self.folder, name, _INDEX) for name in sorted(set(index["weight_map"].values()))]
        return [self.folder / _WEIGHTS]

    def shapes(self) -> dict[str, list[int]]:
        """Shape of each tensor, read off the files' heads.

        Raises:
            ValueError: A file is missing or cut off.
        """
        found = {}
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

    def numbers(self) -> dict[str, str]:
        """Of each tensor whether it is of floating-point numbers, of whatever precision, else its type.

        Raises:
            ValueError: An adapter has others.
        """
        kinds = {name: dtype for file in self.files() for name, dtype in dtypes_of(file).items()}
        whole = {name: dtype for name, dtype in kinds.items() if not is_floating(dtype)}
        if whole and self.is_adapter:
            name = next(iter(whole))
            raise ValueError(f"{self.folder} is an adapter of floating-point numbers, got {name} of type {whole[name]}")
        return dict.fromkeys(kinds, "floating point") | whole

    def description(self) -> dict[str, Any]:
        """What its configuration says about architecture and labels.

        Raises:
            ValueError: It has none.
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
    """The checkpoints of a teacher in the order they will teach, all of one architecture, with the same labels and tokenizer.

    Args:
        source: A Trainer's output folder, whose `checkpoint-*` are taken in the order of their steps, or if it has none
            the model in it; or folders in the order wanted. A name such as "team/model@revision" that is no folder is
            taken for a Hub id.
        skip_unreadable: Leave out checkpoints that are missing or half written, instead of refusing them.

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
    names = folders if isinstance(source, str) else source
    found, left_out = [], []
    for number, (folder, name) in enumerate(zip(folders, names, strict=True), start=1):
        checkpoint = Checkpoint(folder, _step_of(name) or number)
        try:
            described = checkpoint.description() | {"tensors": checkpoint.shapes(), "numbers": checkpoint.numbers()}
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
    parse_json(content := path.read_bytes(), str(path), finite=False)  # one that was cut off is not another teacher's
    return content


def _fetched(name: str) -> Path:
    repository, _, revision = name.partition("@")
    if Path(name).is_dir() or Path(name).is_absolute() or repository.count("/") > 1:
        return Path(name)
    return Path(snapshot_download(repository, revision=revision or None))


class Trajectory:
    """Puts one checkpoint after the other into a teacher, in place.

    The weights of the checkpoint that follows are read into host memory in the background, so that a change costs a copy.
    Adapters are folded into the weights they change, so that the teacher computes no more than a whole model.

    Args:
        checkpoints: Of one teacher, in the order they will teach.
    """

    def __init__(self, checkpoints: Sequence[Checkpoint]):
        self.checkpoints = tuple(checkpoints)
        self.current = 0
        self._reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="teacher-checkpoint")
        self._next: tuple[int, Future] | None = None
        self._unfolded: dict[nn.Module, dict[str, Tensor]] = {}  # by layer with an adapter, its weights without it

    @cached_property
    def weights_sha256(self) -> str:
        """SHA-256 of all checkpoints' weight files, which are read for it once."""
        return json_sha256([[file_sha256(file) for file in checkpoint.files()] for checkpoint in self.checkpoints])

    def first_model(self, student: nn.Module) -> str | nn.Module:
        """What to make the teacher of: the first checkpoint's folder, or for an adapter its base with the adapter in it.

        Args:
            student: Says which head the base gets.
        """
        first = self.checkpoints[0]
        if not first.is_adapter:
            return str(first.folder)
        require_extra("peft", "peft", f"the PEFT adapter {first.folder}")
        from peft import PeftModel

        with unsharded_loading():
            name = first.description()["base_model_name_or_path"]
            config = SavedModel.find(str(first.folder)).config  # as many labels as the adapter's head has
            labels = {"id2label": config.id2label, "label2id": config.label2id}
            base = auto_class_of(student).from_pretrained(name, trust_remote_code=False, **labels)
            require_floating_weights(base, name)
        return PeftModel.from_pretrained(base, first.folder).get_base_model()

    def move_to(self, index: int, model: nn.Module) -> bool:
        """Give the teacher the weights of a checkpoint, if it has not got them.

        Args:
            index: Of the checkpoint.
            model: The teacher's model, which keeps its precision and its place.

        Returns:
            Whether anything changed.
        """
        if index == self.current:
            self._fold(model)
            return False
        self._unfold()
        weights = self._next[1].result() if self._next and self._next[0] == index else self._read(index)
        checkpoint, own = self.checkpoints[index], model.state_dict()
        if checkpoint.is_adapter:
            own = {_name_in_adapter(name): tensor for name, tensor in own.items()}
        else:  # some families' files have other names than their modules
            own = revert_weight_conversion(model, own)
        if not weights.keys() <= own.keys():  # files of an older version of the library
            with unsharded_loading():
                older = type(model).from_pretrained(checkpoint.folder, trust_remote_code=False)
            own, weights = model.state_dict(), older.state_dict()
        with torch.no_grad():
            for name, tensor in weights.items():
                own[name].copy_(tensor)
        self._fold(model)
        self.current, self._next = index, None
        return True

    def _fold(self, model: nn.Module) -> None:
        if self._unfolded or not self.checkpoints[0].is_adapter:
            return
        from peft.tuners.tuners_utils import BaseTunerLayer

        with torch.no_grad():
            for layer in model.modules():
                if isinstance(layer, BaseTunerLayer):
                    weights = layer.get_base_layer().state_dict()
                    self._unfolded[layer] = {name: tensor.clone() for name, tensor in weights.items()}
                    layer.merge()

    def _unfold(self) -> None:
        """By copying, as subtracting what was added would leave a trace."""
        for layer, weights in self._unfolded.items():
            layer.get_base_layer().load_state_dict(weights)
            layer.merged_adapters.clear()
        self._unfolded = {}

    def prefetch(self) -> None:
        """Begin to read the checkpoint that follows, unless there is none or it is being read already."""
        following = self.current + 1
        if following < len(self.checkpoints) and (self._next is None or self._next[0] != following):
            self._next = following, self._reader.submit(self._read, following)

    def _read(self, index: int) -> Mapping[str, Tensor]:
        files = map(load_file, self.checkpoints[index].files())
        return {name.removeprefix(_ADAPTER_PREFIX): tensor for file in files for name, tensor in file.items()}


def _name_in_adapter(name: str) -> str:
    """What an adapter's file calls a tensor of the model that the adapter is part of."""
    return re.sub(r"(\.lora_[A-Za-z_]+)\.default", r"\1", name.replace(".modules_to_save.default", ""))

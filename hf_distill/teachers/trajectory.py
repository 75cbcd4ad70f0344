"""A teacher's training checkpoints as a sequence of teachers: one is in memory, the next is read in the background."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from typing import Any, cast

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion

from hf_distill.distributed.weights import unsharded_loading
from hf_distill.extras import require_extra
from hf_distill.fingerprints import file_sha256, json_sha256
from hf_distill.pretrained.files import require_floating_weights
from hf_distill.pretrained.loading import SavedModel
from hf_distill.tasks import auto_class_of
from hf_distill.teachers.checkpoints import Checkpoint

_ADAPTER_PREFIX = "base_model.model."


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
        require_extra("peft", "peft", f"the PEFT adapter {first.folder}")
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
        places = {tensor.data_ptr() for tensor in model.state_dict().values()}
        # Files of an older version of the library, or of a family that joins tensors in them, of which `own` has copies.
        if not weights.keys() <= own.keys() or any(own[name].data_ptr() not in places for name in weights):
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

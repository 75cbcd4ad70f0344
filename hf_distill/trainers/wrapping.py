"""A student in and out of the wrappers of several processes: DDP, a DeepSpeed engine, FSDP2.

transformers 5.23 does not free it by itself: once evaluated it is trained without DDP, so that the processes drift apart
without a word, and engines refuse to be evaluated first or to be trained twice.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.trainer_utils import TrainOutput
from transformers.utils import SAFE_WEIGHTS_NAME

from hf_distill.distributed.sharding import layers_of
from hf_distill.distributed.weights import gathered_copy, is_sharded, load_full_state_dict
from hf_distill.tasks import unwrapped


class Wrapping:
    """The part of `DistillationTrainer` that puts its student into wrappers and takes it out again."""

    _while_wrapping = ExitStack()

    def train(self, *args: Any, **kwargs: Any) -> TrainOutput:
        """Trainer's."""
        self._leave_engine()
        return super().train(*args, **kwargs)

    def _build_accelerator_args(self, **kwargs: Any) -> dict[str, Any]:
        built = super()._build_accelerator_args(**kwargs)
        looks_at_logits = self.args.soft_label_weight != 0 or self.args.hard_label_weight
        if self.args.ddp_find_unused_parameters is None and not looks_at_logits:
            # The head is not used, which Trainer lets DDP find out only without activation checkpoints.
            built["kwargs_handlers"][0].find_unused_parameters = True
        return built

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
        """Trainer's; a student that nothing has wrapped so far is evaluated as it is, and nothing is afterwards."""
        wrapped = bool(self.accelerator._models) or self.model_wrapped is not self.model
        several = self.accelerator.num_processes > 1 or self.is_deepspeed_enabled
        if wrapped or not several or is_sharded(self.model):
            return super().evaluation_loop(*args, **kwargs)
        engines = self.is_deepspeed_enabled, self.is_fsdp_enabled
        self.is_deepspeed_enabled = self.is_fsdp_enabled = False
        self.model.to(self.args.device)
        try:
            return super().evaluation_loop(*args, **kwargs)
        finally:
            self.is_deepspeed_enabled, self.is_fsdp_enabled = engines
            self._unwrap()

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Trainer's; with `merge_adapters` a student with adapters is saved as one ordinary model, unless for a checkpoint."""
        is_for_checkpoint = _internal_call and output_dir is not None
        if is_for_checkpoint or not self.args.merge_adapters or not hasattr(self.model, "merge_and_unload"):
            super().save_model(output_dir, _internal_call)
            return
        student = gathered_copy(self.model)
        if self.args.should_save:
            folder = output_dir or self.args.output_dir
            copy.deepcopy(student).merge_and_unload().save_pretrained(folder)
            if self.processing_class is not None:
                self.processing_class.save_pretrained(folder)
        if self.args.push_to_hub and not _internal_call:
            self.push_to_hub(commit_message="Model save", revision=self.args.hub_revision)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None) -> None:
        """Trainer's; what an engine has gathered is saved as one process would save it."""
        if state_dict is not None and isinstance(self.model, PreTrainedModel):
            own, tied = self.model.state_dict().keys(), self.model.all_tied_weights_keys
            state_dict = {
                name: tensor for name, tensor in state_dict.items() if name in own and tied.get(name) not in state_dict
            }
            # Loaded under ZeRO-3 a model names every conversion there is (transformers 5.23), and would be saved with the
            # names that old checkpoints have.
            if conversions := getattr(self.model, "_weight_conversions", None):
                self.model._weight_conversions = [conversion for conversion in conversions if conversion.was_used()]
        super()._save(output_dir, state_dict)

    def _look_for_unused_parameters(self) -> None:
        """Let DDP search for unused parameters only where there are some: it warns of a search in vain, which costs time."""
        under_ddp = self.accelerator.num_processes > 1 and not (self.is_deepspeed_enabled or self.is_fsdp_enabled)
        handler = self.accelerator.ddp_handler
        if not under_ddp or handler is None or self.args.ddp_find_unused_parameters is not None or self._is_trainer():
            return
        found = self._feature_hooks.has_unused_parameters(unwrapped(self.model), self.training_objective)
        if found is not None:
            handler.find_unused_parameters = found

    def _prepare_for_training(self, *args: Any, **kwargs: Any) -> Any:
        self._look_for_unused_parameters()
        with ExitStack() as self._while_wrapping:
            if self.is_fsdp_enabled:
                plugin = self.accelerator.state.fsdp_plugin
                if plugin.transformer_cls_names_to_wrap is None:  # accelerate's choice would cut tied embeddings in two
                    layers = {type(layer).__name__ for layer in layers_of(self.model)}
                    plugin.transformer_cls_names_to_wrap = sorted(layers)
                self._while_wrapping.enter_context(_aliases_hidden(self.model))
            return super()._prepare_for_training(*args, **kwargs)

    def _load_from_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        self._while_wrapping.close()  # checkpoints have every name that a parameter has
        super()._load_from_checkpoint(*args, **kwargs)

    def _begin_from(self, folder: Path) -> None:
        """Give the student the weights in a folder, free of the training before."""
        self._leave_engine()
        if is_sharded(self.model):
            load_full_state_dict(self.model, load_file(folder / SAFE_WEIGHTS_NAME), strict=False)
        else:
            self._load_from_checkpoint(str(folder))
            self._unwrap()
        self.optimizer = self.lr_scheduler = None

    def _leave_engine(self) -> None:
        """Free the student of the DeepSpeed engine of an earlier training or evaluation, if it has one."""
        engine = self.model_wrapped
        if not self.is_deepspeed_enabled or engine is self.model:
            return
        engine.destroy()
        for hook in (engine.module_forward_pre_hook, engine.module_forward_post_hook):
            hook.remove()
        self.deepspeed = None
        self._unwrap()

    def _unwrap(self) -> None:
        self.model_wrapped = self.model
        self.accelerator._models.clear()
        vars(self.model).pop("_is_accelerate_prepared", None)


@contextmanager
def _aliases_hidden(model: nn.Module) -> Iterator[None]:
    """Within it a parameter of the output layer has no second name, as the bias of BERT's masked-word head has.

    accelerate 1.15 gives FSDP2 the output layer apart from the rest, and torch 2.13 refuses a parameter in two parts.
    """
    head = getattr(model, "get_output_embeddings", lambda: None)()
    own = {} if head is None else dict(head.named_parameters(recurse=False))
    embeddings = {id(parameter) for parameter in model.get_input_embeddings().parameters()} if own else set()
    hidden = [
        (module, alias, name)
        for module in model.modules()
        for alias, parameter in module.named_parameters(recurse=False)
        for name, its in own.items()
        if module is not head and parameter is its and id(parameter) not in embeddings
    ]
    for module, alias, _ in hidden:
        delattr(module, alias)
    try:
        yield
    finally:
        for module, alias, name in hidden:
            module.register_parameter(alias, getattr(head, name))

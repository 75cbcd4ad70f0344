"""A `transformers.Trainer` whose gradient is exact under any partition of a batch, and whose model can be unwrapped."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, Trainer
from transformers.trainer_utils import TrainOutput
from transformers.utils import SAFE_WEIGHTS_NAME

from hf_distill.distributed.deepspeed import default_deepspeed_to_cpu, destroy_engine
from hf_distill.distributed.fsdp import aliases_hidden
from hf_distill.distributed.padded_batches import fill_up_rows, without, without_repeats
from hf_distill.distributed.sharding import layers_of
from hf_distill.distributed.weights import gathered_copy, is_sharded, load_full_state_dict
from hf_distill.files import share_weights
from hf_distill.objectives.hard_labels import float_label_loss, zero_where_ignored
from hf_distill.objectives.model_outputs import Features, ModelOutputs
from hf_distill.objectives.objective import Objective
from hf_distill.objectives.reduction import NO_REAL_EXAMPLE, has_labels, label_items, row_count
from hf_distill.pretrained.progress_bars import without_progress_bars
from hf_distill.tasks import MULTI_LABEL, task_of, unwrapped
from hf_distill.trainers.objective_builder import label_term
from hf_distill.trainers.problem_type import ProblemTypeResolver
from hf_distill.trainers.query_loader import query_loader


class BaseTrainer(Trainer):
    """`transformers.Trainer` with the gradient of the whole batch, however it is split.

    Over micro-batches and processes the loss is the mean over all labels of the optimizer step, also for heads that ignore
    `num_items_in_batch`, such as BERT's; labels of -100 and NaN are ignored; rows that a distributed loader repeats count
    once, in training and in evaluation. The model is unwrapped from DeepSpeed engines, DDP and FSDP2 after a training, so
    that a trainer may be evaluated first, trained again, and given other weights.

    Args:
        *args: Positional arguments of Trainer.
        **kwargs: Keyword arguments of Trainer.

    Attributes:
        task: The task of the model's head. None: the model is no transformers model.
    """

    model: PreTrainedModel  # or any other module; typed as what it nearly always is

    # compute_loss divides by the items of the whole accumulated batch (attribute exists since transformers 5.19).
    loss_is_scaled_for_ga = True

    def __init__(self, *args: Any, **kwargs: Any):
        default_deepspeed_to_cpu()
        super().__init__(*args, **kwargs)
        self.task = task_of(self.model)
        self._problem_type = ProblemTypeResolver(self.task)
        self._not_for_model = {NO_REAL_EXAMPLE}
        self._while_wrapping = ExitStack()

    @property
    def problem_type(self) -> str:
        """The problem type of a classifier of texts or images, as in `PretrainedConfig.problem_type`."""
        return self._problem_type.value

    @property
    def training_objective(self) -> Objective:
        """The weighted terms of the loss: here the loss on labels alone."""
        return Objective([label_term(1.0, self.label_names, self.task, self.problem_type)])

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | float | None = None,
    ) -> Tensor | tuple[Tensor, Any]:
        """The loss on the labels of a micro-batch, scaled for its share of the optimizer step.

        Args:
            model: The model as wrapped for training.
            inputs: The model inputs.
            return_outputs: Whether to return the model's outputs too.
            num_items_in_batch: Items of each term in the optimizer step over all processes, (terms,), or one number for all terms.

        Returns:
            The scalar loss; with `return_outputs` the pair of loss and outputs.
        """
        if self.compute_loss_func is not None:
            counts = num_items_in_batch
            num_items: Any = counts[0] if isinstance(counts, Tensor) and counts.ndim else counts
            return super().compute_loss(model, inputs, return_outputs, num_items)
        label_loss, outputs = self.label_loss(model, inputs)
        found = ModelOutputs(Features(None), hard_label_loss=label_loss, inputs=inputs)
        training = is_training(model)
        loss = self.training_objective(found, inputs, num_items_in_batch if training else None)[0]
        loss = loss * self.gradient_divisor if training else loss
        return (loss, outputs) if return_outputs else loss

    def label_loss(
        self, model: nn.Module, inputs: Mapping[str, Any], positions: Tensor | None = None
    ) -> tuple[Tensor, Any]:
        """The model's own loss on labels, or `compute_loss_func`'s, and its outputs.

        Args:
            model: The model as wrapped for training.
            inputs: The model inputs, labels among them.
            positions: The positions that have logits, bool (batch, sequence). None: all of them.

        Returns:
            The mean over the micro-batch's labels that are not ignored, scalar, and the model's outputs.
        """
        multi_label = self.problem_type == MULTI_LABEL
        model_inputs = without(inputs, self._not_for_model)
        if self.compute_loss_func is not None:
            labels = model_inputs.pop("labels", None)
            outputs = model(**model_inputs)
            count = label_term(1.0, self.label_names, self.task, self.problem_type).items(inputs).sum().float()
            count = (count * (NO_REAL_EXAMPLE not in inputs)).clamp(min=1)
            return self.compute_loss_func(outputs, labels, num_items_in_batch=count), outputs
        if positions is not None:
            model_inputs |= {name: model_inputs[name][positions] for name in self.label_names}
        labels, counted = model_inputs.get("labels"), None
        is_numeric = self.task is not None and self.task.has_problem_type
        if is_numeric and isinstance(labels, Tensor) and labels.is_floating_point():
            counted = label_items(inputs, self.label_names, multi_label=multi_label)
            model_inputs["labels"] = labels = zero_where_ignored(labels, counted)
        # Without num_items_in_batch every head gives the mean over this micro-batch.
        loss, outputs = cast(tuple[Tensor, Any], super().compute_loss(model, model_inputs, return_outputs=True))
        if counted is not None and labels is not None:
            of_counted = float_label_loss(outputs["logits"], labels, counted, multi_label)
            loss = torch.where(counted.all(), loss, of_counted)
        return loss, outputs

    @property
    def gradient_divisor(self) -> int:
        """The factor that undoes the averaging of gradients over processes, over which items are counted already."""
        return self.accelerator.num_processes if self.args.average_tokens_across_devices else 1

    def get_train_dataloader(self) -> DataLoader:
        """Trainer's; with `query_column` in batches of all candidates of their queries."""
        if vars(self.args).get("query_column") is None:
            return super().get_train_dataloader()
        return query_loader(self)

    def get_batch_samples(
        self, epoch_iterator: Iterator, num_batches: int, device: torch.device
    ) -> tuple[list[dict], Tensor | None]:
        """Trainer's micro-batches of a step, without the rows repeated to give every process equally many."""
        batches = list(islice(epoch_iterator, num_batches))
        for batch in batches:
            self._problem_type.infer(batch, unwrapped(self.model))
        if batches:
            batches[-1] = without_repeats(batches[-1], self.accelerator, self.args.dataloader_drop_last)
        return batches, self._get_num_items_in_batch(batches, device)

    def _get_num_items_in_batch(self, batch_samples: list[dict], device: torch.device) -> Tensor | None:
        """Number of items of each term over the micro-batches of a step and all processes, (terms,)."""
        if not batch_samples:
            return None
        objective = self.training_objective
        counts = torch.stack([objective.num_items(batch) for batch in batch_samples]).sum(dim=0).to(device)
        return self.sum_over_processes(counts) if self.args.average_tokens_across_devices else counts

    def sum_over_processes(self, values: Tensor) -> Tensor:
        """The sum of a tensor over all processes, on every one of them."""
        if self.accelerator.num_processes == 1:
            return values
        return self.accelerator.reduce(values.to(self.args.device), reduction="sum")

    @property
    def has_loss_without_labels(self) -> bool:
        """Whether batches without labels can be evaluated, as with a teacher."""
        return False

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[Tensor | None, Any, Any]:
        """Trainer's prediction step, in which rows that a distributed loader repeats count once."""
        self._problem_type.infer(inputs, unwrapped(self.model))
        is_labeled = has_labels(inputs, self.label_names)
        if not (is_labeled or self.has_loss_without_labels):
            return super().prediction_step(model, inputs, prediction_loss_only, ignore_keys)
        kept = without_repeats(inputs, self.accelerator, self.args.dataloader_drop_last)
        if is_labeled:
            loss, logits, labels = super().prediction_step(model, kept, prediction_loss_only, ignore_keys)
        else:
            with torch.no_grad(), self.compute_loss_context_manager():
                loss, outputs = self.compute_loss(model, self._prepare_inputs(kept), return_outputs=True)
            logits, labels = None if prediction_loss_only else self._predictions(outputs, ignore_keys), None
        if kept is not inputs:
            # Every process must gather equally many rows; those added here are the ones the gathering drops.
            logits, labels = fill_up_rows((logits, labels), row_count(inputs))
        return loss, logits, labels

    def _predictions(self, outputs: Mapping[str, Any], ignore_keys: list[str] | None) -> Any:
        """A model's outputs as Trainer returns them: a single tensor, or a tuple of several."""
        if ignore_keys is None:
            config = getattr(unwrapped(self.model), "config", None)
            ignore_keys = getattr(config, "keys_to_ignore_at_inference", ["past_key_values"])
        predictions = tuple(outputs[name] for name in outputs if name not in {"loss", *ignore_keys})
        return predictions[0] if len(predictions) == 1 else predictions

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
        """Trainer's evaluation loop; a model that is not wrapped yet is evaluated as it is, and stays unwrapped.

        transformers 5.23 would afterwards train it without DDP, and refuses to put it into an engine.
        """
        wrapped = bool(self.accelerator._models) or self.model_wrapped is not self.model
        several = self.accelerator.num_processes > 1 or self.is_deepspeed_enabled
        if wrapped or not several or is_sharded(self.model):
            return super().evaluation_loop(*args, **kwargs)
        engines = self.is_deepspeed_enabled, self.is_fsdp_enabled
        self.is_deepspeed_enabled = self.is_fsdp_enabled = False
        cast(nn.Module, self.model).to(self.args.device)
        try:
            return super().evaluation_loop(*args, **kwargs)
        finally:
            self.is_deepspeed_enabled, self.is_fsdp_enabled = engines
            self._unwrap()

    def train(self, *args: Any, **kwargs: Any) -> TrainOutput:
        """Trainer's training; the DeepSpeed engine of an earlier one, which cannot start twice, is destroyed first."""
        self._leave_engine()
        return super().train(*args, **kwargs)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Trainer's; with `merge_adapters` a model with adapters is saved merged, except in checkpoints."""
        is_for_checkpoint = _internal_call and output_dir is not None
        merges = vars(self.args).get("merge_adapters", False)
        if is_for_checkpoint or not merges or not hasattr(self.model, "merge_and_unload"):
            super().save_model(output_dir, _internal_call)
            return
        model = gathered_copy(self.model)
        if self.args.should_save:
            folder = output_dir or str(self.args.output_dir)
            cast(Any, copy.deepcopy(model)).merge_and_unload().save_pretrained(folder)
            if self.processing_class is not None:
                self.processing_class.save_pretrained(folder)
            share_weights(folder)
        if self.args.push_to_hub and not _internal_call:
            self.push_to_hub(commit_message="Model save", revision=self.args.hub_revision)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None) -> None:
        """Trainer's; a state dict gathered by an engine is saved as a single process would save it."""
        if state_dict is not None and isinstance(self.model, PreTrainedModel):
            own, tied = self.model.state_dict().keys(), self.model.all_tied_weights_keys
            state_dict = {
                name: tensor for name, tensor in state_dict.items() if name in own and tied.get(name) not in state_dict
            }
            # Loaded under ZeRO-3 a model names every conversion there is (transformers 5.23), and would be saved with the
            # names that old checkpoints have.
            if conversions := getattr(self.model, "_weight_conversions", None):
                used = [conversion for conversion in conversions if conversion.was_used()]
                setattr(self.model, "_weight_conversions", used)  # noqa: B010  (a list is no parameter or module)
        with without_progress_bars():  # a bar for every checkpoint would break up that of the training
            super()._save(output_dir, state_dict)
        share_weights(output_dir or str(self.args.output_dir))

    def has_unused_parameters(self) -> bool | None:
        """Whether there are trainable parameters that the loss does not depend on. None: unknown."""
        return None

    def _prepare_for_training(self, *args: Any, **kwargs: Any) -> Any:
        """Trainer's; DDP searches for unused parameters only where there are some, and FSDP2 wraps whole layers."""
        handler, ours = self.accelerator.ddp_handler, self.args.ddp_find_unused_parameters is None
        under_ddp = self.accelerator.num_processes > 1 and not (self.is_deepspeed_enabled or self.is_fsdp_enabled)
        if under_ddp and handler is not None and ours and (found := self.has_unused_parameters()) is not None:
            handler.find_unused_parameters = found
        with ExitStack() as self._while_wrapping:
            if self.is_fsdp_enabled:
                plugin = self.accelerator.state.fsdp_plugin
                if plugin.transformer_cls_names_to_wrap is None:  # accelerate's choice would cut tied embeddings in two
                    layers = {type(layer).__name__ for layer in layers_of(self.model)}
                    plugin.transformer_cls_names_to_wrap = sorted(layers)
                self._while_wrapping.enter_context(aliases_hidden(self.model))
            return super()._prepare_for_training(*args, **kwargs)

    def _init_training_state(self, max_steps: int, *args: Any) -> Any:
        """Trainer's; shares of all steps, such as logging_steps=0.05, are compared with a checkpoint's numbers as such."""
        shares = {name: getattr(self.args, name) for name in ("logging_steps", "eval_steps", "save_steps")}
        shares = {name: share for name, share in shares.items() if share is not None and 0 < share < 1}
        for name, share in shares.items():
            setattr(self.args, name, math.ceil(max_steps * share))
        try:
            return super()._init_training_state(max_steps, *args)
        finally:
            for name, share in shares.items():
                setattr(self.args, name, share)

    def _load_from_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        self._while_wrapping.close()  # checkpoints have every name that a parameter has
        super()._load_from_checkpoint(*args, **kwargs)

    def load_weights(self, folder: Path) -> None:
        """Load the weights in a folder, and discard the optimizer and schedule of the training before."""
        self._leave_engine()
        self.replace_weights(folder)
        if not is_sharded(self.model):
            self._unwrap()
        self.optimizer = self.lr_scheduler = None

    def replace_weights(self, folder: Path) -> None:
        """Load the weights in a folder into the model as it is, also within the engine of the training before."""
        if is_sharded(self.model):
            load_full_state_dict(self.model, load_file(folder / SAFE_WEIGHTS_NAME), strict=False)
        else:
            self._load_from_checkpoint(str(folder))

    def _leave_engine(self) -> None:
        """Free the model of the DeepSpeed engine of an earlier training or evaluation, if it has one."""
        if self.is_deepspeed_enabled and self.model_wrapped is not self.model:
            destroy_engine(self.model_wrapped)
            self.deepspeed = None
            self._unwrap()

    def _unwrap(self) -> None:
        self.model_wrapped = self.model
        self.accelerator._models.clear()
        vars(self.model).pop("_is_accelerate_prepared", None)


def is_training(model: nn.Module) -> bool:
    """Whether a model is in training mode; for a DeepSpeed engine the model inside, whose mode may differ."""
    return getattr(model, "module", model).training

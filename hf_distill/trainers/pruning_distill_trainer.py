"""A `DistillationTrainer` whose student shrinks while it learns."""

from __future__ import annotations

import copy
import dataclasses
import gc
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from accelerate.utils import has_compiled_regions
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from transformers import PreTrainedModel, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, IntervalStrategy

from hf_distill.distributed.ddp import change_wrapped_shapes
from hf_distill.distributed.deepspeed import before_steps, change_shapes
from hf_distill.features.projections import Projection
from hf_distill.preflight.argument_types import require_arguments
from hf_distill.pruning.shrinking import ShrinkingStudent
from hf_distill.pruning.structure import keeps_head_size
from hf_distill.tasks import unwrapped
from hf_distill.teachers.base import TeacherOutputs
from hf_distill.trainers.distillation_trainer import DistillationTrainer
from hf_distill.trainers.pruning_distill_arguments import PruningDistillTrainingArguments

logger = logging.getLogger(__name__)


class PruningDistillTrainer(DistillationTrainer):
    """HomoDistil: the student starts as a copy of its teacher and is pruned while it is distilled.

    Nothing is masked: at every event the student's matrices, its config and its optimizer's moments become smaller, so
    that training gets cheaper, and every checkpoint is a stock model. Hidden states are compared with those of the
    teacher's dimensions that the student still has, without a projection.

    Args:
        model: The student, as wide as its teacher and of its family. None: a copy of the teacher, given as a model.
        args: `PruningDistillTrainingArguments` with a target size.
        *trainer_args: Further positional arguments of Trainer.
        teacher_model: The teacher, see `DistillationTrainer`.
        **trainer_kwargs: Keyword arguments of Trainer and `DistillationTrainer`.

    Raises:
        ValueError: A target cannot be reached, the student does not have its teacher's shape, or it would be trained under
            FSDP, DeepSpeed ZeRO-3, or DeepSpeed with offload or fp16.

    Source:
        Liang et al. 2023, arXiv 2302.09632. Slicing in place of masks, and comparing the dimensions that are left, are
        ours.
    """

    args: PruningDistillTrainingArguments
    _shrinking: ShrinkingStudent | None = None

    def __init__(
        self,
        model: PreTrainedModel | nn.Module | None = None,
        args: PruningDistillTrainingArguments | None = None,
        *trainer_args: Any,
        teacher_model: Any = None,
        **trainer_kwargs: Any,
    ):
        if args is None:
            raise ValueError("args must be PruningDistillTrainingArguments with a target size, got None")
        require_arguments(args, PruningDistillTrainingArguments)
        if model is None and not isinstance(teacher_model, PreTrainedModel) and "model_init" not in trainer_kwargs:
            raise ValueError(
                "model is None, which stands for a copy of the teacher: then teacher_model must be a model, got a "
                f"{type(teacher_model).__name__}; load it with from_pretrained, or pass a model"
            )
        if model is None and isinstance(teacher_model, PreTrainedModel):
            model = copy.deepcopy(teacher_model).requires_grad_(True)
        if args.load_best_model_at_end or args.projection is Projection.ALWAYS:
            got = f"load_best_model_at_end={args.load_best_model_at_end}, projection={args.projection.value!r}"
            raise ValueError(
                "a shrinking student ends with its last size and is compared without projections: load_best_model_at_end must "
                f"be False and projection 'auto' or 'never', got {got}"
            )
        super().__init__(model, args, *trainer_args, teacher_model=teacher_model, **trainer_kwargs)
        self._require_engine_that_can_shrink()
        self._logged_step, self._logged_time, self._logged_flops = 0, 0.0, 0.0
        self._shrinking = ShrinkingStudent(self._student, args.shrinking_plan())
        if args.max_steps > 0:
            self.shrinking.events(args.max_steps)  # refuses too few steps
        self._require_comparable_shapes()
        self.add_callback(_ShrinkingCallback(self))

    @property
    def shrinking(self) -> ShrinkingStudent:
        """The student with its pruning schedule."""
        assert self._shrinking is not None, "the trainer is not yet made"
        return self._shrinking

    @property
    def _student(self) -> PreTrainedModel:
        """The model itself, not its wrapper."""
        return cast(PreTrainedModel, unwrapped(self.model))

    def start_interval(self) -> None:
        """Measure the FLOPs and the time of the next log from now on."""
        self._logged_step, self._logged_time = self.state.global_step, time.perf_counter()
        self._logged_flops = self.cost_tracker.total.flops

    def _require_engine_that_can_shrink(self) -> None:
        if not (self.is_fsdp_enabled or self.is_deepspeed_enabled):
            return
        found = "FSDP"
        if self.is_deepspeed_enabled:
            plugin, precision = self.accelerator.state.deepspeed_plugin, self.accelerator.mixed_precision
            offload = plugin.hf_ds_config.is_offload()
            if plugin.zero_stage <= 2 and not offload and precision != "fp16":
                return
            found = f"ZeRO-{plugin.zero_stage}, offload {offload}, mixed precision {precision}"
        raise ValueError(
            "a student shrinks in one process, under DDP, or under DeepSpeed ZeRO-0, 1 or 2 without offload in fp32 or "
            f"bf16, got {found}. FSDP and ZeRO-3 shard the weights, and the optimizer states of offload and fp16 cannot be cut."
        )

    def _require_comparable_shapes(self) -> None:
        student, teacher = self._student, None if self.teacher is None else self.teacher.config
        if (self.args.hidden_state_weight or self.args.embedding_weight) and (
            teacher is None
            or teacher.model_type != student.config.model_type
            or teacher.hidden_size != student.config.hidden_size
        ):
            found = None if teacher is None else f"{teacher.model_type} {teacher.hidden_size} wide"
            raise ValueError(
                f"hidden states of a shrinking student are compared with its own teacher's: a {student.config.model_type} "
                f"{student.config.hidden_size} wide, got {found}. Start from a copy of the teacher (model=None)."
            )
        if self.args.attention_weight and self.shrinking.target.heads != student.config.num_attention_heads:
            way = "" if keeps_head_size(student.config) else "narrow the heads instead, or "
            raise ValueError(
                f"attention is compared head by head, so all {student.config.num_attention_heads} heads must stay, got "
                f"target_num_attention_heads {self.shrinking.target.heads}; {way}set attention_weight to 0"
            )

    def teacher_forward(self, inputs: Mapping[str, Any], training: bool) -> TeacherOutputs:
        """`DistillationTrainer`'s; hidden states have the dimensions that the student still has."""
        outputs = super().teacher_forward(inputs, training)
        if self._shrinking is None or not outputs.hidden_states:
            return outputs
        kept = torch.tensor(self.shrinking.kept_hidden)
        states = {index: each.index_select(-1, kept.to(each.device)) for index, each in outputs.hidden_states.items()}
        return dataclasses.replace(outputs, hidden_states=states)

    def shrink(self, optimizer: torch.optim.Optimizer | None) -> None:
        """Run the next pruning event. All processes have the same gradients, so they keep the same units."""
        wrapper: Any = self.model_wrapped
        self.cost_tracker.step_costs.forget_shapes()
        if has_compiled_regions(wrapper):
            gc.collect()  # graphs of earlier steps, which expect gradients of the old shapes
        if self.is_deepspeed_enabled:
            change_shapes(wrapper, self.shrinking.shrink)
            cast(Any, self.optimizer).optimizer = wrapper.optimizer
        elif isinstance(wrapper, DistributedDataParallel):
            change_wrapped_shapes(wrapper, lambda: self.shrinking.shrink(optimizer))
        else:
            self.shrinking.shrink(optimizer)

    def charge_importance(self) -> None:
        """Count the cost of computing importance: a product, an absolute value and a sum for every parameter."""
        self.cost_tracker.step_costs.pruning_flops += 3 * self._student.num_parameters()

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """`DistillationTrainer`'s log; training steps also report the student's width, parameters and cost per step."""
        if "loss" in logs:
            student, steps = self._student, max(self.state.global_step - self._logged_step, 1)
            logs |= {"hidden_size": student.config.hidden_size, "parameters": student.num_parameters()}
            self.sync_cost()
            logs["step_gflops"] = (self.cost_tracker.total.flops - self._logged_flops) / steps / 1e9
            logs["step_ms"] = 1000 * (time.perf_counter() - self._logged_time) / steps
            self.start_interval()
        super().log(logs, start_time)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        folder = Path(self._get_output_dir(trial=trial), f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}")
        if self.args.should_save:
            self.shrinking.save(folder)
        super()._save_checkpoint(model, trial)

    def _prepare_for_training(self, max_steps: int, train_dataloader: Any, resume_from_checkpoint: str | None) -> Any:
        if self.is_deepspeed_enabled and resume_from_checkpoint is not None:  # goes without _load_from_checkpoint
            self.shrinking.load(Path(resume_from_checkpoint))
        return super()._prepare_for_training(max_steps, train_dataloader, resume_from_checkpoint)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        self.shrinking.load(Path(resume_from_checkpoint))
        super()._load_from_checkpoint(resume_from_checkpoint, model)


class _ShrinkingCallback(TrainerCallback):
    def __init__(self, trainer: PruningDistillTrainer):
        self._trainer = trainer
        self._events: list[int] = []

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._events = self._trainer.shrinking.events(self._trainer.training_position()[1])
        self._warn_of_first_step()
        self._trainer.start_interval()
        if self._trainer.is_deepspeed_enabled:
            before_steps(self._trainer.model_wrapped, self._is_to_shrink, lambda: self._note_gradients(args, state))

    def _warn_of_first_step(self) -> None:
        learns_labels = "hard_label" in self._trainer.training_objective
        if self._events[0] == 1 and self._trainer.args.importance.reads_gradients and not learns_labels:
            logger.warning(
                "the student first shrinks after step 1, by the gradients of a student that still equals its teacher, which are dropout and "
                "rounding errors alone; with a pruning_start above 0 it learns before it shrinks"
            )

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self._is_to_shrink() and not self._trainer.is_deepspeed_enabled:  # which has stepped already
            self._note_gradients(args, state)

    def _is_to_shrink(self) -> bool:
        return self._trainer.shrinking.done < len(self._events)

    def _note_gradients(self, args: TrainingArguments, state: TrainerState) -> None:
        self._trainer.shrinking.note_gradients(seed=args.seed + state.global_step)
        self._trainer.charge_importance()

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        optimizer: Any = None,
        **kwargs: Any,
    ) -> None:
        shrinking, position = self._trainer.shrinking, self._trainer.training_position()[0]
        due = sum(event <= position for event in self._events)
        if due > shrinking.done:
            shrinking.done = due - 1  # of several that are due, as one step may spend much of a budget, the last
            self._trainer.shrink(getattr(optimizer, "optimizer", optimizer))
            control.should_log |= args.logging_strategy != IntervalStrategy.NO  # with the new sizes

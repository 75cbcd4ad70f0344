"""A drop-in replacement of `transformers.Trainer` that also learns from a teacher."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import datasets
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, Sampler
from transformers import PreTrainedModel, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, TrainOutput

from hf_distill.data.length_bucket_sampler import length_bucket_sampler
from hf_distill.distributed.padded_batches import without
from hf_distill.features.tap import features_of
from hf_distill.objectives.model_outputs import ModelOutputs
from hf_distill.objectives.objective import Objective
from hf_distill.objectives.reduction import SoftLabelPositions, has_labels, label_items, valid_positions
from hf_distill.precomputed.checks import require_same_teacher
from hf_distill.precomputed.provenance import Provenance
from hf_distill.precomputed.resolve import resolve_teacher
from hf_distill.preflight.argument_rules import require_valid_objective, resolve_defaults
from hf_distill.preflight.argument_types import require_arguments, require_model
from hf_distill.preflight.models import named_sets, require_sound_inputs
from hf_distill.preflight.student_defaults import resolve_student_defaults
from hf_distill.preflight.training import require_nonempty, require_own_process_group, require_writable
from hf_distill.quantization import set_quantization
from hf_distill.tasks import logits_of, unwrapped
from hf_distill.teachers.alignment import take_over_label_names, take_over_problem_type
from hf_distill.teachers.base import GivesOutputs, Teacher, TeacherOutputs
from hf_distill.teachers.shared_vocabulary import SharedVocabulary, tokenizer_of
from hf_distill.trainers.base_trainer import is_training
from hf_distill.trainers.callbacks import ObjectiveCheckCallback, RunRecordCallback
from hf_distill.trainers.checkpoints import last_complete_checkpoint, require_optimizer_state
from hf_distill.trainers.distillation_arguments import DistillationTrainingArguments, with_distillation_defaults
from hf_distill.trainers.finite_checks import FiniteChecks
from hf_distill.trainers.objective_builder import build_objective, compared_items, evaluation_objective
from hf_distill.trainers.preparation import build_hooks, prepared_hooks
from hf_distill.trainers.publishing_trainer import PublishingTrainer
from hf_distill.trainers.resuming import load_finished, resume_point, training_lock
from hf_distill.trainers.run_settings import add_run_settings, add_teacher_identity
from hf_distill.trainers.running_mean import RunningMean
from hf_distill.trainers.teacher_metrics import TeacherMetrics


class DistillationTrainer(PublishingTrainer):
    """`transformers.Trainer` with a teacher.

    Takes everything Trainer takes, in the same positions. Without a teacher, and with plain `TrainingArguments`, it
    adds nothing: its weights are bit-identical to Trainer's, and there is no additional callback, file or state. Only under
    gradient accumulation or several processes it has the gradient of the whole batch, where Trainer has a multiple of it
    for heads that ignore `num_items_in_batch`, such as BERT's, and evaluation on several processes counts no example twice.

    Args:
        model: The student.
        args: `DistillationTrainingArguments`, or plain `TrainingArguments`, which distill with the defaults.
        *trainer_args: Further positional arguments of Trainer.
        teacher_model: A model, a Hub id, a local path, or any `Teacher`. None: labels only, unless the training set
            has a `teacher_logits` column (see `label_transfer_set`). A model is frozen in place. A list: the mean of
            their probabilities, weighted by `teacher_weights`.
        teacher_processing_class: The tokenizer or image processor of a teacher that reads its own columns of the data (see
            `encode_for_teacher`) instead of the student's inputs. For several teachers a list, with None for those that
            read the student's inputs.
        **trainer_kwargs: Keyword arguments of Trainer.

    Attributes:
        teacher: The `Teacher`. None: there is none.
        feature_hooks: The hooks on student and teacher that capture features.
        has_computed_objective: Whether `compute_loss` of this class ran in training, which a subclass may not call.
        extensions: The points at which the run was extended, see `RunSettingsCallback`.

    Raises:
        ValueError: Teacher and student do not match (labels, vocabulary, untrained head), all weights are 0, or the
            training set is empty or lacks labels that are needed.
        OSError: The output folder cannot be written.

    Source:
        Hinton et al. 2015, arXiv 1503.02531; by default stage 2 of Turc et al. 2019, arXiv 1908.08962.
    """

    args: DistillationTrainingArguments  # plain ones get the same fields
    teacher: Teacher | None = None

    def __init__(
        self,
        model: PreTrainedModel | nn.Module | None = None,
        args: TrainingArguments | None = None,
        *trainer_args: Any,
        teacher_model: PreTrainedModel | nn.Module | GivesOutputs | str | os.PathLike | list | None = None,
        teacher_processing_class: Any = None,
        **trainer_kwargs: Any,
    ):
        if args is None:
            defaults = TrainingArguments if teacher_model is None else DistillationTrainingArguments
            args = defaults(output_dir="tmp_trainer")
        require_arguments(args)
        require_model(model)
        require_writable(args)
        super().__init__(model, with_distillation_defaults(args), *trainer_args, **trainer_kwargs)
        set_quantization(self.model, self.args.quantization)
        resolved = resolve_teacher(
            self.args,
            teacher_model,
            teacher_processing_class,
            self.model,
            self.processing_class,
            lambda: self.problem_type,
            self.data_collator,
            self.train_dataset,
            [dataset for _, dataset in named_sets(None, self.eval_dataset)],
        )
        self.teacher, self.data_collator = resolved.teacher, resolved.data_collator
        if self.teacher is not None:
            resolve_student_defaults(self.args, self.model, self.train_dataset)
        read_by_student = set(inspect.signature(unwrapped(self.model).forward).parameters)
        read_by_teacher = set() if self.teacher is None else set(self.teacher.input_names)
        queries = {self.args.query_column} if self.args.query_column else set()
        self._teacher_inputs = (resolved.columns | read_by_teacher | queries) - read_by_student
        self._not_for_model |= self._teacher_inputs
        self._term_means, self._teacher_metrics = RunningMean(), TeacherMetrics()
        self._finite_checks = FiniteChecks(self.processing_class, is_scaled=self.args.fp16)
        self.has_computed_objective = False
        self.extensions: list[dict[str, Any]] = []
        self._wants_predictions = False  # whether the current evaluation returns all logits
        self.shared_vocabulary = SharedVocabulary(self.task, tokenizer_of(self))
        if not self.is_plain:
            require_sound_inputs(self)
        self.feature_hooks = prepared_hooks(self, resolved.columns)
        self._add_budget_callbacks()
        if not self.is_plain:
            require_own_process_group(self.args)
            add_run_settings(self)
            self.add_callback(ObjectiveCheckCallback(self))
            self.add_callback(RunRecordCallback(self))

    @property
    def is_plain(self) -> bool:
        """Whether nothing is added to Trainer: there is no teacher, and the arguments are plain and hold no budget."""
        return self.teacher is None and super().is_plain

    @property
    def _teacher(self) -> Teacher:
        assert self.teacher is not None, "there is no teacher"
        return self.teacher

    @property
    def training_objective(self) -> Objective:
        """The weighted terms of the loss, selected by the arguments, which a hyperparameter search may change."""
        student = unwrapped(self.model)
        return build_objective(self.args, student, self.teacher, self.task, self.problem_type, self.label_names)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | float | None = None,
    ) -> Tensor | tuple[Tensor, Any]:
        """The objective's value for a micro-batch, scaled for its share of the optimizer step.

        Args:
            model: The student as wrapped for training.
            inputs: The model inputs, with labels where the batch has them.
            return_outputs: Whether to return the student's outputs too.
            num_items_in_batch: Items of each term in the optimizer step over all processes, (terms,), or one number for all.

        Returns:
            The scalar loss; with `return_outputs` the pair of loss and student outputs.
        """
        if self.is_plain:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        training = is_training(model)
        evaluates = self.teacher is not None and not training
        objective = evaluation_objective(self, inputs) if evaluates else self.training_objective
        positions = self._positions_to_predict(inputs, training)
        with self.feature_hooks.capture(bool(objective.student_needs), positions):
            label_loss, outputs = self.student_forward(model, inputs, objective, positions)
            asks_teacher = self._teacher.provides(inputs) if evaluates else objective.needs_teacher
            teacher = self.teacher_forward(inputs, training) if asks_teacher else None
        valid = valid_positions(inputs)
        student = features_of(outputs, None if teacher is None else logits_of(outputs, valid))
        model_outputs = ModelOutputs(*self.shared_vocabulary.of_both(student, teacher), label_loss, valid, inputs)
        loss, parts, shares = objective(model_outputs, inputs, num_items_in_batch if training else None)
        if training:
            members = () if teacher is None else self._teacher.running_members(inputs)
            predictions = None if positions is None else len(outputs["logits"])
            self.cost_tracker.add_step(unwrapped(self.model), members, inputs, objective, predictions)
            self._finite_checks.losses.add(loss, step=self.state.global_step + 1)
            sums = zip(objective.terms, torch.stack([parts, shares], dim=1), strict=True)
            self._term_means.add({f"{term.name}_loss": part_and_share for term, part_and_share in sums})
            self.has_computed_objective = True
            loss = loss * self.gradient_divisor
        elif evaluates:
            items = compared_items(self)
            self._teacher_metrics.add(model_outputs, inputs, objective, loss, parts, self.problem_type, items)
        return (loss, outputs) if return_outputs else loss

    def student_forward(
        self, model: nn.Module, inputs: Mapping[str, Any], objective: Objective, positions: Tensor | None
    ) -> tuple[Tensor | None, Any]:
        """The student's forward pass.

        Args:
            model: The student as wrapped for training.
            inputs: The model inputs.
            objective: The objective to be computed.
            positions: The positions that have logits, bool (batch, sequence). None: all of them.

        Returns:
            The student's own loss on labels, scalar (None where the objective has no such term), and its outputs.
        """
        if "hard_label" in objective:
            return self.label_loss(model, inputs, positions)
        return None, model(**without(inputs, {*self._not_for_model, *self.label_names}))

    def teacher_forward(self, inputs: Mapping[str, Any], training: bool) -> TeacherOutputs:
        """The teacher's outputs for a micro-batch, from a forward pass or from columns of the data.

        Args:
            inputs: The model inputs.
            training: Whether the student is trained, not evaluated.

        Returns:
            The outputs, without gradient.

        Raises:
            FloatingPointError: Logits on a CPU are not finite.
        """
        outputs = self._teacher.outputs(without(inputs, self.label_names))
        logits = outputs.require_logits() if outputs.top is None else outputs.top.log_probabilities
        self._finite_checks.logits.add(logits, inputs, step=self.state.global_step + 1)
        return outputs

    def _positions_to_predict(self, inputs: Mapping[str, Any], training: bool) -> Tensor | None:
        """The masked positions, bool (batch, sequence), if only their logits are needed; else None."""
        of_masked = self.args.soft_label_positions is SoftLabelPositions.MASKED
        is_possible = of_masked and self.feature_hooks.picks_positions and has_labels(inputs, self.label_names)
        if not is_possible or (self._wants_predictions and not training) or self.compute_loss_func is not None:
            return None
        return label_items(inputs, self.label_names)

    @property
    def has_loss_without_labels(self) -> bool:
        """Whether there is a teacher, with whose outputs batches without labels are compared."""
        return self.teacher is not None

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[Tensor | None, Any, Any]:
        """`BaseTrainer`'s; the loss of the evaluation includes what a subclass adds to the objective."""
        self._wants_predictions = not prediction_loss_only
        loss, logits, labels = super().prediction_step(model, inputs, prediction_loss_only, ignore_keys)
        self._teacher_metrics.add_own(loss)
        return loss, logits, labels

    def evaluation_loop(self, *args: Any, metric_key_prefix: str = "eval", **kwargs: Any) -> Any:
        """Trainer's evaluation loop; with a teacher its metrics include each term and the fidelity to the teacher."""
        dataset = getattr(args[0] if args else kwargs["dataloader"], "dataset", None)
        if not self.is_plain:
            rows = list(dataset.take(1)) if isinstance(dataset, datasets.IterableDataset) else dataset
            require_nonempty(rows, f"the evaluation set of the metrics {metric_key_prefix}_...", "evaluation")
        output = super().evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **kwargs)
        metrics = self._teacher_metrics.read(self.training_objective, self.sum_over_processes)
        output.metrics.update({f"{metric_key_prefix}_{name}": value for name, value in metrics.items()})
        return output

    def has_unused_parameters(self) -> bool | None:
        """Whether the student has trainable parameters that the objective does not depend on. None: unknown."""
        if self.is_plain:
            return None
        student, objective = unwrapped(self.model), self.training_objective
        looks_at_logits = self.args.soft_label_weight != 0 or self.args.hard_label_weight
        found = self.feature_hooks.has_unused_parameters(student, objective)
        return True if found is None and not looks_at_logits else found

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        columns = cast(list[str], self._signature_columns)  # which Trainer has just set
        columns += [name for name in self._teacher_inputs if name not in columns]

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Trainer's; an optimizer passed as `optimizers` gets a parameter group for the projections, with its own defaults."""
        optimizer = super().create_optimizer(model)
        if self.feature_hooks.projections is not None:
            known = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
            new = [each for each in self.feature_hooks.projections.parameters() if id(each) not in known]
            if new:
                optimizer.add_param_group({"params": new})
        return optimizer

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler | None:
        if self.args.length_bucketing and self.args.train_sampling_strategy == "random":
            dataset: Any = self.train_dataset if train_dataset is None else train_dataset
            sampler = length_bucket_sampler(
                dataset, self.args, self._train_batch_size, lambda: int(self.state.epoch or 0)
            )
            if sampler is not None:
                return sampler
        return super()._get_train_sampler(train_dataset)

    def _hp_search_setup(self, trial: Any) -> None:
        """Trainer's, called when a training starts, after its student and before its optimizer is created.

        The arguments that a recipe fills in are resolved again, since a trial may choose another recipe, and hooks are
        attached to a new student of `model_init`.
        """
        searches = trial is not None and isinstance(self.args, DistillationTrainingArguments)
        if searches:
            self.args.open_again()
        super()._hp_search_setup(trial)
        if searches:
            resolve_defaults(self.args)
            require_valid_objective(self.args)
        if self.model_init is None:
            return
        set_quantization(self.model, self.args.quantization)
        if not self.is_plain:
            self.feature_hooks = build_hooks(self, self.training_objective, self.feature_hooks.example)

    def call_model_init(self, trial: Any = None) -> nn.Module:
        """A new student for a trial of a hyperparameter search, with the label names and problem type of the first."""
        model = super().call_model_init(trial)
        known = getattr(unwrapped(self.model), "config", None) if hasattr(self, "feature_hooks") else None
        if known is not None:
            new: Any = unwrapped(model).config
            take_over_label_names(new, known)
            take_over_problem_type(new, getattr(known, "problem_type", None), "the student before")
        return model

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> TrainOutput:
        """Trainer's training; only the run that wrote a checkpoint resumes from it, and a finished run makes no further step.

        Args:
            resume_from_checkpoint: A checkpoint's folder, or True: the last complete checkpoint in `output_dir`.
            *args: Further positional arguments of `Trainer.train`.
            **kwargs: Keyword arguments of `Trainer.train`.

        Returns:
            Number of steps, mean loss and metrics.

        Raises:
            ValueError: There is no such checkpoint, it is another run's, or the rows it has seen cannot be found again.
            FolderInUseError: Another process trains into `output_dir`; names it.
        """
        if self.is_plain:
            if resume_from_checkpoint is True:
                resume_from_checkpoint = last_complete_checkpoint(str(self.args.output_dir)) or True
            return super().train(resume_from_checkpoint, *args, **kwargs)
        with training_lock(self.args):
            point = resume_point(self, resume_from_checkpoint)
            self.extensions = point.extensions
            if point.finished is not None:
                return load_finished(self, point)
            return super().train(point.checkpoint, *args, **kwargs)

    def training_notes(self) -> dict[str, Any]:
        """Additional entries of the run record about the training."""
        return {"extensions": self.extensions} if self.extensions else {}

    def teacher_identity(self) -> Any:
        """What distinguishes the teacher from others, as JSON; every process must call it."""
        return None if self.teacher is None else self.teacher.identity()

    def require_same_teacher(self, found: Mapping[str, Provenance]) -> None:
        """Refuse precomputed outputs, by column, of another teacher than the live one."""
        require_same_teacher(list(found.values()), cast(Teacher, self._teacher.live))

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Trainer's log; with a teacher, training steps also report each term, averaged over the steps since the last log."""
        if not self.is_plain and ("loss" in logs or "train_loss" in logs):
            self._finite_checks.require(self.state.global_step, self.model if "train_loss" in logs else None)
        if self.teacher is not None and "loss" in logs:
            logs.update(self._term_means.read(self.sum_over_processes))
        elif "train_loss" in logs:
            self._term_means.clear()
        super().log(logs, start_time)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        self._finite_checks.require(self.state.global_step, None if self.is_plain else self.model)
        add_teacher_identity(self)
        folder = Path(self._get_output_dir(trial=trial), f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}")
        self.feature_hooks.save(folder, writes=self.args.should_save)
        super()._save_checkpoint(model, trial)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        # Not in _load_from_checkpoint, which DeepSpeed goes without.
        if checkpoint is not None:
            require_optimizer_state(Path(checkpoint), self.is_deepspeed_enabled)
            self.feature_hooks.load(Path(checkpoint))
        super()._load_optimizer_and_scheduler(checkpoint)

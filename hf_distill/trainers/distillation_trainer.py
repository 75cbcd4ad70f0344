"""A drop-in `transformers.Trainer` that also learns from a teacher."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, Sampler
from transformers import PreTrainedModel, Trainer, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from hf_distill.data.length_bucket_sampler import length_bucket_sampler
from hf_distill.distributed.padded_batches import without, without_repeats
from hf_distill.features.hooks import FeatureHooks
from hf_distill.features.tap import features_of
from hf_distill.objectives.hard_labels import float_label_loss, zero_where_ignored
from hf_distill.objectives.model_outputs import ModelOutputs
from hf_distill.objectives.objective import Objective
from hf_distill.objectives.reduction import (
    NO_REAL_EXAMPLE,
    SoftLabelPositions,
    has_labels,
    label_items,
    valid_positions,
)
from hf_distill.tasks import MULTI_LABEL, Task, logits_of, task_of, unwrapped
from hf_distill.teachers.alignment import take_over_label_names, take_over_problem_type
from hf_distill.teachers.base import Teacher, TeacherOutputs
from hf_distill.teachers.column_names import TEACHER_LOGITS
from hf_distill.teachers.resolve import require_comparable
from hf_distill.trainers.argument_rules import require_valid_objective, settle
from hf_distill.trainers.argument_types import require_arguments, require_model
from hf_distill.trainers.callbacks import RunRecordCallback
from hf_distill.trainers.checkpoints import require_optimizer_state
from hf_distill.trainers.continuation import Continuation
from hf_distill.trainers.distillation_arguments import DistillationTrainingArguments, complete
from hf_distill.trainers.label_meaning import LabelMeaning
from hf_distill.trainers.loss_watch import FiniteLossCheck, require_finite_weights
from hf_distill.trainers.model_cards import ModelCards
from hf_distill.trainers.model_checks import own_encodings, require_comparable_answers, require_sound_inputs
from hf_distill.trainers.objective_builder import build_objective
from hf_distill.trainers.preflight import (
    first_batch,
    require_gradients_under_zero3,
    require_labels,
    require_no_scheduler,
    require_nonempty,
    require_teacher_inputs,
    require_writable,
    warn_of_unused,
)
from hf_distill.trainers.recorded_answers import RecordedAnswers
from hf_distill.trainers.running_mean import RunningMean
from hf_distill.trainers.shared_vocabulary import SharedVocabulary, tokenizer_of
from hf_distill.trainers.spending import Spending
from hf_distill.trainers.teacher_evaluation import TeacherEvaluation
from hf_distill.trainers.teacher_watch import FiniteLogitsCheck
from hf_distill.trainers.wrapping import Wrapping


class DistillationTrainer(Continuation, TeacherEvaluation, RecordedAnswers, ModelCards, Wrapping, Spending, Trainer):
    """`transformers.Trainer` with a teacher.

    Takes everything Trainer takes, in the same positions. Without a teacher, and with plain `TrainingArguments`, it
    adds nothing: it reaches Trainer's weights, bit for bit, and leaves no callback, file or state more; but under
    gradient accumulation or several processes it gives the gradient of the whole batch, where Trainer gives a multiple of
    it for heads that ignore `num_items_in_batch`, such as BERT's, and on several processes its loss of an evaluation counts
    no example twice.

    Args:
        model: The student.
        args: `DistillationTrainingArguments`, or plain `TrainingArguments`, which distill with the defaults.
        teacher_model: A model, a Hub id, a local path, or any `Teacher`. None: labels only, unless the training set
            has a `teacher_logits` column (see `label_transfer_set`). A model is frozen in place. A list: the mean of
            their probabilities, weighted by `teacher_weights`.
        teacher_processing_class: The tokenizer or image processor of a teacher that does not read the student's
            inputs but its own columns of the data (see `encode_for_teacher`); for several teachers a list, None for
            those that do.
        trainer_args: Further positional arguments of Trainer.
        trainer_kwargs: Its keyword arguments.

    Raises:
        ValueError: Teacher and student do not fit (labels, vocabulary, untrained head), the weights leave nothing to
            learn from, or the training set is empty or lacks labels that are needed.
        OSError: The output folder cannot be written.

    Source:
        Hinton et al. 2015, arXiv 1503.02531; by default stage 2 of Turc et al. 2019, arXiv 1908.08962.
    """

    # compute_loss divides by the items of the whole accumulated batch (attribute exists since transformers 5.19).
    loss_is_scaled_for_ga = True

    def __init__(
        self,
        model: PreTrainedModel | nn.Module | None = None,
        args: TrainingArguments | None = None,
        *trainer_args: Any,
        teacher_model: PreTrainedModel | nn.Module | Teacher | str | os.PathLike | list | None = None,
        teacher_processing_class: Any = None,
        **trainer_kwargs: Any,
    ):
        if args is None:
            defaults = TrainingArguments if teacher_model is None else DistillationTrainingArguments
            args = defaults(output_dir="tmp_trainer")
        require_arguments(args)
        require_model(model)
        require_writable(args)
        super().__init__(model, complete(args), *trainer_args, **trainer_kwargs)
        self._term_meter, self._evaluation_meter = RunningMean(), RunningMean()
        self._teacher_watch = FiniteLogitsCheck(self.processing_class)
        self.task = task_of(self.model)
        self.teacher = self._make_teacher(teacher_model, teacher_processing_class)
        read_by_student = set(inspect.signature(unwrapped(self.model).forward).parameters)
        self._teacher_only_inputs = {*self._recorded, *getattr(self.teacher, "input_names", ())} - read_by_student
        self._meaning = LabelMeaning(self.task)
        self._loss_watch = FiniteLossCheck(is_scaled=self.args.fp16)
        self.shared_vocabulary = SharedVocabulary(self.task, tokenizer_of(self))
        if not self._is_trainer():
            require_sound_inputs(self)
        self._feature_hooks = self._prepare()
        self._keep_accounts()
        self._has_trained = self._is_computed = False
        self._keep_settings()
        if not self._is_trainer():
            self.add_callback(RunRecordCallback(self))

    @property
    def problem_type(self) -> str:
        """What the logits of a classifier of texts or images mean, as in `PretrainedConfig.problem_type`."""
        return self._meaning.problem_type

    @property
    def training_objective(self) -> Objective:
        """The weighted terms of the loss, as the arguments (which a hyper-parameter search may change) say."""
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
            inputs: Model inputs, with labels where the batch has them.
            return_outputs: Also return the student's outputs.
            num_items_in_batch: Items of each term in the whole step, over all processes, (terms,), or one number for all.

        Returns:
            Scalar loss; with `return_outputs` the pair of loss and student outputs.
        """
        if self.compute_loss_func is not None and self._is_trainer():
            num_items = num_items_in_batch[0] if getattr(num_items_in_batch, "ndim", 0) else num_items_in_batch
            return super().compute_loss(model, inputs, return_outputs, num_items)
        training = getattr(model, "module", model).training  # a DeepSpeed engine says True of itself whatever it holds
        compares = not training and self.teacher is not None
        objective = self._evaluation_objective(inputs) if compares else self.training_objective
        positions = self._positions_to_predict(inputs, training)
        with self._feature_hooks.on(features=bool(objective.student_needs), positions=positions):
            hard_label_loss, outputs = self._ask_student(model, inputs, objective, positions)
            teacher = self._ask_teacher(inputs, objective, training)
        valid = valid_positions(inputs)
        student = features_of(outputs, None if teacher is None else logits_of(outputs, valid))
        student, teacher = self.shared_vocabulary.of_both(student, teacher)
        model_outputs = ModelOutputs(student, teacher, hard_label_loss, valid, inputs)
        loss, parts, shares = objective(model_outputs, inputs, num_items_in_batch if training else None)
        if training:
            self._count_step(inputs, objective, teacher, outputs, picked=positions is not None)
            self._loss_watch.look(loss, step=self.state.global_step + 1)
            self._is_computed = True
            names = [f"{term.name}_loss" for term in objective.terms]
            self._term_meter.add(dict(zip(names, torch.stack([parts, shares], dim=1), strict=True)))
            if self.args.average_tokens_across_devices:  # items are counted, but gradients averaged, over processes
                loss = loss * self.accelerator.num_processes
        elif compares:
            self._note_evaluation(model_outputs, inputs, objective, loss)
        return (loss, outputs) if return_outputs else loss

    def _positions_to_predict(self, inputs: Mapping[str, Any], training: bool) -> Tensor | None:
        """The masked positions, when only their logits are needed; else None."""
        of_masked = self.args.soft_label_positions is SoftLabelPositions.MASKED
        is_possible = of_masked and self._feature_hooks.picks_positions and has_labels(inputs, self.label_names)
        if not is_possible or (self._all_logits_wanted and not training) or self.compute_loss_func is not None:
            return None
        return label_items(inputs, self.label_names)

    def get_batch_samples(
        self, epoch_iterator: Iterator, num_batches: int, device: torch.device
    ) -> tuple[list[dict], Tensor | None]:
        """Trainer's micro-batches of a step; rows repeated to give every process equally many are taken out again."""
        batches = list(islice(epoch_iterator, 0 if self._is_spent() else num_batches))
        self._require_computed_objective()
        self._has_trained = bool(batches)
        for batch in batches:
            self._meaning.look(batch, unwrapped(self.model))
        if batches:
            batches[-1] = without_repeats(batches[-1], self.accelerator, self.args.dataloader_drop_last)
        return batches, self._get_num_items_in_batch(batches, device)

    def _get_num_items_in_batch(self, batch_samples: list[dict], device: torch.device) -> Tensor | None:
        """Items of each term over the micro-batches of a step and all processes, (terms,)."""
        if not batch_samples:
            return self._meet_the_end_of_data()
        objective = self.training_objective
        num_items = sum(objective.num_items(batch) for batch in batch_samples).to(device)
        if self.args.average_tokens_across_devices and self.accelerator.num_processes > 1:
            num_items = self.accelerator.reduce(num_items, reduction="sum")
        return num_items

    def _ask_student(
        self, model: nn.Module, inputs: Mapping[str, Any], objective: Objective, positions: Tensor | None
    ) -> tuple[Tensor | None, Any]:
        """The student's own loss, when something asks for it, and its outputs."""
        hidden = self._teacher_only_inputs | {NO_REAL_EXAMPLE}
        student_inputs = {name: value for name, value in inputs.items() if name not in hidden}
        if "hard_label" not in objective:
            return None, model(**without(student_inputs, self.label_names))
        if self.compute_loss_func is not None:
            labels = student_inputs.pop("labels", None)
            outputs = model(**student_inputs)
            num_labels = objective.num_items(inputs)[-1].clamp(min=1)
            return self.compute_loss_func(outputs, labels, num_items_in_batch=num_labels), outputs
        if positions is not None:
            student_inputs |= {name: student_inputs[name][positions] for name in self.label_names}
        labels = student_inputs.get("labels")
        is_float = isinstance(labels, Tensor) and labels.is_floating_point()
        has_numbers = is_float and self.task is not None and self.task.has_problem_type
        if has_numbers:
            counted = label_items(inputs, self.label_names, multi_label=self.problem_type == MULTI_LABEL)
            student_inputs["labels"] = labels = zero_where_ignored(labels, counted)
        # Without num_items_in_batch every head answers with the mean over this micro-batch.
        loss, outputs = super().compute_loss(model, student_inputs, return_outputs=True)
        if has_numbers:
            of_counted = float_label_loss(outputs["logits"], labels, counted, self.problem_type == MULTI_LABEL)
            loss = torch.where(counted.all(), loss, of_counted)
        return loss, outputs

    def _ask_teacher(self, inputs: Mapping[str, Any], objective: Objective, training: bool) -> TeacherOutputs | None:
        """The teacher's answer, when something asks for it: a term of the objective, or any evaluation."""
        asked = objective.needs_teacher if training else self._teacher_answers(inputs)
        return self._teacher_outputs(inputs) if asked else None

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        self._signature_columns += [name for name in self._teacher_only_inputs if name not in self._signature_columns]

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Trainer's; an optimizer passed as `optimizers` gets a parameter group for the projections, with its own defaults."""
        optimizer = super().create_optimizer(model)
        if self._feature_hooks.projections is not None:
            known = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
            new = [each for each in self._feature_hooks.projections.parameters() if id(each) not in known]
            if new:
                optimizer.add_param_group({"params": new})
        return optimizer

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler | None:
        if self.args.length_bucketing and self.args.train_sampling_strategy == "random":
            dataset = self.train_dataset if train_dataset is None else train_dataset
            sampler = length_bucket_sampler(
                dataset, self.args, self._train_batch_size, lambda: int(self.state.epoch or 0)
            )
            if sampler is not None:
                return sampler
        return super()._get_train_sampler(train_dataset)

    def _prepare(self) -> FeatureHooks:
        """Look at the first examples of the training set: do they, and both models, give what the objective needs?"""
        if self._is_trainer():  # which looks at none, and whose errors come when it trains
            return FeatureHooks(self.args, self.training_objective, unwrapped(self.model), None, self.task, None)
        require_nonempty(self.train_dataset)
        collate = self._get_collator_with_removed_columns(self.data_collator, description="training")
        self._require_fitting_answers(collate)
        self._meaning.read(unwrapped(self.model))
        batch, given = first_batch(self.train_dataset, collate)
        if batch is not None:
            batch = self._prepare_inputs(batch)
            self._meaning.look(batch, unwrapped(self.model))
        objective = self.training_objective  # refuses impossible weights
        require_gradients_under_zero3(self.args, objective)
        if "hard_label" not in objective:
            warn_of_unused(self.args, self.compute_loss_func)
        require_comparable(self.model, bool(own_encodings(self.data_collator)), {term.name for term in objective.terms})
        unlabeled = None if batch is None else without(batch, {*self.label_names, *self._recorded})
        if batch is not None and "hard_label" in objective and not self.can_return_loss:
            require_labels(batch, self.label_names)
        if batch is not None:
            require_teacher_inputs(batch, given, self.teacher, self.label_names)
        if batch is not None and hasattr(self.teacher, "resolve_dtype") and TEACHER_LOGITS not in batch:
            self.teacher.resolve_dtype(unlabeled)
        student = unwrapped(self.model)
        feature_hooks = FeatureHooks(self.args, objective, student, self.teacher, self.task, unlabeled)
        if feature_hooks.projections is not None:
            require_no_scheduler(self.lr_scheduler)
        if batch is not None and self.teacher is not None:
            features = feature_hooks.probe(student, unlabeled)
            answer = None if self.task is Task.MASKED_LM else self._teacher_outputs(batch)
            require_comparable_answers(self, features, answer, feature_hooks.example)
        return feature_hooks

    def _hp_search_setup(self, trial: Any) -> None:
        """Trainer's, called when a training begins, with its student and before its optimizer.

        What a recipe fills in is filled in anew, since a trial may choose another one, and a fresh student of `model_init`
        gets what the objective needs.
        """
        searches = trial is not None and isinstance(self.args, DistillationTrainingArguments)
        if searches:
            self.args.open_again()
        super()._hp_search_setup(trial)
        if searches:
            settle(self.args)
            require_valid_objective(self.args)
        if self.model_init is not None:
            student, example = unwrapped(self.model), self._feature_hooks.example
            self._feature_hooks = FeatureHooks(
                self.args, self.training_objective, student, self.teacher, self.task, example
            )

    def call_model_init(self, trial: Any = None) -> nn.Module:
        """A fresh student for a trial of a hyper-parameter search, with the label names and problem type of the first."""
        model = super().call_model_init(trial)
        known = getattr(unwrapped(self.model), "config", None) if hasattr(self, "_feature_hooks") else None
        if known is not None:
            new = unwrapped(model).config
            take_over_label_names(new, known)
            take_over_problem_type(new, getattr(known, "problem_type", None), "the student before")
        return model

    def _require_computed_objective(self) -> None:
        """Refuse a subclass whose own `compute_loss` never computes the objective that records would tell of.

        Raises:
            ValueError: Names the ways to add to the objective.
        """
        if self._has_trained and not self._is_computed and self.teacher is not None:
            raise ValueError(
                f"{type(self).__name__}.compute_loss never called DistillationTrainer's, so that the student learned nothing "
                f"of {[term.name for term in self.training_objective.terms]}: for a loss of your own on the labels pass "
                "compute_loss_func with hard_label_weight above 0, for further terms add to super().compute_loss(...) or "
                "override training_objective, or pass no teacher"
            )

    def _require_finite(self, weights: bool) -> None:
        """Refuse to go on after teacher logits, losses or, if asked, weights that are NaN or infinite.

        Raises:
            FloatingPointError: Names what is not finite, and since when.
        """
        self._teacher_watch.require_finite(self.state.global_step)
        if not self._is_trainer():
            self._loss_watch.require_finite_loss()
            if weights:
                require_finite_weights(self.model)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Trainer's log; with a teacher, training steps also say each term, averaged over the steps since the last."""
        if "loss" in logs or "train_loss" in logs:
            self._require_computed_objective()
            self._require_finite(weights="train_loss" in logs)
        if self.teacher is not None and "loss" in logs:
            logs.update(self._term_meter.read(self._sum_over_processes))
        elif "train_loss" in logs:
            self._term_meter = RunningMean()
        super().log(logs, start_time)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        self._require_computed_objective()
        self._require_finite(weights=True)
        self._add_teacher_settings()
        folder = Path(self._get_output_dir(trial=trial), f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}")
        self._feature_hooks.save(folder, writes=self.args.should_save)
        super()._save_checkpoint(model, trial)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        # Not in _load_from_checkpoint, which DeepSpeed goes without.
        if checkpoint is not None:
            require_optimizer_state(Path(checkpoint), self.is_deepspeed_enabled)
            self._feature_hooks.load(Path(checkpoint))
        super()._load_optimizer_and_scheduler(checkpoint)

    def _sum_over_processes(self, sums: Tensor) -> Tensor:
        return self.accelerator.reduce(sums, reduction="sum")

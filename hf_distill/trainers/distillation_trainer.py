"""A drop-in `transformers.Trainer` that also learns from a teacher."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, Sampler
from transformers import PreTrainedModel, Trainer, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from hf_distill.features import features_of
from hf_distill.length_bucket_sampler import length_bucket_sampler
from hf_distill.objectives.evidence import Evidence
from hf_distill.objectives.objective import Objective
from hf_distill.objectives.reduction import NO_REAL_EXAMPLE, has_labels, label_items, valid_positions
from hf_distill.tasks import Task, logits_of, task_of, unwrapped
from hf_distill.teachers.column import TEACHER_LOGITS
from hf_distill.teachers.outputs import Teacher, TeacherOutputs
from hf_distill.teachers.own_inputs import SeparateEncodings
from hf_distill.trainers.callbacks import RunRecordCallback
from hf_distill.trainers.checkpoints import require_optimizer_state
from hf_distill.trainers.checks import (
    first_batch,
    head_kind,
    require_gradients_under_zero3,
    require_labels,
    require_logits_of_task,
    require_nonempty,
    require_teacher_inputs,
    require_writable,
)
from hf_distill.trainers.distillation_arguments import DistillationTrainingArguments, complete, own_fields_only
from hf_distill.trainers.instruments import Instruments
from hf_distill.trainers.meters import MeanMeter
from hf_distill.trainers.model_cards import ModelCards
from hf_distill.trainers.objective_building import build_objective
from hf_distill.trainers.recorded_answers import RecordedAnswers
from hf_distill.trainers.repeated_rows import without, without_repeats
from hf_distill.trainers.spending import Spending
from hf_distill.trainers.teacher_evaluation import TeacherEvaluation
from hf_distill.trainers.teacher_making import require_comparable
from hf_distill.trainers.teacher_watch import TeacherWatch
from hf_distill.trainers.wrapping import Wrapping


class DistillationTrainer(TeacherEvaluation, RecordedAnswers, ModelCards, Wrapping, Spending, Trainer):
    """`transformers.Trainer` with a teacher.

    Takes everything Trainer takes, in the same positions. Without a teacher, and with plain `TrainingArguments`, it
    adds nothing: it reaches Trainer's weights, bit for bit, and leaves no callback, file or state more; but under
    gradient accumulation or several processes it gives the gradient of the whole batch, where Trainer gives a multiple of
    it for heads and loss functions that ignore `num_items_in_batch`, such as BERT's, and on several processes its loss of
    an evaluation counts no example twice.

    Args:
        model: The student.
        args: `DistillationTrainingArguments`, or plain `TrainingArguments`, which distil with the defaults.
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
        require_writable(args)
        super().__init__(model, complete(args), *trainer_args, **trainer_kwargs)
        self._term_meter, self._evaluation_meter = MeanMeter(), MeanMeter()
        self._teacher_watch = TeacherWatch(self.processing_class)
        self.task = task_of(self.model)
        self.teacher = self._make_teacher(teacher_model, teacher_processing_class)
        read_by_student = set(inspect.signature(unwrapped(self.model).forward).parameters)
        self._teacher_only_inputs = {*self._recorded, *getattr(self.teacher, "input_names", ())} - read_by_student
        self.problem_type = head_kind(self.model, None)
        self._instruments = self._prepare()
        self._keep_accounts()
        if not self._is_trainer():
            self.add_callback(RunRecordCallback(self))

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
        training = getattr(model, "module", model).training  # a DeepSpeed engine says True of itself whatever it holds
        compares = not training and self.teacher is not None
        objective = self._evaluation_objective(inputs) if compares else self.training_objective
        positions = self._positions_to_predict(inputs, training)
        with self._instruments.on(features=bool(objective.student_needs), positions=positions):
            hard_label_loss, outputs = self._ask_student(model, inputs, objective, positions)
            teacher = self._ask_teacher(inputs, objective, training)
        valid = valid_positions(inputs)
        student = features_of(outputs, None if teacher is None else logits_of(outputs, valid))
        evidence = Evidence(student, teacher, hard_label_loss, valid)
        loss, parts, shares = objective(evidence, inputs, num_items_in_batch if training else None)
        if training:
            self._count_step(inputs, objective, teacher, outputs, picked=positions is not None)
            names = [f"{term.name}_loss" for term in objective.terms]
            self._term_meter.add(dict(zip(names, torch.stack([parts, shares], dim=1), strict=True)))
            if self.args.average_tokens_across_devices:  # items are counted, but gradients averaged, over processes
                loss = loss * self.accelerator.num_processes
        elif compares:
            self._note_evaluation(evidence, inputs, objective)
        return (loss, outputs) if return_outputs else loss

    def _positions_to_predict(self, inputs: Mapping[str, Any], training: bool) -> Tensor | None:
        """The masked positions, when only their logits are needed; else None."""
        is_possible = self._instruments.picks_positions and has_labels(inputs, self.label_names)
        if not is_possible or (self._all_logits_wanted and not training) or self.compute_loss_func is not None:
            return None
        return label_items(inputs, self.label_names)

    def get_batch_samples(
        self, epoch_iterator: Iterator, num_batches: int, device: torch.device
    ) -> tuple[list[dict], Tensor | None]:
        """Trainer's micro-batches of a step; rows repeated to give every process equally many are taken out again."""
        batches = list(islice(epoch_iterator, 0 if self._is_spent() else num_batches))
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
        # Without num_items_in_batch every head answers with the mean over this micro-batch.
        return super().compute_loss(model, student_inputs, return_outputs=True)

    def _ask_teacher(self, inputs: Mapping[str, Any], objective: Objective, training: bool) -> TeacherOutputs | None:
        """The teacher's answer, when something asks for it: a term of the objective, or any evaluation."""
        asked = objective.needs_teacher if training else self._teacher_answers(inputs)
        return self._teacher_outputs(inputs) if asked else None

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        self._signature_columns += [name for name in self._teacher_only_inputs if name not in self._signature_columns]

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler | None:
        if self.args.length_bucketing and self.args.train_sampling_strategy == "random":
            dataset = self.train_dataset if train_dataset is None else train_dataset
            sampler = length_bucket_sampler(
                dataset, self.args, self._train_batch_size, lambda: int(self.state.epoch or 0)
            )
            if sampler is not None:
                return sampler
        return super()._get_train_sampler(train_dataset)

    def _prepare(self) -> Instruments:
        """Look at the first examples of the training set: do they, and both models, give what the objective needs?"""
        if self._is_trainer():  # which looks at none, and whose errors come when it trains
            return Instruments(self.args, self.training_objective, unwrapped(self.model), None, self.task, None)
        require_nonempty(self.train_dataset)
        collate = self._get_collator_with_removed_columns(self.data_collator, description="training")
        self._require_fitting_answers(collate)
        batch, given = first_batch(self.train_dataset, collate)
        if batch is not None:
            batch = self._prepare_inputs(batch)
            self.problem_type = head_kind(self.model, batch.get("labels"))
        objective = self.training_objective  # refuses impossible weights
        require_gradients_under_zero3(self.args, objective)
        require_comparable(
            self.model, isinstance(self.data_collator, SeparateEncodings), {term.name for term in objective.terms}
        )
        unlabelled = None if batch is None else without(batch, {*self.label_names, *self._recorded})
        if batch is not None and "hard_label" in objective and not self.can_return_loss:
            require_labels(batch, self.label_names)
        if batch is not None:
            require_teacher_inputs(batch, given, self.teacher, self.label_names)
        if batch is not None and hasattr(self.teacher, "settle_dtype") and TEACHER_LOGITS not in batch:
            self.teacher.settle_dtype(unlabelled)
        student = unwrapped(self.model)
        instruments = Instruments(self.args, objective, student, self.teacher, self.task, unlabelled)
        if batch is not None and self.teacher is not None:
            instruments.probe(student, unlabelled)
            if self.task is not Task.MASKED_LM:
                require_logits_of_task(self._teacher_outputs(batch).logits, self.task)
        return instruments

    def call_model_init(self, trial: Any = None) -> nn.Module:
        """A fresh student for a trial of a hyper-parameter search."""
        model = super().call_model_init(trial)
        if hasattr(self, "_instruments"):
            student = unwrapped(model)
            example = self._instruments.example
            self._instruments = Instruments(
                self.args, self.training_objective, student, self.teacher, self.task, example
            )
        return model

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Trainer's log; with a teacher, training steps also say each term, averaged over the steps since the last."""
        if self.teacher is not None and "loss" in logs:
            self._teacher_watch.require_finite(self.state.global_step)
            logs.update(self._term_meter.read(self._sum_over_processes))
        elif "train_loss" in logs:
            self._term_meter = MeanMeter()
        super().log(logs, start_time)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        self._teacher_watch.require_finite(self.state.global_step)
        folder = Path(self._get_output_dir(trial=trial), f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}")
        self._instruments.save(folder, writes=self.args.should_save)
        super()._save_checkpoint(model, trial)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None) -> None:
        with own_fields_only(self.args) if self._is_trainer() else nullcontext():
            super()._save(output_dir, state_dict)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        # Not in _load_from_checkpoint, which DeepSpeed goes without.
        if checkpoint is not None:
            require_optimizer_state(Path(checkpoint), self.is_deepspeed_enabled)
            self._instruments.load(Path(checkpoint))
        super()._load_optimizer_and_scheduler(checkpoint)

    def _sum_over_processes(self, sums: Tensor) -> Tensor:
        return self.accelerator.reduce(sums, reduction="sum")

"""A drop-in `transformers.Trainer` that also learns from a teacher."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, Sampler
from transformers import PreTrainedModel, Trainer, TrainingArguments

from hf_distill.evaluation.fidelity import example_values
from hf_distill.length_bucket_sampler import length_bucket_sampler
from hf_distill.objectives.objective import Evidence, Objective, hard_label_term, soft_label_term
from hf_distill.objectives.reduction import NO_REAL_EXAMPLE, has_labels, row_count, share_of_batch
from hf_distill.teachers.column import TEACHER_LOGITS, ColumnTeacher
from hf_distill.teachers.frozen import FrozenTeacher
from hf_distill.teachers.loading import load_teacher
from hf_distill.teachers.outputs import Teacher
from hf_distill.trainers.callbacks import RunRecordCallback
from hf_distill.trainers.checks import (
    first_batch,
    head_kind,
    require_labels,
    require_nonempty,
    require_one_answer_per_example,
    require_writable,
    soft_label_loss_for,
)
from hf_distill.trainers.distillation_arguments import (
    DistillationTrainingArguments,
    TeacherDtype,
    complete,
    resolved_weights,
)
from hf_distill.trainers.meters import ExampleMeter, TermMeter
from hf_distill.trainers.repeated_rows import fill_up_rows, without_repeats
from hf_distill.trainers.teacher_watch import TeacherWatch


class DistillationTrainer(Trainer):
    """`transformers.Trainer` with a teacher.

    Takes everything Trainer takes, in the same positions. Without a teacher, and with plain `TrainingArguments`, it
    trains as Trainer does, bit for bit; but under gradient accumulation or several processes it gives the gradient of
    the whole batch, where Trainer gives a multiple of it for heads that ignore `num_items_in_batch`, such as BERT's.

    Args:
        model: The student.
        args: `DistillationTrainingArguments`, or plain `TrainingArguments`, which distil with the defaults.
        teacher_model: A model, a Hub id, a local path, or any `Teacher`. None: labels only, unless the training set
            has a `teacher_logits` column (see `label_transfer_set`). A model is frozen in place.
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
    _tag_names = ["hf_distill"]

    def __init__(
        self,
        model: PreTrainedModel | nn.Module | None = None,
        args: TrainingArguments | None = None,
        *trainer_args: Any,
        teacher_model: PreTrainedModel | nn.Module | Teacher | str | os.PathLike | None = None,
        **trainer_kwargs: Any,
    ):
        if args is None:
            defaults = TrainingArguments if teacher_model is None else DistillationTrainingArguments
            args = defaults(output_dir="tmp_trainer")
        require_writable(args)
        super().__init__(model, complete(args), *trainer_args, **trainer_kwargs)
        self._term_meter, self._example_meter = TermMeter(), ExampleMeter()
        self._evaluated: dict[str, Tensor] = {}
        self._teacher_watch = TeacherWatch(self.processing_class)
        self.teacher = self._make_teacher(teacher_model)
        self._teacher_only_inputs = self._inputs_only_the_teacher_reads()
        self.problem_type = head_kind(self.model, None)
        self._labels_are_shifted = getattr(self, "_loss_shifts_labels", False)  # by causal language models
        self._check_training_set()
        self.training_objective  # noqa: B018 -- refuses impossible weights before any training
        self.add_callback(RunRecordCallback(self))

    @property
    def training_objective(self) -> Objective:
        """The weighted terms of the loss, as the arguments (which a hyper-parameter search may change) say."""
        soft, hard = resolved_weights(self.args, has_teacher=self.teacher is not None)
        terms = []
        if soft > 0:
            loss = soft_label_loss_for(self.args.soft_label_loss, self.problem_type)
            multi_label = self.problem_type == "multi_label_classification"
            terms.append(soft_label_term(soft, loss, self.args.temperature, multi_label))
        if hard > 0:
            terms.append(hard_label_term(hard, self.label_names, causal_shift=self._labels_are_shifted))
        return Objective(terms)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, Any]:
        """The objective's value for a micro-batch, scaled for its share of the optimizer step.

        Args:
            model: The student as wrapped for training.
            inputs: Model inputs, with labels where the batch has them.
            return_outputs: Also return the student's outputs.
            num_items_in_batch: Items of each term in the whole step, over all processes, (terms,).

        Returns:
            Scalar loss; with `return_outputs` the pair of loss and student outputs.
        """
        objective = self._objective_for(inputs, model.training)
        hard_label_loss, outputs = self._ask_student(model, inputs, objective)
        teacher_logits = self._ask_teacher(inputs, objective, model.training)
        evidence = Evidence(None if teacher_logits is None else outputs["logits"], teacher_logits, hard_label_loss)
        num_items = objective.num_items(inputs)
        total_items = num_items if num_items_in_batch is None or not model.training else num_items_in_batch
        loss, parts = objective(evidence, num_items, total_items)
        if model.training:
            self._term_meter.add(parts, share_of_batch(num_items, total_items))
            if self.args.average_tokens_across_devices:  # items are counted, but gradients averaged, over processes
                loss = loss * self.accelerator.num_processes
        elif teacher_logits is not None:
            self._evaluated = example_values(evidence, objective, self.problem_type)
        return (loss, outputs) if return_outputs else loss

    def _objective_for(self, inputs: Mapping[str, Any], training: bool) -> Objective:
        """The objective; in evaluation without the terms that this batch lacks labels or a teacher's answer for."""
        if training or self.teacher is None:
            return self.training_objective
        labelled = has_labels(inputs, self.label_names)
        possible = {"soft_label": self._teacher_answers(inputs), "hard_label": labelled}
        terms = [term for term in self.training_objective.terms if possible[term.name]]
        if not terms and not labelled:
            raise ValueError(
                f"there is nothing to evaluate the student against: the examples give {sorted(inputs)}, neither "
                f"{list(self.label_names)} nor anything a teacher answers. Add labels, or pass teacher_model."
            )
        return Objective(terms or [hard_label_term(1.0, self.label_names, causal_shift=self._labels_are_shifted)])

    def get_batch_samples(
        self, epoch_iterator: Iterator, num_batches: int, device: torch.device
    ) -> tuple[list[dict], Tensor | None]:
        """Trainer's micro-batches of a step; rows repeated to give every process equally many are taken out again."""
        batches = list(islice(epoch_iterator, num_batches))
        if batches:
            batches[-1] = without_repeats(batches[-1], self.accelerator, self.args.dataloader_drop_last)
        return batches, self._get_num_items_in_batch(batches, device)

    def _get_num_items_in_batch(self, batch_samples: list[dict], device: torch.device) -> Tensor | None:
        """Items of each term over the micro-batches of a step and all processes, (terms,)."""
        if not batch_samples:
            return None
        objective = self.training_objective
        num_items = sum(objective.num_items(batch) for batch in batch_samples).to(device)
        if self.args.average_tokens_across_devices and self.accelerator.num_processes > 1:
            num_items = self.accelerator.reduce(num_items, reduction="sum")
        return num_items

    def _ask_student(
        self, model: nn.Module, inputs: Mapping[str, Any], objective: Objective
    ) -> tuple[Tensor | None, Any]:
        """The student's own loss, when something asks for it, and its outputs."""
        hidden = self._teacher_only_inputs | {NO_REAL_EXAMPLE}
        student_inputs = {name: value for name, value in inputs.items() if name not in hidden}
        if "hard_label" not in objective and (model.training or not has_labels(inputs, self.label_names)):
            unlabelled = {name: value for name, value in student_inputs.items() if name not in self.label_names}
            return None, model(**unlabelled)
        if self.compute_loss_func is not None:
            labels = student_inputs.pop("labels", None)
            outputs = model(**student_inputs)
            num_labels = objective.num_items(inputs)[-1].clamp(min=1)
            return self.compute_loss_func(outputs, labels, num_items_in_batch=num_labels), outputs
        # Without num_items_in_batch every head answers with the mean over this micro-batch.
        return super().compute_loss(model, student_inputs, return_outputs=True)

    def _ask_teacher(self, inputs: Mapping[str, Any], objective: Objective, training: bool) -> Tensor | None:
        """The teacher's logits, when something asks for them: a term of the objective, or any evaluation."""
        asked = "soft_label" in objective if training else self._teacher_answers(inputs)
        return self._teacher_logits(inputs) if asked else None

    def _teacher_answers(self, inputs: Mapping[str, Any]) -> bool:
        return TEACHER_LOGITS in inputs or not (self.teacher is None or isinstance(self.teacher, ColumnTeacher))

    def _teacher_logits(self, inputs: Mapping[str, Any]) -> Tensor:
        teacher = ColumnTeacher() if TEACHER_LOGITS in inputs else self.teacher
        logits = teacher.outputs({name: v for name, v in inputs.items() if name not in self.label_names}).logits
        self._teacher_watch.look(logits, inputs, step=self.state.global_step + 1)
        return logits

    def _make_teacher(self, teacher_model: Any) -> Teacher | None:
        if teacher_model is None:
            has_column = TEACHER_LOGITS in (getattr(self.train_dataset, "column_names", None) or ())
            return ColumnTeacher() if has_column and self.args.soft_label_weight != 0 else None
        return load_teacher(
            teacher_model,
            self.model,
            self.processing_class,
            dtype=TeacherDtype(self.args.teacher_dtype).value,
            device=self.args.device,
            revision=self.args.teacher_revision,
            init_kwargs=self.args.teacher_model_init_kwargs,
        )

    def _inputs_only_the_teacher_reads(self) -> frozenset[str]:
        read_by_student = set(inspect.signature(self.model.forward).parameters)
        return frozenset({TEACHER_LOGITS, *getattr(self.teacher, "input_names", ())} - read_by_student)

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

    def _check_training_set(self) -> None:
        """Look at the first examples of the training set: are there any, do they carry what the objective needs?"""
        require_nonempty(self.train_dataset)
        collate = self._get_collator_with_removed_columns(self.data_collator, description="training")
        batch = first_batch(self.train_dataset, collate)
        if batch is None:
            return
        batch = self._prepare_inputs(batch)
        self.problem_type = head_kind(self.model, batch.get("labels"))
        if "hard_label" in self.training_objective and not self.can_return_loss:
            require_labels(batch, self.label_names)
        if self.teacher is None:
            return
        if isinstance(self.teacher, FrozenTeacher) and TEACHER_LOGITS not in batch:
            self.teacher.settle_dtype(batch)
        require_one_answer_per_example(self._teacher_logits(batch))

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Trainer's log; with a teacher, training steps also say each term, averaged over the steps since the last."""
        if self.teacher is not None and "loss" in logs:
            self._teacher_watch.require_finite(self.state.global_step)
            names = [term.name for term in self.training_objective.terms]
            logs.update(self._term_meter.read(names, lambda sums: self.accelerator.reduce(sums, reduction="sum")))
        elif "train_loss" in logs:
            self._term_meter.reset()
        super().log(logs, start_time)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        self._teacher_watch.require_finite(self.state.global_step)
        super()._save_checkpoint(model, trial)

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Trainer's prediction step; with a teacher, batches without labels have a loss too."""
        if self.teacher is None:
            return super().prediction_step(model, inputs, prediction_loss_only, ignore_keys)
        rows = row_count(inputs)
        inputs = without_repeats(inputs, self.accelerator, self.args.dataloader_drop_last)
        self._evaluated = {}
        if has_labels(inputs, self.label_names):
            loss, logits, labels = super().prediction_step(model, inputs, prediction_loss_only, ignore_keys)
        else:
            inputs = self._prepare_inputs(inputs)
            with torch.no_grad(), self.compute_loss_context_manager():
                loss, outputs = self.compute_loss(model, inputs, return_outputs=True)
            logits, labels = None if prediction_loss_only else outputs["logits"], None
        # Every process must gather equally many rows; those added here are the ones the gathering drops.
        logits, labels, values = fill_up_rows((logits, labels, self._evaluated), rows)
        self._example_meter.add(self.accelerator.gather_for_metrics(values))
        return loss, logits, labels

    def evaluation_loop(self, *args: Any, metric_key_prefix: str = "eval", **kwargs: Any) -> Any:
        """Trainer's evaluation loop; with a teacher its metrics also say each term and the fidelity to the teacher."""
        output = super().evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **kwargs)
        for name, value in self._example_meter.read().items():
            output.metrics[f"{metric_key_prefix}_{name}"] = value
        return output

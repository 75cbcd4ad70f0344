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
from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer, TrainingArguments

from hf_distill.evaluation.fidelity import fidelity_values
from hf_distill.length_bucket_sampler import LengthBucketSampler, example_lengths
from hf_distill.objectives.objective import Evidence, Objective, Term, hard_label_term, soft_label_term
from hf_distill.objectives.reduction import NO_REAL_EXAMPLE, batch_rows, has_labels, share_of_batch
from hf_distill.teachers.column import TEACHER_LOGITS, ColumnTeacher
from hf_distill.teachers.frozen import FrozenTeacher
from hf_distill.teachers.loading import load_teacher
from hf_distill.teachers.outputs import Teacher
from hf_distill.trainers.callbacks import RunRecordCallback
from hf_distill.trainers.checks import (
    head_kind,
    require_labels,
    require_nonempty,
    require_writable,
    soft_label_loss_for,
)
from hf_distill.trainers.distillation_arguments import DistillationTrainingArguments
from hf_distill.trainers.meters import ExampleMeter, TermMeter
from hf_distill.trainers.random_state import random_state_kept
from hf_distill.trainers.repeated_rows import fill_up_rows, without_repeats
from hf_distill.trainers.teacher_watch import TeacherWatch

_PROBE_EXAMPLES = 64


class DistillationTrainer(Trainer):
    """`transformers.Trainer` with a teacher.

    Takes everything Trainer takes, in the same positions. Without a teacher, and with plain `TrainingArguments`, it
    trains as Trainer does, bit for bit; with gradient accumulation or several processes it gives the gradient of the
    whole batch, where Trainer's is a multiple of it for heads that ignore `num_items_in_batch` (BERT's, among others).

    Args:
        model: The student.
        args: `DistillationTrainingArguments`, or plain `TrainingArguments`, which distil with the defaults.
        teacher_model: A model, a Hub id, a local path, or any `Teacher`. None: labels only, unless the training set
            has a `teacher_logits` column (see `label_transfer_set`). A model is frozen in place.
        trainer_args: Further positional arguments of Trainer.
        trainer_kwargs: Further keyword arguments of Trainer.

    Raises:
        ValueError: Teacher and student do not fit (labels, vocabulary, untrained head), the weights leave nothing to
            learn from, or the training set is empty or lacks labels that are needed.
        OSError: The output folder cannot be written.

    Source:
        Hinton et al. 2015, arXiv 1503.02531; by default stage 2 of Turc et al. 2019, arXiv 1908.08962.
    """

    # compute_loss divides by the items of the whole accumulated batch (attribute exists since transformers 5.19).
    loss_is_scaled_for_ga = True
    _tag_names = ["hf_distill", "knowledge-distillation"]

    def __init__(
        self,
        model: PreTrainedModel | nn.Module | None = None,
        args: TrainingArguments | None = None,
        *trainer_args: Any,
        teacher_model: PreTrainedModel | nn.Module | Teacher | str | os.PathLike | None = None,
        **trainer_kwargs: Any,
    ):
        if args is None:
            make = TrainingArguments if teacher_model is None else DistillationTrainingArguments
            args = make(output_dir="tmp_trainer")
        args = DistillationTrainingArguments.adopt(args)
        require_writable(args)
        super().__init__(model, args, *trainer_args, **trainer_kwargs)
        self._term_meter, self._example_meter = TermMeter(), ExampleMeter()
        self._evaluated: dict[str, Tensor] = {}
        self._teacher_watch = TeacherWatch(self.processing_class)
        self.teacher = self._make_teacher(teacher_model)
        self._teacher_only_inputs = self._inputs_only_the_teacher_reads()
        self.problem_type = head_kind(self.model, None)
        self._check_training_set()
        self.training_objective  # noqa: B018 -- refuses impossible weights before any training
        self.add_callback(RunRecordCallback(self))

    # What is learned, and from whom

    @property
    def training_objective(self) -> Objective:
        """The weighted terms of the loss, as the arguments (which a hyper-parameter search may change) say."""
        soft, hard = self.args.resolved_weights(has_teacher=self.teacher is not None)
        terms = []
        if soft > 0:
            multi_label = self.problem_type == "multi_label_classification"
            terms.append(soft_label_term(soft, self.soft_label_loss, self.args.temperature, multi_label))
        if hard > 0:
            terms.append(self._hard_label_term(hard))
        return Objective(terms)

    @property
    def soft_label_loss(self) -> str:
        """The soft-label loss: the one chosen, or the default of the student's head."""
        return soft_label_loss_for(self.args.soft_label_loss, self.problem_type)

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
        num_items = objective.num_items(inputs)
        hard_label_loss, outputs = self._ask_student(model, inputs, objective)
        needed = any(term.name == "soft_label" for term in objective.terms) or not model.training
        asked = self.teacher is not None and needed and (model.training or self._teacher_answers(inputs))
        teacher_logits = self._ask_teacher(inputs) if asked else None
        student_logits = outputs["logits"] if asked else None
        evidence = Evidence(student_logits, teacher_logits, hard_label_loss)
        if model.training:
            total = num_items if num_items_in_batch is None else num_items_in_batch
            loss, parts = objective(evidence, num_items, total)
            self._term_meter.add(parts, share_of_batch(num_items, total))
            loss = loss * self._gradient_averaging
        else:
            loss, parts = objective(evidence, num_items, num_items)
            self._evaluated = self._evaluation_values(evidence, objective)
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
        return Objective(terms or [self._hard_label_term(weight=1.0)])

    def _teacher_answers(self, inputs: Mapping[str, Any]) -> bool:
        return TEACHER_LOGITS in inputs or not isinstance(self.teacher, ColumnTeacher)

    def _hard_label_term(self, weight: float) -> Term:
        shifted = getattr(self, "_loss_shifts_labels", False)
        return hard_label_term(weight, self.label_names, causal_shift=shifted)

    @property
    def _gradient_averaging(self) -> int:
        """What undoes the averaging of gradients over processes, once items are counted over all of them."""
        return self.accelerator.num_processes if self.args.average_tokens_across_devices else 1

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
        wanted = any(term.name == "hard_label" for term in objective.terms)
        if not wanted and (model.training or not has_labels(inputs, self.label_names)):
            unlabelled = {name: value for name, value in student_inputs.items() if name not in self.label_names}
            return None, model(**unlabelled)
        if self.compute_loss_func is not None:
            labels = student_inputs.pop("labels", None)
            outputs = model(**student_inputs)
            num_labels = objective.num_items(inputs)[-1]
            return self.compute_loss_func(outputs, labels, num_items_in_batch=num_labels), outputs
        # Without num_items_in_batch every head answers with the mean over this micro-batch.
        return super().compute_loss(model, student_inputs, return_outputs=True)

    def _ask_teacher(self, inputs: Mapping[str, Any]) -> Tensor:
        teacher = ColumnTeacher() if TEACHER_LOGITS in inputs else self.teacher
        logits = teacher.outputs({name: v for name, v in inputs.items() if name not in self.label_names}).logits
        self._teacher_watch.look(logits, inputs, step=self.state.global_step + 1)
        return logits

    # Data

    def _make_teacher(self, teacher_model: Any) -> Teacher | None:
        if teacher_model is None:
            has_column = TEACHER_LOGITS in (getattr(self.train_dataset, "column_names", None) or ())
            return ColumnTeacher() if has_column and self.args.soft_label_weight != 0 else None
        if not isinstance(teacher_model, nn.Module) and isinstance(teacher_model, Teacher):
            return teacher_model
        tokenizer = self.processing_class if isinstance(self.processing_class, PreTrainedTokenizerBase) else None
        return load_teacher(
            teacher_model,
            student=self.model,
            student_tokenizer=tokenizer,
            dtype=self.args.teacher_dtype.value,
            device=self.args.device,
            revision=self.args.teacher_revision,
            init_kwargs=self.args.teacher_model_init_kwargs,
        )

    def _inputs_only_the_teacher_reads(self) -> frozenset[str]:
        if self.teacher is None:
            return frozenset()
        read_by_student = set(inspect.signature(self.model.forward).parameters)
        return frozenset({TEACHER_LOGITS, *getattr(self.teacher, "input_names", ())} - read_by_student)

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        self._signature_columns += [name for name in self._teacher_only_inputs if name not in self._signature_columns]

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler | None:
        dataset = self.train_dataset if train_dataset is None else train_dataset
        if self.args.length_bucketing and self.args.train_sampling_strategy == "random":
            lengths = example_lengths(dataset, self.args.length_column_name)
            if lengths:
                step_examples = self._train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
                seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
                return LengthBucketSampler(lengths, step_examples, seed, epoch=lambda: int(self.state.epoch or 0))
        return super()._get_train_sampler(train_dataset)

    def _check_training_set(self) -> None:
        """Look at the first examples of the training set: are there any, do they carry what the objective needs?"""
        require_nonempty(self.train_dataset)
        batch = self._first_batch()
        if batch is None:
            return
        self.problem_type = head_kind(self.model, batch.get("labels"))
        if any(term.name == "hard_label" for term in self.training_objective.terms) and not self.can_return_loss:
            require_labels(batch, self.label_names)
        if self.teacher is None:
            return
        if isinstance(self.teacher, FrozenTeacher) and TEACHER_LOGITS not in batch:
            self.teacher.settle_dtype(batch)
        logits = self._ask_teacher(batch)
        if logits.dim() != 2:
            raise ValueError(
                f"soft labels need one row of logits per example, (batch, classes); the teacher's have shape "
                f"{tuple(logits.shape)} for a batch of {len(logits)}"
            )

    def _first_batch(self) -> dict[str, Any] | None:
        """The first examples of an indexable training set as model inputs; None where looking would consume data."""
        dataset = self.train_dataset
        if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
            return None
        collate = self._get_collator_with_removed_columns(self.data_collator, description="training")
        with random_state_kept():
            return self._prepare_inputs(collate([dataset[i] for i in range(min(_PROBE_EXAMPLES, len(dataset)))]))

    # Reports

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
        rows = int(batch_rows(inputs))
        inputs = without_repeats(inputs, self.accelerator, self.args.dataloader_drop_last)
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

    def _evaluation_values(self, evidence: Evidence, objective: Objective) -> dict[str, Tensor]:
        """Each term and the fidelity to the teacher, one value per example, (batch,)."""
        if evidence.teacher_logits is None:
            return {}
        values = fidelity_values(evidence.student_logits, evidence.teacher_logits, self.problem_type)
        for term in objective.terms:
            value = term.values(evidence)
            values[f"{term.name}_loss"] = value.reshape(len(value), -1).mean(dim=1) if value.dim() else value
        if evidence.hard_label_loss is not None:
            values["hard_label_loss"] = evidence.hard_label_loss
        values["loss"] = sum(term.weight * values[f"{term.name}_loss"] for term in objective.terms)
        rows = len(evidence.student_logits)
        return {name: value.float().expand(rows).contiguous() for name, value in values.items()}

"""Evaluation: no example twice, and with a teacher every term and the fidelity to the teacher among the metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import datasets
import torch
from torch import Tensor, nn

from hf_distill.distributed.padded_batches import fill_up_rows, without_repeats
from hf_distill.evaluation.fidelity import evaluation_sums
from hf_distill.objectives.model_outputs import ModelOutputs, TopClasses
from hf_distill.objectives.objective import Objective
from hf_distill.objectives.reduction import NO_REAL_EXAMPLE, has_labels, row_count
from hf_distill.objectives.top_k import spread_tail
from hf_distill.tasks import unwrapped
from hf_distill.trainers.argument_rules import resolved_weights
from hf_distill.trainers.objective_builder import label_term, soft_label_items
from hf_distill.trainers.preflight import require_nonempty

_ADDED_LOSS = "added_loss"


class TeacherEvaluation:
    """The part of `DistillationTrainer` that evaluates."""

    _all_logits_wanted = False  # by an evaluation that returns its predictions
    _objective_loss: Tensor | None = None  # of the batch just evaluated

    def _note_evaluation(
        self, model_outputs: ModelOutputs, inputs: Mapping[str, Any], objective: Objective, loss: Tensor
    ) -> None:
        self._objective_loss = loss
        items = soft_label_items(self.task, self.label_names)
        if model_outputs.teacher is not None and (top := model_outputs.teacher.top) is not None:
            model_outputs = _with_all_classes(model_outputs, top)
        self._evaluation_meter.add(evaluation_sums(model_outputs, inputs, objective, self.problem_type, items))

    def _evaluation_objective(self, inputs: Mapping[str, Any]) -> Objective:
        """The objective as far as this batch allows: the labels' term where there are labels, and what a teacher answers."""
        terms = [term for term in self.training_objective.terms if term.name != "hard_label"]
        terms = terms if self._teacher_answers(inputs) else []
        if has_labels(inputs, self.label_names):
            weight = resolved_weights(self.args, has_teacher=True)["hard_label_weight"] if terms else 1.0
            terms.append(label_term(weight, self.label_names, self.task, self.problem_type))
        if not terms:
            raise ValueError(
                f"there is nothing to evaluate the student against: the examples give {sorted(inputs)}, neither "
                f"{list(self.label_names)} nor anything a teacher answers. Add labels, or pass "
                "teacher_model (--teacher_model_name_or_path)."
            )
        return Objective(terms)

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Trainer's prediction step, in which no example counts twice; with a teacher batches without labels have a loss."""
        self._meaning.look(inputs, unwrapped(self.model))
        self._all_logits_wanted = not prediction_loss_only
        is_labeled = has_labels(inputs, self.label_names)
        if self.teacher is None and not is_labeled:
            return super().prediction_step(model, inputs, prediction_loss_only, ignore_keys)
        kept = without_repeats(inputs, self.accelerator, self.args.dataloader_drop_last)
        if is_labeled:
            loss, logits, labels = super().prediction_step(model, kept, prediction_loss_only, ignore_keys)
        else:
            with torch.no_grad(), self.compute_loss_context_manager():
                loss, outputs = self.compute_loss(model, self._prepare_inputs(kept), return_outputs=True)
            logits, labels = None if prediction_loss_only else self._predictions(outputs, ignore_keys), None
        self._note_added_loss(loss, row_count(kept) * (NO_REAL_EXAMPLE not in kept))
        if kept is not inputs:
            # Every process must gather equally many rows; those added here are the ones the gathering drops.
            logits, labels = fill_up_rows((logits, labels), row_count(inputs))
        return loss, logits, labels

    def _note_added_loss(self, loss: Tensor | None, rows: int) -> None:
        """What a subclass's `compute_loss` adds to the objective belongs to the evaluation's loss too."""
        if loss is not None and self._objective_loss is not None:
            added = (loss - self._objective_loss).float() * rows
            self._evaluation_meter.add({_ADDED_LOSS: torch.stack([added, torch.full_like(added, rows)])})
        self._objective_loss = None

    def _predictions(self, outputs: Mapping[str, Any], ignore_keys: list[str] | None) -> Any:
        """A model's outputs as Trainer returns them: one tensor where there is one, else all in a tuple."""
        if ignore_keys is None:
            config = getattr(unwrapped(self.model), "config", None)
            ignore_keys = getattr(config, "keys_to_ignore_at_inference", ["past_key_values"])
        predictions = tuple(outputs[name] for name in outputs if name not in {"loss", *ignore_keys})
        return predictions[0] if len(predictions) == 1 else predictions

    def evaluation_loop(self, *args: Any, metric_key_prefix: str = "eval", **kwargs: Any) -> Any:
        """Trainer's evaluation loop; with a teacher its metrics also say each term and the fidelity to the teacher."""
        name = f"the evaluation set of the metrics {metric_key_prefix}_..."
        dataset = getattr(args[0] if args else kwargs["dataloader"], "dataset", None)
        if not self._is_trainer():
            is_stream = isinstance(dataset, datasets.IterableDataset)
            require_nonempty(list(dataset.take(1)) if is_stream else dataset, name, "evaluation")
        output = super().evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **kwargs)
        means = self._evaluation_meter.read(self._sum_over_processes)
        weights = {f"{term.name}_loss": term.weight for term in self.training_objective.terms}
        parts = [weights[name] * means[name] for name in weights.keys() & means.keys()]
        added = means.pop(_ADDED_LOSS, 0.0)
        if means:
            means["loss"] = added + (sum(parts) if parts else means["hard_label_loss"])
        for name, value in means.items():
            output.metrics[f"{metric_key_prefix}_{name}"] = value
        return output


def _with_all_classes(model_outputs: ModelOutputs, top: TopClasses) -> ModelOutputs:
    """With logits of both sides at the masked positions alone, the teacher's over the whole vocabulary."""
    logits = top.at_positions(model_outputs.student.logits)
    spread = spread_tail(top.classes[top.real].long(), top.log_probabilities[top.real], logits.shape[-1])
    return replace(
        model_outputs,
        student=replace(model_outputs.student, logits=logits),
        teacher=replace(model_outputs.teacher, logits=spread),
    )

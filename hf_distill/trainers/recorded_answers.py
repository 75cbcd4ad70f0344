"""A teacher whose answers are columns of the data: read in place of a forward, and refused where they do not belong."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from hf_distill.distributed.padded_batches import without
from hf_distill.objectives.reduction import SoftLabelPositions
from hf_distill.precomputed.checks import (
    require_matching_outputs,
    require_same_teacher,
)
from hf_distill.precomputed.columns import PrecomputedCollator, PrecomputedTeacher
from hf_distill.precomputed.input_checks import require_matching_inputs
from hf_distill.precomputed.provenance import Provenance, provenances
from hf_distill.teachers.base import Teacher, TeacherOutputs
from hf_distill.teachers.column_names import (
    TEACHER_CLASSES,
    TEACHER_LOGITS,
    TEACHER_POSITIONS,
    TEACHER_PROVENANCE,
    has_teacher_logits,
    hidden_state_column,
    precomputed_columns,
)
from hf_distill.teachers.resolve import make_teacher, separate_encodings


class RecordedAnswers:
    """The part of `DistillationTrainer` that finds its teacher: a live one, or columns of the data."""

    def _make_teacher(self, teacher_model: Any, teacher_processing_class: Any) -> Teacher | None:
        recorded = {name for dataset in self._given_sets() for name in precomputed_columns(_columns_of(dataset))}
        self._recorded = {TEACHER_LOGITS, TEACHER_CLASSES, TEACHER_POSITIONS} | {
            name for name in recorded if not name.startswith(TEACHER_PROVENANCE)
        }
        if teacher_model is not None or has_teacher_logits(recorded):
            self.data_collator = PrecomputedCollator(self.data_collator, self.task)
        columns = precomputed_columns(_columns_of(self.train_dataset))
        found = list(provenances(self.train_dataset).values())
        self._precomputed_teacher = PrecomputedTeacher(columns, found[0].teacher if found else None)
        if teacher_model is None:
            return (
                self._precomputed_teacher if has_teacher_logits(columns) and self.args.soft_label_weight != 0 else None
            )
        self.data_collator = separate_encodings(self.data_collator, teacher_processing_class, teacher_model)
        return make_teacher(
            self.args,
            teacher_model,
            teacher_processing_class,
            self.model,
            self.processing_class,
            lambda: self.problem_type,
        )

    def _teacher_answers(self, inputs: Collection[str]) -> bool:
        return TEACHER_LOGITS in inputs or not (self.teacher is None or isinstance(self.teacher, PrecomputedTeacher))

    def _teacher_outputs(self, inputs: Mapping[str, Any]) -> TeacherOutputs:
        teacher = self._precomputed_teacher if self._columns_suffice(inputs) else self.teacher
        outputs = teacher.outputs(without(inputs, self.label_names))
        logits = outputs.logits if outputs.top is None else outputs.top.log_probabilities
        self._teacher_watch.look(logits, inputs, step=self.state.global_step + 1)
        return outputs

    def _columns_suffice(self, inputs: Collection[str]) -> bool:
        """Whether the batch holds all that the objective compares the student with."""
        if self.teacher is None or isinstance(self.teacher, PrecomputedTeacher):
            return True
        asks_everywhere = self.args.soft_label_positions is SoftLabelPositions.ATTENDED
        if TEACHER_LOGITS not in inputs or (TEACHER_CLASSES in inputs and asks_everywhere):
            return False
        needs = self.training_objective.teacher_needs
        return not needs.attention and all(hidden_state_column(index) in inputs for index in needs.hidden_states)

    def _require_fitting_answers(self, collate: Callable[[list], dict[str, Any]]) -> None:
        """Refuse recorded answers that are not about these inputs, not for this student, or not of the live teacher.

        Raises:
            ValueError: Names what the answers are of, and what is given.
        """
        for dataset in self._given_sets():
            found = provenances(dataset)
            if not found or self.teacher is None:
                continue
            for provenance in found.values():
                require_matching_outputs(provenance, self)
            require_matching_inputs(dataset, collate, found, self._recorded)
            self._require_recorded_teachers(found)

    def _require_recorded_teachers(self, found: Mapping[str, Provenance]) -> None:
        """Refuse answers of another teacher than the live one, where there is one."""
        if not isinstance(self.teacher, PrecomputedTeacher):
            require_same_teacher(list(found.values()), self.teacher)

    def _given_sets(self) -> list[Any]:
        evaluation = self.eval_dataset
        sets = list(evaluation.values()) if isinstance(evaluation, dict) else [evaluation]
        return [dataset for dataset in (self.train_dataset, *sets) if dataset is not None]


def _columns_of(dataset: Any) -> Collection[str]:
    """Of a stream whose columns are not known, those of its first row."""
    names = getattr(dataset, "column_names", None)
    if names is None and hasattr(dataset, "features"):
        names = next(iter(dataset), None)
    return names or ()

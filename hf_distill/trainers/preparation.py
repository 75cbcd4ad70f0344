"""Before training: checks of the first examples, and the hooks that the objective needs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from hf_distill.distributed.padded_batches import without
from hf_distill.features.hooks import FeatureHooks
from hf_distill.objectives.model_outputs import FeatureRequest
from hf_distill.objectives.objective import Objective
from hf_distill.objectives.ranking import query_ids
from hf_distill.objectives.reduction import SoftLabelPositions
from hf_distill.preflight.models import own_encodings, require_comparable_outputs, require_own_precomputed_outputs
from hf_distill.preflight.training import (
    first_batch,
    require_gradients_under_zero3,
    require_labels,
    require_no_scheduler,
    require_nonempty,
    require_teacher_inputs,
    warn_of_unused,
)
from hf_distill.tasks import Task, unwrapped
from hf_distill.teachers.column_names import TEACHER_LOGITS
from hf_distill.teachers.resolve import require_comparable
from hf_distill.trainers.feature_terms import build_projections


def prepared_hooks(trainer: Any, columns: Collection[str]) -> FeatureHooks:
    """Check that the first examples and both models provide what the objective needs, and attach its hooks.

    Args:
        trainer: A `DistillationTrainer` with its teacher.
        columns: Names of the data columns that hold precomputed outputs.

    Returns:
        The hooks on student and teacher.

    Raises:
        ValueError: Something is missing or cannot be compared; names it.
    """
    student = unwrapped(trainer.model)
    if trainer.is_plain:  # Trainer checks no examples; its errors are raised when it trains
        return FeatureHooks(student, FeatureRequest())
    require_nonempty(trainer.train_dataset)
    collate = trainer._get_collator_with_removed_columns(trainer.data_collator, description="training")
    require_own_precomputed_outputs(trainer, collate, columns)
    trainer._problem_type.read_config(student)
    batch, given = first_batch(trainer.train_dataset, collate)
    if batch is not None:
        batch = trainer._prepare_inputs(batch)
        trainer._problem_type.infer(batch, student)
        if trainer.args.query_column is not None:
            query_ids(batch, trainer.args.query_column)
    objective = trainer.training_objective  # refuses impossible weights
    require_gradients_under_zero3(trainer.args, objective)
    if "hard_label" not in objective:
        warn_of_unused(trainer.args, trainer.compute_loss_func)
    require_comparable(
        trainer.model, bool(own_encodings(trainer.data_collator)), {term.name for term in objective.terms}
    )
    unlabeled = None if batch is None else without(batch, {*trainer.label_names, *columns})
    if batch is not None and "hard_label" in objective and not trainer.can_return_loss:
        require_labels(batch, trainer.label_names)
    if batch is not None and trainer.teacher is not None:
        require_teacher_inputs(batch, given, trainer.teacher, trainer.label_names)
        if TEACHER_LOGITS not in batch:
            trainer.teacher.resolve_dtype(unlabeled)
    hooks = build_hooks(trainer, objective, unlabeled, _embedding_size(trainer, batch))
    if hooks.projections is not None:
        require_no_scheduler(trainer.lr_scheduler)
    if batch is not None and unlabeled is not None and trainer.teacher is not None:
        features = hooks.probe(student, unlabeled)
        teacher = None if trainer.task is Task.MASKED_LM else trainer.teacher_forward(batch, training=False)
        require_comparable_outputs(trainer, features, teacher, hooks.example)
    return hooks


def _embedding_size(trainer: Any, batch: Mapping[str, Any] | None) -> int | None:
    """The width of the teacher's embeddings for a batch; None where no embeddings are compared or there is no batch."""
    if batch is None or trainer.task is not Task.SENTENCE_EMBEDDING or trainer.teacher is None:
        return None
    return trainer.teacher_forward(batch, training=False).require_logits().shape[-1]


def build_hooks(
    trainer: Any, objective: Objective, batch: Mapping[str, Any] | None, embedding_size: int | None = None
) -> FeatureHooks:
    """Attach the hooks that an objective needs to student and teacher; the teacher includes the features in its outputs.

    Args:
        trainer: A `DistillationTrainer` with its teacher.
        objective: The training objective.
        batch: Example inputs without labels. None: unknown.
        embedding_size: The width of the teacher's embeddings. None: it is the hidden size, or unknown.

    Returns:
        The hooks.

    Raises:
        ValueError: A model cannot provide the features that the objective needs.
    """
    args, student, teacher = trainer.args, unwrapped(trainer.model), trainer.teacher
    projections = build_projections(args, objective, student, teacher, embedding_size)
    if teacher is not None:
        teacher.record(objective.teacher_needs, args.soft_label_positions is SoftLabelPositions.ATTENDED)
    members = () if teacher is None else teacher.members
    can_pick = trainer.task is Task.MASKED_LM and args.n_gpu <= 1 and (teacher is None or teacher.can_pick_positions)
    models = [student, *(member.model for member in members)] if can_pick else []
    return FeatureHooks(student, objective.student_needs, projections, models, batch)

"""Builds the training objective from the arguments, the student and the teacher."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, cast

from torch import Tensor, nn

from hf_distill.objectives.objective import Objective, Term
from hf_distill.objectives.ranking import RANKING_LOSSES
from hf_distill.objectives.reduction import (
    SoftLabelPositions,
    example_items,
    has_labels,
    label_items,
    position_items,
    token_items,
)
from hf_distill.objectives.terms import (
    embedding_term,
    hard_label_term,
    ranking_term,
    similarity_term,
    soft_label_term,
)
from hf_distill.preflight.argument_rules import resolved_weights
from hf_distill.pretrained.origin import initialization_of
from hf_distill.tasks import EMBEDDING, MULTI_LABEL, REGRESSION, SINGLE_LABEL, Task, unwrapped
from hf_distill.teachers.base import Teacher
from hf_distill.trainers.distillation_arguments import DistillationTrainingArguments
from hf_distill.trainers.feature_terms import feature_terms

_WITH_HEAD_OF_TEACHER = ("truncated", "width")  # initializations
_NAMED_CLASSES = (Task.SEQUENCE_CLASSIFICATION, Task.TOKEN_CLASSIFICATION, Task.IMAGE_CLASSIFICATION)


def build_objective(
    args: DistillationTrainingArguments,
    student: nn.Module,
    teacher: Teacher | None,
    task: Task | None,
    problem_type: str,
    label_names: Sequence[str],
) -> Objective:
    """The weighted terms that the arguments select.

    Args:
        args: `DistillationTrainingArguments`, or plain arguments completed with their fields.
        student: The student itself, not its wrapper.
        teacher: The teacher. None: there is none.
        task: The task of the student's head. None: the student is no transformers model.
        problem_type: "single_label_classification", "multi_label_classification", "regression" or `tasks.EMBEDDING`.
        label_names: Names of the model inputs that hold labels.

    Returns:
        The objective.

    Raises:
        ValueError: All weights are 0, or student and teacher cannot be compared by the terms.
    """
    weights = resolved_weights(args, has_teacher=teacher is not None)
    _require_compared_positions(args, teacher, task)
    if task is Task.SENTENCE_EMBEDDING:
        return Objective(_embedding_terms(args, weights) + feature_terms(args, weights, student, teacher))
    _require_no_similarities(weights, task)
    terms = []
    if weights["soft_label_weight"] > 0:
        _require_fitting_top_k(args.soft_label_top_k, student, task, problem_type)
        terms.append(_soft_label_term(args, weights["soft_label_weight"], task, problem_type, label_names))
    if weights["hard_label_weight"] > 0:
        terms.append(label_term(weights["hard_label_weight"], label_names, task, problem_type))
    return Objective(terms + feature_terms(args, weights, student, teacher))


def _embedding_terms(args: DistillationTrainingArguments, weights: Mapping[str, float]) -> list[Term]:
    """The terms on a sentence encoder's embeddings that have a weight."""
    if weights["hard_label_weight"]:
        raise ValueError(
            f"hard_label_weight is {weights['hard_label_weight']}, but a sentence encoder learns from a teacher's embeddings, "
            "not from labels: pass teacher_model, or give the dataset a teacher_logits column with one embedding per row"
        )
    terms = []
    if weight := weights["soft_label_weight"]:
        terms.append(embedding_term(weight, _soft_label_loss(args.soft_label_loss, EMBEDDING)))
    if weight := weights["similarity_weight"]:
        terms.append(similarity_term(weight, cast(float, args.temperature)))
    return terms


def _require_no_similarities(weights: Mapping[str, float], task: Task | None) -> None:
    if weights["similarity_weight"]:
        raise ValueError(
            f"similarity_weight is {weights['similarity_weight']}, but it compares the embeddings of sentence encoders; the "
            f"student's task is {getattr(task, 'value', None)!r}. Leave it 0, or load the student with SentenceEncoder."
        )


def _soft_label_term(
    args: DistillationTrainingArguments,
    weight: float,
    task: Task | None,
    problem_type: str,
    label_names: Sequence[str],
) -> Term:
    """The soft-label term with a weight; the other arguments are those of `build_objective`."""
    loss, temperature = _soft_label_loss(args.soft_label_loss, problem_type), cast(float, args.temperature)
    if loss in RANKING_LOSSES:
        return ranking_term(weight, loss, temperature, cast(str, args.query_column))
    items = soft_label_items(task, label_names, args.soft_label_positions)
    return soft_label_term(weight, loss, temperature, problem_type == MULTI_LABEL, items, args.soft_label_top_k)


def _soft_label_loss(chosen: str | None, problem_type: str) -> str:
    """The soft-label loss for a head: the chosen one, or the head's default.

    Args:
        chosen: The name of the chosen loss. None: the default.
        problem_type: The student's problem type.

    Returns:
        The name of the loss, a value of `SoftLabelLoss`.

    Raises:
        ValueError: A divergence between distributions was chosen for a regression head or for embeddings, a distance of
            embeddings for a head, or a ranking of scores for another head than one of a score.
    """
    chosen = None if chosen is None else getattr(chosen, "value", chosen)
    if problem_type == EMBEDDING:
        if chosen not in (None, "cosine", "logit_mse"):
            raise ValueError(
                f"soft_label_loss is {chosen!r}, a divergence between class distributions, but the student is a sentence "
                "encoder; use 'cosine' or 'logit_mse', or leave it None"
            )
        return chosen or "cosine"
    if chosen == "cosine":
        raise ValueError(
            "soft_label_loss 'cosine' compares the embeddings of sentence encoders, the student has a head; use another loss"
        )
    if problem_type == REGRESSION:
        if chosen not in (None, "logit_mse", *RANKING_LOSSES):
            raise ValueError(
                f"soft_label_loss is {chosen!r}, a divergence between class distributions, but the student has a "
                f"regression head; use 'logit_mse', for rerankers {' or '.join(map(repr, RANKING_LOSSES))}, or leave it None"
            )
        return chosen or "logit_mse"
    if chosen in RANKING_LOSSES:
        raise ValueError(
            f"soft_label_loss {chosen!r} compares one score per row (num_labels=1, problem_type {REGRESSION!r}), but the "
            f"student's problem type is {problem_type!r}"
        )
    return chosen or "forward_kl"


def label_term(weight: float, label_names: Sequence[str], task: Task | None, problem_type: str) -> Term:
    """The hard-label term of a head with a weight; the other arguments are those of `build_objective`."""
    return hard_label_term(weight, label_names, task is Task.CAUSAL_LM, problem_type == MULTI_LABEL)


def has_trained_head(trainer: Any) -> bool:
    """Whether a student's predictions mean anything, as far as is known.

    Args:
        trainer: A `DistillationTrainer`.

    Returns:
        False for a masked-language model with terms of features alone, unless it has the head of its teacher.
    """
    if trainer.task is not Task.MASKED_LM or initialization_of(unwrapped(trainer.model)) in _WITH_HEAD_OF_TEACHER:
        return True
    return not trainer.training_objective.is_of_features


def compared_items(trainer: Any) -> Callable[[Mapping[str, object]], Tensor] | None:
    """The function that finds the distributions that an evaluation compares with the teacher's; None: no head is trained."""
    return soft_label_items(trainer.task, trainer.label_names) if has_trained_head(trainer) else None


def evaluation_objective(trainer: Any, inputs: Mapping[str, Any]) -> Objective:
    """The terms of the training objective that can be computed for a batch: by its labels and its teacher outputs.

    Args:
        trainer: A `DistillationTrainer` with a teacher.
        inputs: The model inputs.

    Returns:
        The terms, in the order of the training objective, labels last.

    Raises:
        ValueError: There is no term to evaluate.
    """
    is_taught = trainer.teacher.provides(inputs)
    terms = [term for term in trainer.training_objective.terms if is_taught and term.name != "hard_label"]
    if has_labels(inputs, trainer.label_names) and (not terms or has_trained_head(trainer)):
        weight = resolved_weights(trainer.args, has_teacher=True)["hard_label_weight"] if terms else 1.0
        terms.append(label_term(weight, trainer.label_names, trainer.task, trainer.problem_type))
    if not terms:
        raise ValueError(
            f"there is nothing to evaluate the student against: the examples give {sorted(inputs)}, neither "
            f"{list(trainer.label_names)} nor teacher outputs. Add labels, or pass "
            "teacher_model (--teacher_model_name_or_path)."
        )
    return Objective(terms)


def _require_fitting_top_k(top_k: int | None, student: nn.Module, task: Task | None, problem_type: str) -> None:
    if top_k is None:
        return
    if task is not None and task.has_problem_type and problem_type != SINGLE_LABEL:
        raise ValueError(
            f"soft_label_top_k cuts one distribution over classes, got {top_k} for a head of problem type {problem_type!r}, "
            "whose outputs are no such distribution; leave soft_label_top_k unset"
        )
    classes = getattr(getattr(student, "config", None), "num_labels", None)
    if task in _NAMED_CLASSES and classes is not None and top_k >= classes:
        raise ValueError(f"soft_label_top_k must be below the student's {classes} classes, got {top_k}")


def soft_label_items(
    task: Task | None, label_names: Sequence[str], positions: SoftLabelPositions = SoftLabelPositions.MASKED
):
    """The function that finds, in model inputs, the distributions that soft labels compare."""
    if positions is SoftLabelPositions.ATTENDED:
        return position_items
    if task is Task.MASKED_LM:
        return partial(_labeled_positions, label_names=label_names)
    if task in (Task.TOKEN_CLASSIFICATION, Task.CAUSAL_LM):
        return partial(token_items, label_names=label_names, causal_shift=task is Task.CAUSAL_LM)
    return example_items


def _require_compared_positions(
    args: DistillationTrainingArguments, teacher: Teacher | None, task: Task | None
) -> None:
    if args.soft_label_positions is SoftLabelPositions.MASKED:
        return
    if task is not Task.MASKED_LM:
        raise ValueError(
            f"soft_label_positions 'attended' is for masked-language models; the task is {getattr(task, 'value', None)!r}, "
            "whose positions follow from its labels. Leave it 'masked'."
        )
    if teacher is not None and not teacher.has_all_positions:
        raise ValueError(
            "soft_label_positions is 'attended', but the teacher outputs were precomputed at masked positions only: pass "
            "teacher_model and leave the precomputed columns out, or use 'masked'"
        )


def _labeled_positions(inputs: Mapping[str, object], label_names: Sequence[str]) -> Tensor:
    if not any(inputs.get(name) is not None for name in label_names):
        raise ValueError(
            f"masked-language-model distillation compares the masked positions, which the labels mark; the batch has "
            f"{sorted(inputs)}. Use DataCollatorForLanguageModeling."
        )
    return label_items(inputs, label_names)

"""From arguments and two models to the objective they train with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, cast

from torch import Tensor, nn
from transformers import PretrainedConfig

from hf_distill.features.projections import Projection, Projections
from hf_distill.features.tap import require_one_stack
from hf_distill.objectives.attention import AttentionLoss
from hf_distill.objectives.hidden_states import HiddenStateLoss, HiddenStatePositions
from hf_distill.objectives.layer_map import layer_map
from hf_distill.objectives.objective import Objective, Term
from hf_distill.objectives.reduction import (
    SoftLabelPositions,
    example_items,
    has_labels,
    label_items,
    position_items,
    token_items,
)
from hf_distill.objectives.terms import (
    Relation,
    attention_term,
    hard_label_term,
    hidden_state_term,
    relation_term,
    soft_label_term,
)
from hf_distill.tasks import MULTI_LABEL, SINGLE_LABEL, Task, unwrapped
from hf_distill.teachers.base import Teacher
from hf_distill.trainers.argument_rules import resolved_weights
from hf_distill.trainers.distillation_arguments import DistillationTrainingArguments
from hf_distill.trainers.preflight import soft_label_loss_for

_NAMED_CLASSES = (Task.SEQUENCE_CLASSIFICATION, Task.TOKEN_CLASSIFICATION, Task.IMAGE_CLASSIFICATION)


def build_objective(
    args: DistillationTrainingArguments,
    student: nn.Module,
    teacher: Teacher | None,
    task: Task | None,
    problem_type: str,
    label_names: Sequence[str],
) -> Objective:
    """The weighted terms that the arguments ask for.

    Args:
        args: `DistillationTrainingArguments`, or plain arguments completed with their fields.
        student: The student itself.
        teacher: Its teacher, where there is one.
        task: What the student's head is for; None for a model that is none of transformers'.
        problem_type: "single_label_classification", "multi_label_classification" or "regression".
        label_names: The model inputs that carry labels.

    Raises:
        ValueError: Weights leave nothing to learn from, or student and teacher cannot be compared as asked.
    """
    weights = resolved_weights(args, has_teacher=teacher is not None)
    terms = []
    _require_compared_positions(args, teacher, task)
    if weights["soft_label_weight"] > 0:
        _require_fitting_top_k(args.soft_label_top_k, student, task, problem_type)
        terms.append(
            soft_label_term(
                weights["soft_label_weight"],
                soft_label_loss_for(args.soft_label_loss, problem_type),
                cast(float, args.temperature),
                problem_type == MULTI_LABEL,
                soft_label_items(task, label_names, args.soft_label_positions),
                args.soft_label_top_k,
            )
        )
    if weights["hard_label_weight"] > 0:
        terms.append(label_term(weights["hard_label_weight"], label_names, task, problem_type))
    return Objective(terms + _feature_terms(args, weights, student, teacher))


def label_term(weight: float, label_names: Sequence[str], task: Task | None, problem_type: str) -> Term:
    """The term that learns from labels, for a head; the other arguments are those of `build_objective`."""
    return hard_label_term(weight, label_names, task is Task.CAUSAL_LM, problem_type == MULTI_LABEL)


def evaluation_objective(trainer: Any, inputs: Mapping[str, Any]) -> Objective:
    """The training objective as far as a batch allows: labels where there are some, and what the teacher has outputs for.

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
    if has_labels(inputs, trainer.label_names):
        weight = resolved_weights(trainer.args, has_teacher=True)["hard_label_weight"] if terms else 1.0
        terms.append(label_term(weight, trainer.label_names, trainer.task, trainer.problem_type))
    if not terms:
        raise ValueError(
            f"there is nothing to evaluate the student against: the examples give {sorted(inputs)}, neither "
            f"{list(trainer.label_names)} nor anything a teacher answers. Add labels, or pass "
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
    """Which of a batch's distributions soft labels compare, as a function of the model inputs."""
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
            "soft_label_positions is 'attended', but the teacher's answers were recorded at masked positions only: pass "
            "teacher_model and leave the recorded columns out, or take 'masked'"
        )


def _labeled_positions(inputs: Mapping[str, object], label_names: Sequence[str]) -> Tensor:
    if not any(inputs.get(name) is not None for name in label_names):
        raise ValueError(
            f"masked-language-model distillation compares the masked positions, which the labels mark; the batch has "
            f"{sorted(inputs)}. Use DataCollatorForLanguageModeling."
        )
    return label_items(inputs, label_names)


def build_projections(
    args: DistillationTrainingArguments, objective: Objective, student: nn.Module, teacher: Teacher | None
):
    """Maps to the teacher's width for the hidden states that need one; None where none does.

    Raises:
        ValueError: The widths differ and projections are off.
    """
    indices = objective.student_needs.hidden_states
    if not indices:
        return None
    student_size, teacher_size = cast(Any, student).config.hidden_size, cast(Teacher, teacher).config.hidden_size
    if student_size == teacher_size and args.projection is not Projection.ALWAYS:
        return None
    if args.projection is Projection.NEVER:
        raise ValueError(
            f"the student's hidden size is {student_size}, the teacher's {teacher_size}, and projection is 'never': "
            "hidden states of different widths cannot be compared. Use projection 'auto', or a student of the "
            "teacher's width."
        )
    return Projections(indices, student_size, teacher_size, args.seed)


def _feature_terms(
    args: DistillationTrainingArguments, weights: Mapping[str, float], student: nn.Module, teacher: Teacher | None
) -> list[Term]:
    hidden, embedding, attention, relation = (
        weights[name] for name in ("hidden_state_weight", "embedding_weight", "attention_weight", "relation_weight")
    )
    if not (hidden or embedding or attention or relation):
        return []
    student_config, teacher = _require_features(student, teacher, of_attention=bool(attention or relation))
    teacher_config = teacher.config
    depths = student_config.num_hidden_layers, teacher_config.num_hidden_layers
    if hidden or embedding:
        for model in (student, *(member.model for member in teacher.members)):
            require_one_stack(unwrapped(model))
    terms = []
    if hidden or attention:
        pairs = layer_map(cast(str, args.layer_map), *depths)
    if hidden:
        # Hidden state 0 is the embeddings' output, so layer i leaves hidden state i + 1.
        states = [(student_layer + 1, teacher_layer + 1) for student_layer, teacher_layer in pairs]
        first_only = args.hidden_state_positions is HiddenStatePositions.FIRST
        teacher.require_states((state for _, state in states), first_only)
        terms.append(hidden_state_term(hidden, cast(HiddenStateLoss, args.hidden_state_loss).value, states, first_only))
    if embedding:
        teacher.require_states([0], first_position_only=False)
        terms.append(hidden_state_term(embedding, "mse", [(0, 0)], name="embedding"))
    if attention:
        _require_equal_heads(student_config, teacher_config)
        terms.append(attention_term(attention, cast(AttentionLoss, args.attention_loss).value, pairs))
    if relation:
        heads = _relation_heads(args.relation_heads, student_config, teacher_config)
        terms.append(
            relation_term(relation, _relations(args), heads, layer_map(cast(str, args.relation_layer_map), *depths))
        )
    return terms


def _require_features(student: nn.Module, teacher: Teacher | None, of_attention: bool) -> tuple[Any, Teacher]:
    """The student's configuration and the teacher, where both give hidden states, or queries, keys and values."""
    student_config = getattr(student, "config", None)
    gives = teacher is not None and (teacher.has_attention if of_attention else teacher.has_hidden_states)
    if teacher is None or not isinstance(student_config, PretrainedConfig) or not gives:
        raise ValueError(
            "hidden states, attention and relations are compared between two live transformers models; the student is "
            f"a {type(student).__name__}, the teacher {'None' if teacher is None else f'a {teacher.kind}'}. Pass teacher_model as a model or its "
            "name (--teacher_model_name_or_path), or learn from soft and hard labels alone, or from hidden states that "
            "label_transfer_set recorded."
        )
    return student_config, teacher


def _require_equal_heads(student: PretrainedConfig, teacher: PretrainedConfig) -> None:
    if student.num_attention_heads != teacher.num_attention_heads:
        raise ValueError(
            f"attention is compared head by head, but the student has {student.num_attention_heads} heads and the "
            f"teacher {teacher.num_attention_heads}; give the student as many, or use relation_weight, whose relation "
            "heads are split anew"
        )


def _relation_heads(chosen: int | None, student: PretrainedConfig, teacher: PretrainedConfig) -> int:
    heads = teacher.num_attention_heads if chosen is None else chosen
    widths = {"student": _widths(student), "teacher": _widths(teacher)}
    every = {width for of_side in widths.values() for width in of_side}
    for side, of_side in widths.items():
        if any(width % heads for width in of_side):
            fitting = [number for number in range(1, 129) if not any(width % number for width in every)]
            raise ValueError(
                f"{heads} relation heads do not divide the {side}'s queries, keys and values, {sorted(of_side)} wide; "
                f"relation_heads that divide both models' are {fitting}"
            )
    return heads


def _widths(config: PretrainedConfig) -> set[int]:
    """Of queries, and of keys and values, which may have fewer heads."""
    head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    key_heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    return {config.num_attention_heads * head_size, key_heads * head_size}


def _relations(args: DistillationTrainingArguments) -> list[Relation]:
    names = [name.strip() for name in cast(str, args.relations).split(",")]
    allowed = [relation.value for relation in Relation]
    if not names or not set(names) <= set(allowed) or len(set(names)) < len(names):
        raise ValueError(f"relations must be some of {','.join(allowed)}, each once, got {args.relations!r}")
    return [Relation(name) for name in names]

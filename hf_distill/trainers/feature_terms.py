"""The terms that compare hidden states, attention and relations, built from arguments and two models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from torch import nn
from transformers import PretrainedConfig

from hf_distill.features.projections import EMBEDDING, Projection, Projections
from hf_distill.features.tap import require_one_stack
from hf_distill.objectives.attention import AttentionLoss
from hf_distill.objectives.hidden_states import HiddenStateLoss, HiddenStatePositions
from hf_distill.objectives.layer_map import layer_map
from hf_distill.objectives.objective import Objective, Term
from hf_distill.objectives.terms import (
    Relation,
    attention_term,
    hidden_state_term,
    relation_term,
)
from hf_distill.tasks import unwrapped
from hf_distill.teachers.base import Teacher
from hf_distill.trainers.distillation_arguments import DistillationTrainingArguments


def build_projections(
    args: DistillationTrainingArguments,
    objective: Objective,
    student: nn.Module,
    teacher: Teacher | None,
    embedding_size: int | None = None,
):
    """The projections of the student's hidden states and sentence embedding to the teacher's width.

    Args:
        args: The training arguments.
        objective: The training objective.
        student: The student itself, not its wrapper.
        teacher: The teacher. None: there is none, and no hidden states are compared.
        embedding_size: The width of the teacher's embeddings. None: its hidden size, or where that is unknown the student's.

    Returns:
        The projections; None where hidden states are not compared, or need none.

    Raises:
        ValueError: The widths differ and projections are off.
    """
    needs = objective.student_needs
    indices = [*needs.hidden_states, *([EMBEDDING] if needs.embedding else [])]
    if not indices:
        return None
    student_size = cast(Any, student).config.hidden_size
    known = embedding_size or getattr(cast(Teacher, teacher).config, "hidden_size", None)
    teacher_size = known or student_size
    if student_size == teacher_size and args.projection is not Projection.ALWAYS:
        return None
    if args.projection is Projection.NEVER:
        raise ValueError(
            f"the student's hidden size is {student_size}, the teacher's {teacher_size}, and projection is 'never': "
            "hidden states and embeddings of different widths cannot be compared. Use projection 'auto', or a student of the "
            "teacher's width."
        )
    return Projections(indices, student_size, teacher_size, args.seed)


def feature_terms(
    args: DistillationTrainingArguments, weights: Mapping[str, float], student: nn.Module, teacher: Teacher | None
) -> list[Term]:
    """The terms on hidden states, attention and relations that have a weight.

    Args:
        args: The training arguments.
        weights: The resolved weights by the names of their fields.
        student: The student itself, not its wrapper.
        teacher: The teacher. None: there is none.

    Returns:
        The terms; none where all these weights are 0.

    Raises:
        ValueError: Student and teacher cannot be compared as the arguments ask for.
    """
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
            "label_transfer_set precomputed."
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
    """The widths of queries, and of keys and values, which may have fewer heads."""
    head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    key_heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    return {config.num_attention_heads * head_size, key_heads * head_size}


def _relations(args: DistillationTrainingArguments) -> list[Relation]:
    names = [name.strip() for name in cast(str, args.relations).split(",")]
    allowed = [relation.value for relation in Relation]
    if not names or not set(names) <= set(allowed) or len(set(names)) < len(names):
        raise ValueError(f"relations must be some of {','.join(allowed)}, each once, got {args.relations!r}")
    return [Relation(name) for name in names]

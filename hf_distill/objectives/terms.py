"""The terms of an objective: which loss function is applied to which outputs of student and teacher."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from functools import reduce
from operator import add
from typing import Any

from torch import Tensor

from hf_distill.objectives.attention import ATTENTION_LOSSES, attention_scores
from hf_distill.objectives.embeddings import similarity_kl
from hf_distill.objectives.hidden_states import HIDDEN_STATE_LOSSES, MEAN_OVER_LAYERS
from hf_distill.objectives.logits import SOFT_LABEL_LOSSES, as_binary
from hf_distill.objectives.model_outputs import FeatureRequest, Features, ModelOutputs
from hf_distill.objectives.objective import Term
from hf_distill.objectives.ranking import RANKED_ITEMS, RANKING_LOSSES, query_ids
from hf_distill.objectives.reduction import example_items, label_items, position_items
from hf_distill.objectives.relations import relation_kl
from hf_distill.objectives.top_k import top_k_kl, top_k_with_tail

LayerPairs = Sequence[tuple[int, int]]


class Relation(str, Enum):
    """The vectors that a self-attention relation compares: Q-Q, K-K or V-V."""

    QUERIES = "queries"
    KEYS = "keys"
    VALUES = "values"


def soft_label_term(
    weight: float,
    loss: str,
    temperature: float,
    multi_label: bool = False,
    items: Callable[[Mapping[str, Any]], Tensor] = example_items,
    top_k: int | None = None,
) -> Term:
    """A term that compares the class distributions of student and teacher.

    Args:
        weight: Factor of the term in the total loss.
        loss: A key of `SOFT_LABEL_LOSSES`.
        temperature: Temperature above 0 that softens both distributions.
        multi_label: Whether the head's logits are of independent yes/no labels.
        items: Function from the model inputs to a mask of the distributions that count; by default one per example,
            labeled or not.
        top_k: Compare only the teacher's k most probable classes and all others as one class; forward KL only. None:
            compare all classes.

    Returns:
        The term "soft_label".
    """

    def values(model_outputs: ModelOutputs) -> Tensor:
        student_logits, teacher = model_outputs.student.require_logits(), _teacher_of(model_outputs)
        if (top := teacher.top) is not None:
            log_teacher = top.log_probabilities[top.real]
            return top_k_kl(top.at_positions(student_logits), top.classes[top.real].long(), log_teacher, temperature)
        teacher_logits = teacher.require_logits()
        if top_k is not None:
            return top_k_kl(student_logits, *top_k_with_tail(teacher_logits, top_k, temperature), temperature)
        if multi_label and loss != "logit_mse":
            student_logits, teacher_logits = as_binary(student_logits), as_binary(teacher_logits)
        return SOFT_LABEL_LOSSES[loss](student_logits, teacher_logits, temperature)

    settings = {"loss": loss, "temperature": temperature} | ({} if top_k is None else {"top_k": top_k})
    return Term("soft_label", weight, values, items, settings=settings)


def ranking_term(weight: float, loss: str, temperature: float, query_column: str) -> Term:
    """A term that compares the scores of a query's candidates by student and teacher, whose heads have one output.

    Args:
        weight: Factor of the term in the total loss.
        loss: A key of `RANKING_LOSSES`.
        temperature: Temperature above 0 that softens the distributions over candidates.
        query_column: The name of the model input that holds the query of each row.

    Returns:
        The term "soft_label"; its items are pairs of documents for MarginMSE, and queries for the listwise loss.
    """

    def values(model_outputs: ModelOutputs) -> Tensor:
        queries = query_ids(model_outputs.inputs, query_column)
        student, teacher = (
            side.require_logits().squeeze(-1) for side in (model_outputs.student, _teacher_of(model_outputs))
        )
        return RANKING_LOSSES[loss](student, teacher, queries, temperature)

    settings = {"loss": loss, "temperature": temperature, "query_column": query_column}
    return Term(
        "soft_label", weight, values, lambda inputs: RANKED_ITEMS[loss](inputs, query_column), settings=settings
    )


def hard_label_term(
    weight: float, label_names: Sequence[str], causal_shift: bool = False, multi_label: bool = False
) -> Term:
    """A term on the labels: the student's own loss, averaged over `label_items`.

    Args:
        weight: Factor of the term in the total loss.
        label_names: The names of model inputs that are labels.
        causal_shift: Whether the student's loss shifts its labels by one position.
        multi_label: Whether the labels are independent yes/no labels.

    Returns:
        The term "hard_label".
    """

    def values(model_outputs: ModelOutputs) -> Tensor:
        assert model_outputs.hard_label_loss is not None
        return model_outputs.hard_label_loss

    return Term(
        name="hard_label",
        weight=weight,
        values=values,
        items=lambda inputs: label_items(inputs, label_names, causal_shift, multi_label),
    )


def embedding_term(weight: float, loss: str) -> Term:
    """A term that compares each sentence embedding with the teacher's, projected to its width where widths differ.

    Args:
        weight: Factor of the term in the total loss.
        loss: "cosine" or "logit_mse", keys of `SOFT_LABEL_LOSSES`.

    Returns:
        The term "soft_label".
    """

    def values(model_outputs: ModelOutputs) -> Tensor:
        student, teacher = model_outputs.student, _teacher_of(model_outputs)
        own = student.require_logits() if student.embedding is None else student.embedding
        return SOFT_LABEL_LOSSES[loss](own, teacher.require_logits(), 1.0)

    needs = FeatureRequest(embedding=True)
    return Term("soft_label", weight, values, example_items, needs, settings={"loss": loss})


def similarity_term(weight: float, temperature: float) -> Term:
    """A term that compares the similarities of the texts of a micro-batch, on one process, with the teacher's.

    Args:
        weight: Factor of the term in the total loss.
        temperature: Temperature above 0 of the distributions that the similarities are made into.

    Returns:
        The term "similarity".
    """

    def values(model_outputs: ModelOutputs) -> Tensor:
        student, teacher = model_outputs.student, _teacher_of(model_outputs)
        return similarity_kl(student.require_logits(), teacher.require_logits(), temperature)

    return Term("similarity", weight, values, example_items, settings={"temperature": temperature})


def hidden_state_term(
    weight: float, loss: str, layers: LayerPairs, first_position_only: bool = False, name: str = "hidden_state"
) -> Term:
    """A term that compares hidden states, summed over pairs of layers (averaged for losses in `MEAN_OVER_LAYERS`).

    Args:
        weight: Factor of the term in the total loss.
        loss: A key of `HIDDEN_STATE_LOSSES`.
        layers: Pairs of hidden-state indices of student and teacher (0: the embeddings' output, i: the output of layer
            i, counted from 1).
        first_position_only: Compare the first position ([CLS]) instead of all positions.
        name: The term's name; its key in the logs is this followed by `_loss`.

    Returns:
        A term of that name.
    """

    def values(model_outputs: ModelOutputs) -> Tensor:
        student_states, teacher_states = model_outputs.student.hidden_states, _teacher_of(model_outputs).hidden_states
        per_pair = (
            HIDDEN_STATE_LOSSES[loss](student_states[student], teacher_states[teacher]) for student, teacher in layers
        )
        total = _sum(per_pair) / (len(layers) if loss in MEAN_OVER_LAYERS else 1)  # (batch, sequence)
        return total[:, 0] if first_position_only else total

    return Term(
        name,
        weight,
        values,
        example_items if first_position_only else position_items,
        FeatureRequest(hidden_states=frozenset(student for student, _ in layers)),
        FeatureRequest(hidden_states=frozenset(teacher for _, teacher in layers)),
        {"loss": loss, "layers": list(layers), "positions": "first" if first_position_only else "all"},
    )


def attention_term(weight: float, loss: str, layers: LayerPairs) -> Term:
    """A term that compares attention scores or distributions, summed over pairs of layers with equally many heads.

    Args:
        weight: Factor of the term in the total loss.
        loss: A key of `ATTENTION_LOSSES`.
        layers: Pairs of student and teacher layer, counted from 0.

    Returns:
        The term "attention".
    """

    def values(model_outputs: ModelOutputs) -> Tensor:
        student, teacher = model_outputs.student, _teacher_of(model_outputs)
        return _sum(
            ATTENTION_LOSSES[loss](
                attention_scores(student.queries[s], student.keys[s]),
                attention_scores(teacher.queries[t], teacher.keys[t]),
                model_outputs.valid,
            )
            for s, t in layers
        )

    return _attention_based_term("attention", weight, values, layers, {"loss": loss})


def relation_term(weight: float, relations: Sequence[Relation], num_relation_heads: int, layers: LayerPairs) -> Term:
    """A term that compares self-attention relations, summed over relations and pairs of layers.

    Args:
        weight: Factor of the term in the total loss.
        relations: The relations to compare: queries (Q-Q), keys (K-K), values (V-V).
        num_relation_heads: Number of relation heads; must divide the widths of both models.
        layers: Pairs of student and teacher layer, counted from 0.

    Returns:
        The term "relation".
    """
    names = [Relation(relation).value for relation in relations]

    def values(model_outputs: ModelOutputs) -> Tensor:
        return _sum(
            relation_kl(
                getattr(model_outputs.student, name)[student],
                getattr(_teacher_of(model_outputs), name)[teacher],
                num_relation_heads,
                model_outputs.valid,
            )
            for name in names
            for student, teacher in layers
        )

    settings = {"relations": names, "num_relation_heads": num_relation_heads}
    return _attention_based_term("relation", weight, values, layers, settings)


def _teacher_of(model_outputs: ModelOutputs) -> Features:
    assert model_outputs.teacher is not None
    return model_outputs.teacher


def _sum(values: Iterable[Tensor]) -> Tensor:
    return reduce(add, values)


def _attention_based_term(
    name: str, weight: float, values: Callable[[ModelOutputs], Tensor], layers: LayerPairs, settings: dict[str, object]
) -> Term:
    return Term(
        name,
        weight,
        values,
        position_items,
        FeatureRequest(attention=frozenset(student for student, _ in layers)),
        FeatureRequest(attention=frozenset(teacher for _, teacher in layers)),
        {**settings, "layers": list(layers)},
    )

"""The terms an objective is made of: which function of `objectives` looks at which of the two models' outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum

from torch import Tensor

from hf_distill.objectives.attention import ATTENTION_LOSSES, attention_scores
from hf_distill.objectives.hidden_states import HIDDEN_STATE_LOSSES, MEAN_OVER_LAYERS
from hf_distill.objectives.logits import SOFT_LABEL_LOSSES, as_binary
from hf_distill.objectives.model_outputs import FeatureRequest, ModelOutputs
from hf_distill.objectives.objective import Term
from hf_distill.objectives.reduction import example_items, label_items, position_items
from hf_distill.objectives.relations import relation_kl
from hf_distill.objectives.top_k import top_k_kl, top_k_with_tail

LayerPairs = Sequence[tuple[int, int]]


class Relation(str, Enum):
    """What a self-attention relation is made of."""

    QUERIES = "queries"
    KEYS = "keys"
    VALUES = "values"


def soft_label_term(
    weight: float,
    loss: str,
    temperature: float,
    multi_label: bool = False,
    items: Callable[[Mapping[str, object]], Tensor] = example_items,
    top_k: int | None = None,
) -> Term:
    """Learn from the teacher's soft labels.

    Args:
        weight: Factor in the total.
        loss: A key of `SOFT_LABEL_LOSSES`.
        temperature: Softens both distributions, above 0.
        multi_label: The head's logits are independent yes/no labels.
        items: Which distributions count; by default one per example, labeled or not.
        top_k: Compare only the teacher's k most probable classes and the rest as one; forward KL only.
    """

    def values(model_outputs: ModelOutputs) -> Tensor:
        student_logits, teacher_logits = model_outputs.student.logits, model_outputs.teacher.logits
        if (top := model_outputs.teacher.top) is not None:
            log_teacher = top.log_probabilities[top.real]
            return top_k_kl(top.at_positions(student_logits), top.classes[top.real].long(), log_teacher, temperature)
        if top_k is not None:
            return top_k_kl(student_logits, *top_k_with_tail(teacher_logits, top_k, temperature), temperature)
        if multi_label and loss != "logit_mse":
            student_logits, teacher_logits = as_binary(student_logits), as_binary(teacher_logits)
        return SOFT_LABEL_LOSSES[loss](student_logits, teacher_logits, temperature)

    settings = {"loss": loss, "temperature": temperature} | ({} if top_k is None else {"top_k": top_k})
    return Term("soft_label", weight, values, items, settings=settings)


def hard_label_term(
    weight: float, label_names: Sequence[str], causal_shift: bool = False, multi_label: bool = False
) -> Term:
    """Learn from the labels with the student's own loss; what does not count `label_items` says.

    Args:
        weight: Factor in the total.
        label_names: The model inputs that carry labels.
        causal_shift: The student's loss shifts its labels by one position.
        multi_label: The labels are independent yes/no labels.
    """
    return Term(
        name="hard_label",
        weight=weight,
        values=lambda model_outputs: model_outputs.hard_label_loss,
        items=lambda inputs: label_items(inputs, label_names, causal_shift, multi_label),
    )


def hidden_state_term(
    weight: float, loss: str, layers: LayerPairs, first_position_only: bool = False, name: str = "hidden_state"
) -> Term:
    """Imitate hidden states, summed over the pairs of layers, or their mean for the losses in `MEAN_OVER_LAYERS`.

    Args:
        weight: Factor in the total.
        loss: A key of `HIDDEN_STATE_LOSSES`.
        layers: Pairs of student and teacher hidden-state index (0: the embeddings' output, i: of layer i from 1).
        first_position_only: Compare the first position ([CLS]) instead of every one.
        name: Key in the logs, without `_loss`.
    """

    def values(model_outputs: ModelOutputs) -> Tensor:
        per_pair = (
            HIDDEN_STATE_LOSSES[loss](
                model_outputs.student.hidden_states[student], model_outputs.teacher.hidden_states[teacher]
            )
            for student, teacher in layers
        )
        total = sum(per_pair) / (len(layers) if loss in MEAN_OVER_LAYERS else 1)  # (batch, sequence)
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
    """Imitate attention scores or distributions, summed over the pairs of layers; head counts must agree.

    Args:
        weight: Factor in the total.
        loss: A key of `ATTENTION_LOSSES`.
        layers: Pairs of student and teacher layer, from 0.
    """

    def values(model_outputs: ModelOutputs) -> Tensor:
        student, teacher = model_outputs.student, model_outputs.teacher
        return sum(
            ATTENTION_LOSSES[loss](
                attention_scores(student.queries[s], student.keys[s]),
                attention_scores(teacher.queries[t], teacher.keys[t]),
                model_outputs.valid,
            )
            for s, t in layers
        )

    return _attention_based_term("attention", weight, values, layers, {"loss": loss})


def relation_term(weight: float, relations: Sequence[Relation], num_relation_heads: int, layers: LayerPairs) -> Term:
    """Imitate self-attention relations, summed over the relations and over the pairs of layers.

    Args:
        weight: Factor in the total.
        relations: Which of Q-Q, K-K and V-V.
        num_relation_heads: Must divide the widths of both models.
        layers: Pairs of student and teacher layer, from 0.
    """
    names = [Relation(relation).value for relation in relations]

    def values(model_outputs: ModelOutputs) -> Tensor:
        return sum(
            relation_kl(
                getattr(model_outputs.student, name)[student],
                getattr(model_outputs.teacher, name)[teacher],
                num_relation_heads,
                model_outputs.valid,
            )
            for name in names
            for student, teacher in layers
        )

    settings = {"relations": names, "num_relation_heads": num_relation_heads}
    return _attention_based_term("relation", weight, values, layers, settings)


def _attention_based_term(
    name: str, weight: float, values: Callable[[ModelOutputs], Tensor], layers: LayerPairs, settings: dict
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

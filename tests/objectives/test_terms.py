"""What each term compares, over which items, what it asks of the models, and that padding and splits do not matter."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from hf_distill.objectives.attention import ATTENTION_LOSSES, attention_scores
from hf_distill.objectives.hidden_states import HIDDEN_STATE_LOSSES
from hf_distill.objectives.logits import SOFT_LABEL_LOSSES, as_binary, forward_kl
from hf_distill.objectives.model_outputs import FeatureRequest, Features, ModelOutputs
from hf_distill.objectives.objective import Objective
from hf_distill.objectives.reduction import mean_over_items, position_items, token_items
from hf_distill.objectives.relations import relation_kl
from hf_distill.objectives.terms import (
    Relation,
    attention_term,
    hard_label_term,
    hidden_state_term,
    relation_term,
    soft_label_term,
)
from hf_distill.objectives.top_k import top_k_kl, top_k_with_tail
from tests.objectives.padding import ROWS, SEQUENCE, VALID, random_heads, random_tensor

CLASSES, HIDDEN, HEADS = 7, 6, 4
LAYERS = [(0, 1), (1, 3)]
INPUTS = {"input_ids": torch.zeros(ROWS, SEQUENCE, dtype=torch.long), "attention_mask": VALID.long()}
NOTHING = FeatureRequest()


def features(seed: int, layers: int, head_size: int, key_heads: int) -> Features:
    def per_layer(heads: int, first_seed: int) -> dict[int, Tensor]:
        return {layer: random_heads(heads, head_size, seed=first_seed + layer) for layer in range(layers)}

    return Features(
        logits=random_tensor(ROWS, SEQUENCE, CLASSES, seed=seed),
        hidden_states={i: random_tensor(ROWS, SEQUENCE, HIDDEN, seed=seed + 10 + i) for i in range(layers + 1)},
        queries=per_layer(HEADS, seed + 20),
        keys=per_layer(key_heads, seed + 30),
        values=per_layer(key_heads, seed + 40),
    )


@pytest.fixture
def model_outputs():
    return ModelOutputs(features(100, 2, 3, key_heads=HEADS), features(200, 4, 5, key_heads=2), valid=VALID)


def mapped(model_outputs, change):
    """The evidence with every tensor of both models changed."""

    def change_side(side):
        return Features(
            change(side.logits),
            *(
                {key: change(tensor) for key, tensor in found.items()}
                for found in (side.hidden_states, side.queries, side.keys, side.values)
            ),
        )

    return ModelOutputs(
        change_side(model_outputs.student), change_side(model_outputs.teacher), valid=model_outputs.valid
    )


POSITION_TERMS = {
    "soft labels": soft_label_term(0.5, "forward_kl", 2.0, items=position_items),
    "top k": soft_label_term(0.5, "forward_kl", 2.0, items=position_items, top_k=3),
    "states": hidden_state_term(2.0, "mse", LAYERS),
    "first states": hidden_state_term(2.0, "cosine", LAYERS, first_position_only=True),
    "scores": attention_term(3.0, "score_mse", LAYERS),
    "distributions": attention_term(3.0, "distribution_kl", LAYERS),
    "relations": relation_term(4.0, list(Relation), 2, LAYERS),
}
each_position_term = pytest.mark.parametrize("name", POSITION_TERMS)


@pytest.mark.parametrize("loss", HIDDEN_STATE_LOSSES)
def test_hidden_states_are_summed_over_pairs_and_directions_averaged(model_outputs, loss):
    term = hidden_state_term(2.0, loss, [(0, 0), (2, 4)], name="chosen")
    student, teacher = model_outputs.student.hidden_states, model_outputs.teacher.hidden_states
    distance = HIDDEN_STATE_LOSSES[loss]
    expected = distance(student[0], teacher[0]) + distance(student[2], teacher[4])
    expected = expected / 2 if loss == "normalized_mse" else expected
    torch.testing.assert_close(term.values(model_outputs), expected, rtol=0, atol=0)
    assert torch.equal(term.items(INPUTS), VALID)
    assert (term.name, term.weight) == ("chosen", 2.0)
    assert term.student_needs == FeatureRequest(hidden_states=frozenset({0, 2}))
    assert term.teacher_needs == FeatureRequest(hidden_states=frozenset({0, 4}))
    assert term.settings == {"loss": loss, "layers": [(0, 0), (2, 4)], "positions": "all"}


def test_directions_of_cls_weigh_as_in_the_patient_teachers_code(model_outputs):
    """There states of [CLS] are stacked, (batch, layers, hidden), and one mean is taken over all of them."""
    pairs = [(0, 0), (2, 4)]
    student, teacher = model_outputs.student.hidden_states, model_outputs.teacher.hidden_states
    stacked = (torch.stack([states[index][:, 0] for index in indices], dim=1)
               for states, indices in ((teacher, (0, 4)), (student, (0, 2))))  # fmt: skip
    expected = functional.mse_loss(*(functional.normalize(states, p=2, dim=2) for states in stacked))
    term = hidden_state_term(100.0, "normalized_mse", pairs, first_position_only=True)
    torch.testing.assert_close(term.values(model_outputs).mean(), expected)


def test_first_position_only_is_one_value_per_example(model_outputs):
    term = hidden_state_term(1.0, "normalized_mse", [(2, 4)], first_position_only=True)
    student, teacher = model_outputs.student.hidden_states[2], model_outputs.teacher.hidden_states[4]
    expected = HIDDEN_STATE_LOSSES["normalized_mse"](student[:, 0], teacher[:, 0])
    torch.testing.assert_close(term.values(model_outputs), expected, rtol=0, atol=0)
    assert term.items(INPUTS).tolist() == [True] * ROWS
    assert (term.name, term.settings["positions"]) == ("hidden_state", "first")


@pytest.mark.parametrize("loss", ATTENTION_LOSSES)
def test_attention_is_summed_over_pairs(model_outputs, loss):
    term = attention_term(3.0, loss, LAYERS)
    student, teacher = model_outputs.student, model_outputs.teacher
    expected = sum(
        ATTENTION_LOSSES[loss](
            attention_scores(student.queries[s], student.keys[s]),
            attention_scores(teacher.queries[t], teacher.keys[t]),
            VALID,
        )
        for s, t in LAYERS
    )
    torch.testing.assert_close(term.values(model_outputs), expected, rtol=0, atol=0)
    assert torch.equal(term.items(INPUTS), VALID)
    assert (term.name, term.weight, term.settings) == ("attention", 3.0, {"loss": loss, "layers": LAYERS})
    assert term.student_needs == FeatureRequest(attention=frozenset({0, 1}))
    assert term.teacher_needs == FeatureRequest(attention=frozenset({1, 3}))


@pytest.mark.parametrize("relations", [["queries"], ["keys"], ["values"], ["queries", "keys", "values"]])
def test_relations_are_summed_over_names_and_pairs(model_outputs, relations):
    term = relation_term(4.0, relations, 2, LAYERS)
    student, teacher = model_outputs.student, model_outputs.teacher
    expected = sum(
        relation_kl(getattr(student, name)[s], getattr(teacher, name)[t], 2, VALID)
        for name in relations
        for s, t in LAYERS
    )
    torch.testing.assert_close(term.values(model_outputs), expected)
    assert term.settings == {"relations": relations, "num_relation_heads": 2, "layers": LAYERS}
    assert (term.name, term.weight) == ("relation", 4.0)
    assert term.student_needs == FeatureRequest(attention=frozenset({0, 1}))
    assert term.teacher_needs == FeatureRequest(attention=frozenset({1, 3}))


def test_unknown_relation():
    with pytest.raises(ValueError, match="outputs"):
        relation_term(1.0, ["outputs"], 2, LAYERS)


@pytest.mark.parametrize("loss", SOFT_LABEL_LOSSES)
@pytest.mark.parametrize("multi_label", [False, True])
def test_soft_labels(model_outputs, loss, multi_label):
    term = soft_label_term(0.5, loss, 2.0, multi_label)
    student, teacher = model_outputs.student.logits, model_outputs.teacher.logits
    if multi_label and loss != "logit_mse":
        student, teacher = as_binary(student), as_binary(teacher)
    torch.testing.assert_close(
        term.values(model_outputs), SOFT_LABEL_LOSSES[loss](student, teacher, 2.0), rtol=0, atol=0
    )
    assert (term.name, term.weight, term.settings) == ("soft_label", 0.5, {"loss": loss, "temperature": 2.0})
    assert term.student_needs == term.teacher_needs == NOTHING
    assert term.items(INPUTS).tolist() == [True] * ROWS


def test_soft_labels_of_the_top_classes(model_outputs):
    term = soft_label_term(0.5, "forward_kl", 2.0, top_k=3)
    student, teacher = model_outputs.student.logits, model_outputs.teacher.logits
    expected = top_k_kl(student, *top_k_with_tail(teacher, 3, 2.0), 2.0)
    torch.testing.assert_close(term.values(model_outputs), expected, rtol=0, atol=0)
    assert term.settings == {"loss": "forward_kl", "temperature": 2.0, "top_k": 3}


def test_logits_at_the_labeled_positions_only_are_those_of_all(model_outputs):
    labels = torch.full((ROWS, SEQUENCE), -100)
    labels[[0, 0, 1, 1], [0, 2, 2, 4]] = 5
    inputs = INPUTS | {"labels": labels}
    term = soft_label_term(1.0, "forward_kl", 2.0, items=lambda inputs: token_items(inputs, ["labels"]))
    chosen = labels != -100
    picked = mapped(model_outputs, lambda tensor: tensor[chosen] if tensor.shape[-1] == CLASSES else tensor)
    assert picked.student.logits.shape == (4, CLASSES)
    objective = Objective([term])
    torch.testing.assert_close(objective(picked, inputs), objective(model_outputs, inputs))
    assert objective.num_items(inputs).tolist() == [4]


def test_start_and_end_of_an_answer_count_alike():
    start, end, teacher_start, teacher_end = (random_tensor(ROWS, SEQUENCE, seed=seed) for seed in range(4))
    sides = (Features(torch.stack(both, dim=1)) for both in ((start, end), (teacher_start, teacher_end)))
    (mean,) = Objective([soft_label_term(1.0, "forward_kl", 2.0)]).means(ModelOutputs(*sides), INPUTS)
    expected = (forward_kl(start, teacher_start, 2.0).mean() + forward_kl(end, teacher_end, 2.0).mean()) / 2
    torch.testing.assert_close(mean, expected.float())


def test_hard_labels():
    term = hard_label_term(0.5, ["labels"], causal_shift=True)
    loss = torch.tensor(1.5)
    assert term.values(ModelOutputs(Features(None), hard_label_loss=loss)) is loss
    inputs = {"labels": torch.tensor([[4, -100, 2], [-100, 0, 1]])}
    assert term.items(inputs).sum() == 3
    assert (term.name, term.weight, term.student_needs, term.teacher_needs) == ("hard_label", 0.5, NOTHING, NOTHING)


def test_objective_needs_what_its_terms_need():
    terms = [hidden_state_term(1.0, "mse", [(2, 4)]), hidden_state_term(1.0, "mse", [(0, 0)], name="embedding")]
    objective = Objective([*terms, POSITION_TERMS["scores"], POSITION_TERMS["soft labels"]])
    assert objective.student_needs == FeatureRequest(frozenset({0, 2}), frozenset({0, 1}))
    assert objective.teacher_needs == FeatureRequest(frozenset({0, 4}), frozenset({1, 3}))
    assert objective.student_needs
    assert not Objective([POSITION_TERMS["soft labels"]]).student_needs
    assert objective.needs_teacher


@each_position_term
@pytest.mark.parametrize("sizes", [[1, 1, 1], [2, 1], [1, 2]], ids=str)
def test_micro_batches_add_up_to_the_whole_batch(model_outputs, name, sizes):
    """Rows of 3, 4 and 0 positions, the last one a micro-batch without a single item."""
    objective = Objective([POSITION_TERMS[name]])
    expected = objective(model_outputs, INPUTS)
    results = []
    for rows in torch.arange(ROWS).split(sizes):
        piece = mapped(model_outputs, lambda tensor, rows=rows: tensor[rows])
        piece = ModelOutputs(piece.student, piece.teacher, valid=VALID[rows])
        inputs = {key: value[rows] for key, value in INPUTS.items()}
        results.append(objective(piece, inputs, objective.num_items(INPUTS)))
    for total, whole in zip(map(sum, zip(*results, strict=True)), expected, strict=True):
        torch.testing.assert_close(total, whole)


@each_position_term
def test_longer_padding_changes_nothing(model_outputs, name):
    def longer(tensor):
        noise = 50 * torch.randn(*tensor.shape[:-2], 3, tensor.shape[-1], dtype=tensor.dtype)
        return torch.cat([tensor, noise], dim=-2)

    objective = Objective([POSITION_TERMS[name]])
    padded = mapped(model_outputs, longer)
    padded = ModelOutputs(padded.student, padded.teacher, valid=torch.nn.functional.pad(VALID, (0, 3)))
    inputs = {key: torch.nn.functional.pad(value, (0, 3)) for key, value in INPUTS.items()}
    torch.testing.assert_close(objective(padded, inputs), objective(model_outputs, INPUTS))


@each_position_term
def test_a_student_like_its_teacher(model_outputs, name):
    layers = [(0, 0), (1, 1)]
    like = {
        "states": hidden_state_term(2.0, "mse", layers),
        "first states": hidden_state_term(2.0, "cosine", layers, first_position_only=True),
        "scores": attention_term(3.0, "score_mse", layers),
        "distributions": attention_term(3.0, "distribution_kl", layers),
        "relations": relation_term(4.0, list(Relation), 2, layers),
    }
    term = like.get(name, POSITION_TERMS[name])
    same = ModelOutputs(model_outputs.student, model_outputs.student, valid=VALID)
    mean = mean_over_items(term.values(same), term.items(INPUTS))
    assert mean.item() == pytest.approx(0, abs=1e-12)
    assert mean_over_items(POSITION_TERMS[name].values(model_outputs), term.items(INPUTS)) > 0.01

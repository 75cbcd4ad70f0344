"""Scores by hand, and the units that stay."""

import pytest
import torch

from hf_distill.pruning.compaction import compact
from hf_distill.pruning.depth import highest_scoring_layers
from hf_distill.pruning.importance import Criterion, largest, leading, score
from hf_distill.pruning.structure import Axis
from tests.tiny_architectures import LAYERS, tiny_batch, tiny_model


@pytest.fixture
def model():
    """With gradients of a loss."""
    model = tiny_model("bert")
    model(**tiny_batch()).logits.square().sum().backward()
    return model


def parts_of_neurons(layer, of):
    return torch.cat([of(layer.intermediate.dense.weight), of(layer.output.dense.weight).T,
                      of(layer.intermediate.dense.bias)[:, None]], dim=1)  # fmt: skip


@pytest.mark.parametrize(
    ("criterion", "expected"),
    [
        ("magnitude", lambda layer: parts_of_neurons(layer, torch.square).sum(1)),
        ("sensitivity", lambda layer: parts_of_neurons(layer, lambda weight: (weight * weight.grad).abs()).sum(1)),
        ("taylor", lambda layer: parts_of_neurons(layer, lambda weight: weight * weight.grad).sum(1).abs()),
    ],
)
def test_neurons_by_hand(model, criterion, expected):
    layer = model.bert.encoder.layer[1]
    torch.testing.assert_close(score(model, criterion)[Axis.NEURON, 1], expected(layer).detach())


def test_sensitivity_is_what_a_zeroed_weight_changes_to_first_order(model):
    """Of the one weight that a unit of its own has: the bias of a neuron, all its other weights 0."""
    layer = model.bert.encoder.layer[0]
    with torch.no_grad():
        layer.intermediate.dense.weight[3] = 0
        layer.intermediate.dense.bias[3] = 1e-3
    model.zero_grad()
    loss = model(**tiny_batch()).logits.square().sum()
    loss.backward()
    first_order = (layer.intermediate.dense.bias[3] * layer.intermediate.dense.bias.grad[3]).item()
    with torch.no_grad():
        layer.intermediate.dense.bias[3] = 0
        change = (model(**tiny_batch()).logits.square().sum() - loss).item()
    assert change == pytest.approx(-first_order, rel=2e-2)


def test_heads_and_residual_dimensions_own_what_they_touch(model):
    scores = score(model)
    attention = model.bert.encoder.layer[2].attention
    query = torch.cat([attention.self.query.weight, attention.self.query.bias[:, None]], dim=1)
    torch.testing.assert_close(scores[Axis.QUERY, 2], query.square().sum(1).detach())
    value = torch.cat([attention.self.value.weight, attention.self.value.bias[:, None],
                       attention.output.dense.weight.T], dim=1)  # fmt: skip
    torch.testing.assert_close(scores[Axis.VALUE, 2], value.square().sum(1).detach())
    assert scores[Axis.HIDDEN, None].shape == (16,)
    with torch.no_grad():
        before = scores[Axis.HIDDEN, None].clone()
        words = model.get_input_embeddings().weight
        words[:, 5] += 1
    grown = score(model)[Axis.HIDDEN, None] - before
    assert grown.argmax() == 5 and grown[[0, 1, 15]].abs().max() < 1e-3


def test_random_scores_depend_on_the_seed_alone(model):
    first, again, other = (score(model, Criterion.RANDOM, seed) for seed in (1, 1, 2))
    assert all(torch.equal(first[unit], again[unit]) for unit in first)
    assert not torch.equal(first[Axis.HIDDEN, None], other[Axis.HIDDEN, None])
    assert {unit: values.shape for unit, values in first.items()} == {
        unit: values.shape for unit, values in score(model).items()
    }


def test_the_largest_units_stay(model):
    scores = leading(score(model))
    for layer in range(LAYERS):
        scores[Axis.NEURON, layer][[7, 30]] = 1000.0
        for axis in (Axis.QUERY, Axis.KEY, Axis.VALUE):
            scores[axis, layer][8:] += 1000.0  # the second head
    scores[Axis.VALUE, 1][9] = 0.0
    scores[Axis.HIDDEN, None][[2, 15]] = 1000.0
    keep = largest(model, scores, hidden_size=7, heads=1, neurons=3)
    assert keep.hidden == [0, 1, 2, 3, 4, 5, 15]
    assert keep.heads[0] == [1] and keep.neurons[0] == [0, 7, 30]
    assert keep.query_key_dims[1] == [[0, 1, 2, 3, 4, 5, 6]] and keep.value_dims[1] == [[0, 2, 3, 4, 5, 6, 7]]
    narrow = compact(model, keep)
    assert (narrow.config.hidden_size, narrow.config.num_attention_heads, narrow.config.intermediate_size) == (7, 1, 3)
    assert torch.isfinite(narrow(**tiny_batch()).logits).all()


@pytest.mark.parametrize("criterion", ["sensitivity", "taylor"])
def test_criteria_of_gradients_ask_for_some(criterion):
    with pytest.raises(ValueError, match=rf"{criterion} reads gradients, and no parameter has one: call backward"):
        score(tiny_model("bert"), criterion)


@pytest.mark.parametrize(("factor", "message"), [(0.0, "all scores are 0"), (float("nan"), "infinite or NaN")])
def test_units_that_cannot_be_told_apart_are_not_chosen(model, factor, message):
    scores = {unit: factor * values for unit, values in score(model).items()}
    with pytest.raises(ValueError, match=message):
        largest(model, scores, hidden_size=8, heads=1, neurons=8)
    with pytest.raises(ValueError, match=message):
        highest_scoring_layers(scores, 1)


def test_units_without_effect_may_be_equal(model):
    scores = score(model, "sensitivity")
    scores[Axis.NEURON, 0][4:] = 0.0
    assert largest(model, scores, hidden_size=8, heads=1, neurons=6).neurons[0][:4] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (dict(hidden_size=15, heads=2, neurons=8), "15 dimensions cannot be shared among 2 heads, of 2 heads of 8"),
        (dict(hidden_size=12, heads=1, neurons=8), "12 dimensions cannot be shared among 1 heads"),
        (dict(hidden_size=8, heads=1, neurons=33), "1 to 32 units can be kept, got 33"),
    ],
)
def test_impossible_sizes_are_refused(model, sizes, message):
    with pytest.raises(ValueError, match=message):
        largest(model, score(model), **sizes)

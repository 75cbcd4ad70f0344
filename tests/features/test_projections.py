"""Projections: trained with the student, absent from everything that is saved."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from hf_distill.features.projections import PROJECTIONS, Projections, attach
from tests.tiny_models import tiny_bert


@pytest.fixture
def model():
    return tiny_bert(hidden_size=16, layers=2)


@pytest.fixture
def projections():
    return Projections({0, 1, 2}, 16, 24, seed=5)


def test_the_maps_train_with_the_model_but_are_not_in_its_state(model, projections):
    keys, ids = list(model.state_dict()), {id(parameter) for parameter in model.parameters()}
    attach(model, projections)
    assert list(model.state_dict()) == keys
    added = {id(parameter) for parameter in model.parameters()} - ids
    assert added == {id(parameter) for parameter in projections.parameters()} and len(added) == 2
    assert projections.state_dict().keys() == {"maps.embeddings.weight", "maps.layers.weight"}


def test_inside_a_wrapper_they_are_left_out_too(model, projections):
    wrapper = torch.nn.Sequential(model)
    keys = list(wrapper.state_dict())
    attach(model, projections)
    assert list(wrapper.state_dict()) == keys
    wrapper.load_state_dict(wrapper.state_dict(), strict=True)


def test_an_older_state_loads_strictly_and_leaves_the_maps_alone(model, projections):
    state = {name: tensor + 1 for name, tensor in model.state_dict().items()}
    maps = {name: tensor.clone() for name, tensor in projections.state_dict().items()}
    attach(model, projections)
    model.load_state_dict(state, strict=True)
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert all(torch.equal(tensor, maps[name]) for name, tensor in projections.state_dict().items())
    del state["classifier.weight"]
    with pytest.raises(RuntimeError, match=r"classifier\.weight") as error:
        model.load_state_dict(state, strict=True)
    assert PROJECTIONS not in str(error.value)


def test_a_saved_model_reloads_with_nothing_missing_or_unexpected(model, projections, tmp_path):
    attach(model, projections)
    model.save_pretrained(tmp_path)
    reloaded, info = AutoModelForSequenceClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert not hasattr(reloaded, PROJECTIONS)
    tokens = torch.tensor([[5, 6, 7]])
    weights = model.state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in reloaded.state_dict().items())
    torch.testing.assert_close(reloaded.eval()(tokens).logits, model.eval()(tokens).logits)


def test_the_seed_alone_decides_and_no_global_generator_moves(monkeypatch):
    def refuse(seed):
        raise AssertionError("the devices' generators moved")

    monkeypatch.setattr(torch.cuda, "manual_seed_all", refuse)
    state = torch.get_rng_state()
    first = Projections({0, 1}, 16, 24, seed=5)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(3)
    again, other = Projections({0, 1}, 16, 24, seed=5), Projections({0, 1}, 16, 24, seed=6)
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]) and not torch.equal(tensor, other.state_dict()[name])


def test_embeddings_have_a_map_of_their_own_and_all_layers_share_one(projections):
    states = torch.randn(2, 3, 16)
    first, second, third = (projections(states, index) for index in range(3))
    assert first.shape == (2, 3, 24)
    torch.testing.assert_close(second, third)
    assert not torch.allclose(first, second, rtol=0, atol=1e-2)
    torch.testing.assert_close(first, states @ projections.maps["embeddings"].weight.T)


@pytest.mark.parametrize(("indices", "names"), [({0}, {"embeddings"}), ({1, 2}, {"layers"})])
def test_only_the_maps_in_use_exist(indices, names):
    assert set(Projections(indices, 16, 24, seed=0).maps) == names


def test_they_follow_the_models_precision(model, projections):
    attach(model.to(torch.float64), projections)
    assert {parameter.dtype for parameter in projections.parameters()} == {torch.float64}

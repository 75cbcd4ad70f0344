"""A masked-language-model head at chosen positions only, against the same head over all of them."""

from __future__ import annotations

import pytest
import torch
from transformers import BertForMaskedLM

from hf_distill.features.masked_head import HeadAtPositions
from tests.tiny_architectures import MASKED_LM, tiny_batch, tiny_model

architectures = pytest.mark.parametrize("architecture", MASKED_LM)


@pytest.fixture
def batch():
    return tiny_batch()


@pytest.fixture
def positions(batch):
    chosen = torch.zeros_like(batch["input_ids"], dtype=torch.bool)
    chosen[0, [0, 3, 6]] = chosen[1, 2] = True
    return chosen


@architectures
def test_the_head_works_and_asking_changes_neither_mode_nor_random_state(architecture, batch):
    model = tiny_model(architecture, "MaskedLM").train()
    head, state = HeadAtPositions(model), torch.get_rng_state()
    assert head.works(model, batch)
    assert model.training and torch.equal(torch.get_rng_state(), state)
    assert model(**batch).logits.shape == (2, 7, 100)


@architectures
def test_logits_at_the_positions_are_the_dense_ones(architecture, batch, positions):
    model = tiny_model(architecture, "MaskedLM")
    dense, head = model(**batch).logits, HeadAtPositions(model)
    with head.at(positions):
        picked = model(**batch).logits
    torch.testing.assert_close(picked, dense[positions])
    with head.at(None):
        assert torch.equal(model(**batch).logits, dense)
    assert torch.equal(model(**batch).logits, dense)


@architectures
@pytest.mark.parametrize("sparse", [False, True])
def test_loss_and_gradients_are_the_dense_models(architecture, sparse, batch, positions):
    config = {"sparse_prediction": sparse} if architecture == "modernbert" else {}
    if sparse and not config:
        pytest.skip("only ModernBERT has a sparse head of its own")
    model = tiny_model(architecture, "MaskedLM", **config)
    labels = batch["input_ids"].flip(1).masked_fill(~positions, -100)
    head, losses, gradients = HeadAtPositions(model), [], []
    for at, targets in [(None, labels), (positions, labels[positions])]:
        model.zero_grad()
        with head.at(at):
            losses.append(model(**batch, labels=targets).loss)
        losses[-1].backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    torch.testing.assert_close(*losses)
    torch.testing.assert_close(gradients[1], gradients[0], atol=1e-5, rtol=1e-4)


def test_no_position_at_all_gives_no_logits(batch):
    model = tiny_model("bert", "MaskedLM")
    with HeadAtPositions(model).at(torch.zeros_like(batch["input_ids"], dtype=torch.bool)):
        assert model(**batch).logits.shape == (0, 100)


class ReshapingHead(BertForMaskedLM):
    """Its head needs the original shape of the sequence."""

    def forward(self, input_ids, attention_mask=None):
        output = self.bert(input_ids, attention_mask=attention_mask)
        output["logits"] = self.cls(output["last_hidden_state"].reshape(*input_ids.shape, -1))
        return output


class NeighboringHead(BertForMaskedLM):
    """Its head mixes positions, which raises nothing but gives other logits."""

    def forward(self, input_ids, attention_mask=None):
        output = self.bert(input_ids, attention_mask=attention_mask)
        output["logits"] = self.cls(output["last_hidden_state"].roll(1, dims=-2))
        return output


class BodylessModel(BertForMaskedLM):
    """Its body is not where its class says, so that the hook sits on the model itself."""

    base_model_prefix = "elsewhere"


@pytest.mark.parametrize("model_class", [ReshapingHead, NeighboringHead, BodylessModel])
def test_a_head_that_cannot_is_found_out_and_left_as_it_was(model_class, batch):
    model = model_class(tiny_model("bert", "MaskedLM").config).eval()
    dense = model(**batch)["logits"]
    assert not HeadAtPositions(model).works(model, batch)
    assert torch.equal(model(**batch)["logits"], dense)


def test_a_model_that_returns_tuples_is_found_out(batch):
    model = tiny_model("bert", "MaskedLM", return_dict=False)
    assert not HeadAtPositions(model).works(model, batch)

"""Feature taps against what transformers itself returns, for many architectures."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from transformers import AutoModel, BertForMaskedLM
from transformers.utils import ModelOutput

from hf_distill.features import tap as features
from hf_distill.features.projections import Projections
from hf_distill.features.tap import FeatureTap, features_of
from hf_distill.objectives.attention import attention_scores
from hf_distill.objectives.model_outputs import FeatureRequest
from tests.tiny_architectures import HEAD_OF, HEADS, OWN_ATTENTION, eager_twin, tiny_batch, tiny_model

ARCHITECTURES = [name for name in HEAD_OF if name not in OWN_ATTENTION]
CAUSAL = {"llama", "granite"}
REQUEST = FeatureRequest(frozenset({0, 3}), frozenset({1, 2}))
architectures = pytest.mark.parametrize("architecture", ARCHITECTURES)


def tapped(model, batch, request=REQUEST):
    tap = FeatureTap(model, request)
    with tap.capture():
        output = model(**batch)
    return tap, features_of(output, output["logits"])


def tensors_of(left) -> list[torch.Tensor]:
    groups = (left.hidden_states, left.queries, left.keys, left.values)
    return [tensor for group in groups for _, tensor in sorted(group.items())]


def gradients_of(model, left) -> dict[str, torch.Tensor]:
    model.zero_grad()
    sum(tensor.square().mean() for tensor in tensors_of(left)).backward()
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


@architectures
def test_logits_stay_what_they_were_to_the_bit(architecture):
    model, batch = tiny_model(architecture), tiny_batch(architecture)
    before = model(**batch).logits
    _, left = tapped(model, batch)
    assert torch.equal(left.logits, before)


@architectures
def test_only_the_requested_hidden_states_are_left_and_equal_transformers_own(architecture):
    model, batch = tiny_model(architecture), tiny_batch(architecture)
    expected = model(**batch, output_hidden_states=True).hidden_states
    _, left = tapped(model, batch)
    assert left.hidden_states.keys() == REQUEST.hidden_states
    assert all(torch.equal(states, expected[index]) for index, states in left.hidden_states.items())


@architectures
def test_queries_and_keys_reproduce_the_eager_models_attention(architecture):
    model, batch = tiny_model(architecture), tiny_batch(architecture)
    expected = eager_twin(model, architecture)(**batch, output_attentions=True).attentions
    _, left = tapped(model, batch)
    assert left.queries.keys() == left.keys.keys() == REQUEST.attention
    rows, length = expected[0].shape[0], expected[0].shape[-1]
    valid = batch.get("attention_mask", torch.ones(rows, length)).bool()
    allowed = valid[:, None, None, :].expand(-1, -1, length, -1)
    if architecture in CAUSAL:
        allowed = allowed & torch.ones(length, length, dtype=torch.bool).tril()
    for layer in REQUEST.attention:
        scores = attention_scores(left.queries[layer], left.keys[layer]).masked_fill(~allowed, -1e9)
        at_valid_queries = valid[:, None, :, None]
        torch.testing.assert_close(scores.softmax(dim=-1) * at_valid_queries, expected[layer] * at_valid_queries)


@architectures
def test_values_have_the_shape_of_keys(architecture):
    model, batch = tiny_model(architecture), tiny_batch(architecture)
    _, left = tapped(model, batch)
    length = left.hidden_states[0].shape[1]
    assert left.values.keys() == REQUEST.attention
    key_heads = 1 if architecture in CAUSAL else HEADS
    assert all(values.shape == (2, key_heads, length, 8) for values in left.values.values())


@architectures
def test_outside_on_the_output_is_the_ordinary_one(architecture):
    model, batch = tiny_model(architecture), tiny_batch(architecture)
    before = model(**batch)
    tapped(model, batch)
    after = model(**batch)
    assert isinstance(after, ModelOutput) and after.keys() == before.keys()
    assert torch.equal(after.logits, before.logits)
    assert features_of(after, after.logits).hidden_states == {}


@architectures
def test_a_saved_model_knows_nothing_of_the_tap(architecture, tmp_path):
    model, batch = tiny_model(architecture), tiny_batch(architecture)
    plain = copy.deepcopy(model)
    plain.save_pretrained(tmp_path / "plain")
    _, left = tapped(model, batch)
    model.save_pretrained(tmp_path / "tapped")
    config = (tmp_path / "tapped/config.json").read_text()
    assert "hf_distill" not in config and config == (tmp_path / "plain/config.json").read_text()
    reloaded = type(model).from_pretrained(tmp_path / "tapped").eval()
    assert not reloaded.config._attn_implementation.startswith("hf_distill")
    weights = plain.state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in reloaded.state_dict().items())
    torch.testing.assert_close(reloaded(**batch).logits, left.logits)
    body = AutoModel.from_pretrained(tmp_path / "tapped").eval()
    torch.testing.assert_close(body(**batch)[0], plain.base_model(**batch)[0])


@architectures
def test_gradients_reach_the_model_also_under_gradient_checkpointing(architecture):
    model, batch = tiny_model(architecture).train(), tiny_batch(architecture)
    tap, left = tapped(model, batch)
    expected = gradients_of(model, left)
    assert len(expected) > 10 and all(gradient.any() for name, gradient in expected.items() if "weight" in name)
    if not model.supports_gradient_checkpointing:
        return
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    with tap.capture():
        output = model(**batch)
    gradients = gradients_of(model, features_of(output, None))
    assert gradients.keys() == expected.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected[name], msg=lambda text, name=name: f"{name}: {text}")


def test_attention_through_reentrant_checkpointing_is_refused():
    model, batch = tiny_model("bert").train(), tiny_batch()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": True})
    with pytest.raises(ValueError, match="use_reentrant"):
        tapped(model, batch)
    assert features._active == []


@pytest.mark.parametrize("request_", [FeatureRequest(frozenset({2})), FeatureRequest(attention=frozenset({0}))])
def test_hidden_states_and_attention_can_be_had_one_without_the_other(request_):
    _, left = tapped(tiny_model("bert"), tiny_batch(), request_)
    assert left.hidden_states.keys() == request_.hidden_states
    assert left.queries.keys() == left.values.keys() == request_.attention


def test_eager_attention_stays_eager():
    model, batch = eager_twin(tiny_model("bert"), "bert"), tiny_batch()
    before = model(**batch, output_attentions=True)
    tap, left = tapped(model, batch)
    assert torch.equal(left.logits, before.logits)
    with tap.capture():
        after = model(**batch, output_attentions=True)
    assert all(torch.equal(one, other) for one, other in zip(after["attentions"], before.attentions, strict=True))


def test_projections_are_applied_inside_the_forward():
    model, batch = tiny_model("bert"), tiny_batch()
    project = Projections({0, 3}, 16, 24, seed=0)
    expected = {index: project(states, index) for index, states in tapped(model, batch)[1].hidden_states.items()}
    tap = FeatureTap(model, REQUEST, project)
    with tap.capture():
        left = features_of(model(**batch), None)
    for index in (0, 3):
        torch.testing.assert_close(left.hidden_states[index], expected[index])


def test_disentangled_attention_gives_hidden_states_but_no_attention():
    model, batch = tiny_model("deberta-v2"), tiny_batch()
    expected = model(**batch, output_hidden_states=True)
    tap, left = tapped(model, batch, FeatureRequest(frozenset({0, 3})))
    assert torch.equal(left.logits, expected.logits)
    assert left.hidden_states.keys() == {0, 3}
    assert all(torch.equal(states, expected.hidden_states[index]) for index, states in left.hidden_states.items())
    tap.remove()
    with pytest.raises(ValueError, match=r"DebertaV2ForSequenceClassification.*layers \[1, 2\].*attention_weight"):
        tapped(model, batch)
    assert features._active == []


def test_a_plain_module_is_refused():
    with pytest.raises(ValueError, match="transformers models only, got Linear"):
        FeatureTap(nn.Linear(2, 2), REQUEST)


def test_a_removed_tap_changes_nothing():
    model, batch = tiny_model("bert"), tiny_batch()
    before = model(**batch)
    tap, _ = tapped(model, batch)
    tap.remove()
    with tap.capture():
        after = model(**batch)
    assert isinstance(after, ModelOutput) and after.keys() == before.keys() and torch.equal(after.logits, before.logits)
    assert features._active == []


def test_a_forward_that_raises_leaves_no_tap_active():
    class FailsHalfWay(BertForMaskedLM):
        fail = True

        def forward(self, input_ids, **kwargs):
            output = super().forward(input_ids, **kwargs)
            if self.fail:
                raise RuntimeError("half way")
            return output

    model, batch = FailsHalfWay(tiny_model("bert").config).eval(), tiny_batch()
    tap = FeatureTap(model, REQUEST)
    with pytest.raises(RuntimeError, match="half way"), tap.capture():
        model(**batch)
    assert features._active == []
    assert isinstance(tiny_model("bert")(**batch), ModelOutput)
    model.fail = False
    assert isinstance(model(**batch), ModelOutput)
    with tap.capture():
        assert features_of(model(**batch), None).queries.keys() == REQUEST.attention


def test_two_tapped_models_in_turn_do_not_mix():
    student, teacher, batch = tiny_model("bert"), tiny_model("roberta", seed=1), tiny_batch()
    alone = [tensors_of(tapped(copy.deepcopy(model), batch)[1]) for model in (student, teacher)]
    student_tap, teacher_tap = FeatureTap(student, REQUEST), FeatureTap(teacher, REQUEST)
    with student_tap.capture(), teacher_tap.capture():
        for _ in range(2):
            outputs = [model(**batch) for model in (student, teacher)]
    for output, expected in zip(outputs, alone, strict=True):
        found = tensors_of(features_of(output, None))
        torch.testing.assert_close(found, expected)


def test_switched_off_the_tap_records_nothing():
    model, batch = tiny_model("bert"), tiny_batch()
    with FeatureTap(model, REQUEST).capture(enabled=False):
        assert isinstance(model(**batch), ModelOutput)

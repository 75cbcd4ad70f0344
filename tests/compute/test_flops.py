"""The closed form against torch's own counter."""

import subprocess
import sys

import pytest
import torch
import transformers
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig

from hf_distill.compute.flops import (
    FAMILIES,
    Reach,
    backward_cost,
    batch_flops,
    encoder_flops,
    forward_cost,
    parameter_cost,
    vit_length,
)
from tests.tiny_architectures import MASKED_LM, tiny_batch, tiny_model

TEXT = ["bert", "roberta", "electra", "albert", "distilbert", "modernbert", "deberta-v2"]
TASKS = {
    "SequenceClassification": "sequence_classification",
    "TokenClassification": "token_classification",
    "QuestionAnswering": "question_answering",
}
HEADS = [(architecture, head) for architecture in TEXT for head in TASKS]
HEADS += [(architecture, "MaskedLM") for architecture in [*MASKED_LM, "deberta-v2"]]
HEADS += [("llama", "CausalLM"), ("granite", "CausalLM"), ("llama", "SequenceClassification")]
TASKS |= {"MaskedLM": "masked_lm", "CausalLM": "causal_lm"}


def model_of(architecture, head=None, **config):
    # fused attention on CPUs is not counted, and DeBERTa has none
    eager = {} if architecture == "deberta-v2" else {"attn_implementation": "eager"}
    model = tiny_model(architecture, head, **eager, **config).train()
    model.config.pad_token_id, model.config.use_cache = 0, False
    return model


def counted(model, batch, backward, look=lambda output: sum(each.float().sum() for each in output.to_tuple())):
    with FlopCounterMode(display=False) as counter:
        output = model(**batch)
        if backward:
            look(output).backward()
    return counter.get_total_flops()


def texts(length, rows=3):
    return {
        "input_ids": torch.randint(4, 100, (rows, length)),
        "attention_mask": torch.ones(rows, length, dtype=torch.long),
    }


@pytest.mark.parametrize("architecture", TEXT)
@pytest.mark.parametrize("length", [7, 40])
def test_body_of_texts(architecture, length):
    body = model_of(architecture).base_model
    total = counted(body, texts(length), backward=False)
    pooler = "pooler" if getattr(body, "pooler", None) is not None else None
    assert forward_cost(body.config, pooler).of(3, length) == pytest.approx(total, rel=0.01)
    assert encoder_flops(body.config, length) == forward_cost(body.config).of(1, length)


@pytest.mark.parametrize(("architecture", "head"), HEADS)
@pytest.mark.parametrize("length", [7, 40])
@pytest.mark.parametrize("backward", [False, True])
def test_models_with_heads(architecture, head, length, backward):
    model = model_of(architecture, head)
    total = counted(model, texts(length), backward)
    found = batch_flops(model.config, [length] * 3, TASKS[head], backward=backward)
    assert found.computed == pytest.approx(total, rel=0.01) and found.padding == 0


@pytest.mark.parametrize("backward", [False, True])
def test_images(backward):
    model = model_of("vit")
    total = counted(model, tiny_batch("vit"), backward)
    found = batch_flops(model.config, [vit_length(model.config)] * 2, "image_classification", backward=backward)
    assert found.computed == pytest.approx(total, rel=0.01)


@pytest.mark.parametrize("architecture", ["bert", "vit", "modernbert"])
def test_a_miniature_of_real_size(architecture):
    sizes = dict(hidden_size=128, num_hidden_layers=2, num_attention_heads=2, intermediate_size=512)
    if architecture == "vit":
        model, batch = (
            model_of("vit", **sizes, image_size=64, patch_size=16),
            {"pixel_values": torch.randn(2, 3, 64, 64)},
        )
        expected = batch_flops(model.config, [vit_length(model.config)] * 2, "image_classification", backward=True)
    else:
        model, batch = model_of(architecture, "MaskedLM", vocab_size=3000, **sizes), texts(64)
        expected = batch_flops(model.config, [64] * 3, "masked_lm", backward=True)
    assert expected.computed == pytest.approx(counted(model, batch, backward=True), rel=0.01)


@pytest.mark.parametrize("options", [dict(share_att_key=True), dict(position_buckets=8), dict(conv_kernel_size=3)])
def test_kinds_of_deberta(options):
    model = model_of("deberta-v2", **options)
    found = batch_flops(model.config, [40] * 3, "sequence_classification", backward=True)
    assert found.computed == pytest.approx(counted(model, texts(40), backward=True), rel=0.01)


@pytest.mark.parametrize("architecture", ["bert", "roberta", "electra", "albert", "distilbert", "modernbert"])
@pytest.mark.parametrize("state", [1, 2, 3])
def test_a_loss_on_hidden_states_goes_back_from_there_only(architecture, state):
    body = model_of(architecture).base_model
    batch = texts(40) | {"output_hidden_states": True}
    total = counted(body, batch, True, lambda output: output.hidden_states[state].float().square().sum())
    pooler = "pooler" if getattr(body, "pooler", None) is not None else None
    cost = forward_cost(body.config, pooler) + backward_cost(body.config, reach=Reach(layers=state, logits=False))
    assert cost.of(3, 40) == pytest.approx(total, rel=0.01)


def test_frozen_weights_pass_gradients_on_without_their_own():
    model = model_of("bert", "TokenClassification")
    for layer in model.bert.encoder.layer:
        layer.attention.requires_grad_(False)  # four of the eight squares of a layer
    total = counted(model, texts(40), backward=True)
    cost = forward_cost(model.config, "token_classification")
    cost += backward_cost(model.config, "token_classification", learned=0.5)
    assert cost.of(3, 40) == pytest.approx(total, rel=0.01)


@pytest.mark.parametrize("architecture", ["bert", "modernbert"])
def test_padding_is_what_the_real_lengths_would_not_take(architecture):
    config, lengths = model_of(architecture).config, [3, 7, 12]
    found = batch_flops(config, lengths, "token_classification", padded_to=16, backward=True)
    alone = sum(batch_flops(config, [length], "token_classification", backward=True).computed for length in lengths)
    assert found.real == alone
    assert found.computed == batch_flops(config, [16] * 3, "token_classification", backward=True).computed
    with pytest.raises(ValueError, match="padded_to must be at least the longest sequence, 12, got 8"):
        batch_flops(config, lengths, padded_to=8)


def test_a_masked_word_head_costs_what_it_answers():
    model = model_of("bert", "MaskedLM")
    every = batch_flops(model.config, [40] * 3, "masked_lm")
    some = batch_flops(model.config, [40] * 3, "masked_lm", predictions=20)
    assert every.computed - some.computed == 100 * 2 * (16 * 16 + 16 * 100)


@pytest.mark.parametrize("architecture", ["xlm-roberta", "camembert"])
def test_relatives_of_roberta(architecture):
    config = AutoConfig.for_model(
        architecture, vocab_size=100, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        attn_implementation="eager",
    )  # fmt: skip
    model = transformers.AutoModelForMaskedLM.from_config(config)
    found = batch_flops(config, [7] * 3, "masked_lm", backward=True)
    assert found.computed == pytest.approx(counted(model, texts(7), backward=True), rel=0.01)


def test_what_is_not_known_is_refused():
    with pytest.raises(ValueError, match=r"models of type bert, .*, got 't5'"):
        forward_cost(AutoConfig.for_model("t5"))
    with pytest.raises(ValueError, match=r"task must be a value of .* got 'translation'"):
        forward_cost(AutoConfig.for_model("bert"), "translation")
    assert parameter_cost(1000).of(2, 5) == 2 * 1000 * 10


def test_it_needs_no_torch():
    program = "import sys, hf_distill.compute.flops; print('torch' in sys.modules, 'transformers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_every_family_was_counted():
    assert set(FAMILIES) == {*TEXT, "xlm-roberta", "camembert", "vit", "llama", "granite"}

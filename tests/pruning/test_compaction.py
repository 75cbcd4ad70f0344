"""Smaller matrices say what the larger ones said with the dropped units silenced."""

import pytest
import torch
from transformers import AutoModel

from hf_distill.pruning.compaction import Keep, compact, feed_forward_size
from hf_distill.pruning.importance import magnitude
from hf_distill.pruning.structure import SUPPORTED, Axis, units_of
from tests.tiny_architectures import LAYERS, tiny_batch, tiny_model

HEADS = {
    "bert": ["SequenceClassification", "MaskedLM", "PreTraining", "QuestionAnswering", "TokenClassification"],
    "roberta": ["SequenceClassification", "MaskedLM"],
    "electra": ["SequenceClassification", "MaskedLM", "TokenClassification"],  # embeddings narrower than the rest
    "distilbert": ["SequenceClassification", "MaskedLM", "QuestionAnswering"],
    "vit": ["ImageClassification"],
}
MODELS = [(architecture, head) for architecture, heads in HEADS.items() for head in heads]


def random_model(architecture, head=None, **config):
    """Also biases and norms are random, so that one left behind would be noticed."""
    model = tiny_model(architecture, head, **config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.3 * torch.randn(parameter.shape))
    return model


def answers(model, architecture):
    with torch.no_grad():
        output = model(**tiny_batch(architecture))
    return torch.cat([value.flatten() for value in output.values() if torch.is_tensor(value)])


def shuffled(number, seed):
    return torch.randperm(number, generator=torch.Generator().manual_seed(seed)).tolist()


def every_layer(units):
    return dict.fromkeys(range(LAYERS), units)


@pytest.mark.parametrize(("architecture", "head"), MODELS)
def test_units_in_another_order_give_the_same_answers(architecture, head):
    """Every parameter that a unit owns must move with it: one forgotten slice would change the answers."""
    model = random_model(architecture, head)
    neurons = feed_forward_size(model.config)
    keep = Keep(
        hidden=shuffled(16, 1),
        heads={layer: shuffled(2, layer) for layer in range(LAYERS)},
        neurons={layer: shuffled(neurons, layer) for layer in range(LAYERS)},
    )
    moved = compact(model, keep)
    pairs = zip(moved.parameters(), model.parameters(), strict=True)
    assert sum(not torch.equal(*pair) for pair in pairs) > LAYERS * 10
    torch.testing.assert_close(answers(moved, architecture), answers(model, architecture), rtol=1e-4, atol=1e-5)


def test_embeddings_as_wide_as_the_rest_move_with_it():
    model = random_model("electra", "MaskedLM", embedding_size=16)
    moved = compact(model, Keep(hidden=shuffled(16, 1)))
    torch.testing.assert_close(answers(moved, "electra"), answers(model, "electra"), rtol=1e-4, atol=1e-5)
    assert compact(model, Keep(hidden=range(8), heads=every_layer([0]))).config.embedding_size == 8


@pytest.mark.parametrize(("architecture", "head"), MODELS)
def test_without_silenced_neurons_the_answers_are_the_same(architecture, head):
    model = random_model(architecture, head)
    dropped, kept = [1, 5, 30], [neuron for neuron in range(32) if neuron not in (1, 5, 30)]
    weights = dict(model.named_parameters())
    with torch.no_grad():
        for owned in units_of(model):
            if owned.axis is Axis.NEURON and owned.dim == 1:
                weights[owned.parameter][:, dropped] = 0
    smaller = compact(model, Keep(neurons=every_layer(kept)))
    assert feed_forward_size(smaller.config) == 29 and smaller.num_parameters() < model.num_parameters()
    torch.testing.assert_close(answers(smaller, architecture), answers(model, architecture), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("architecture", SUPPORTED)
def test_a_narrower_model_is_a_stock_model(architecture, tmp_path):
    model = random_model(architecture)
    keep = Keep(hidden=range(8), heads=every_layer([1]), neurons=every_layer(range(0, 32, 2)))
    smaller = compact(model, keep)
    assert (smaller.config.hidden_size, smaller.config.num_attention_heads) == (8, 1)
    assert model.config.hidden_size == 16 and type(smaller) is type(model)
    smaller.save_pretrained(tmp_path)
    loaded, report = type(model).from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    assert torch.equal(answers(loaded, architecture), answers(smaller, architecture))
    assert isinstance(AutoModel.from_pretrained(tmp_path).config, type(model.config))


def test_tied_words_stay_tied():
    smaller = compact(tiny_model("bert", "MaskedLM"), Keep(hidden=range(8), heads=every_layer([0])))
    assert smaller.get_output_embeddings().weight is smaller.get_input_embeddings().weight


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        (Keep(hidden=range(12)), r"12 dimensions and 2 heads of 8 cannot be said\. Keep 1 heads and a multiple of 8"),
        (Keep(heads={0: [0]}), r"same number of heads, at least 1, got \[1, 2\]"),
        (Keep(neurons=every_layer([])), r"same number of neurons, at least 1, got \[0\]"),
    ],
)
def test_sizes_no_config_can_say_are_refused(keep, message):
    with pytest.raises(ValueError, match=message):
        compact(tiny_model("bert"), keep)


def test_an_unknown_family_is_refused_by_name():
    with pytest.raises(ValueError, match=r"modernbert models .* known are those of bert, roberta, electra, distilbert"):
        units_of(tiny_model("modernbert"))


def test_magnitude_is_the_sum_of_squares_of_what_a_unit_owns():
    model = tiny_model("bert")
    scores = magnitude(model)
    layer = model.bert.encoder.layer[1]
    dense = [layer.intermediate.dense.weight, layer.output.dense.weight.T, layer.intermediate.dense.bias[:, None]]
    torch.testing.assert_close(scores[Axis.NEURON, 1], torch.cat(dense, dim=1).square().sum(1).detach())
    attention = layer.attention
    inputs = [part for each in (attention.self.query, attention.self.key, attention.self.value)
              for part in (each.weight, each.bias[:, None])]  # fmt: skip
    rows = torch.cat([*inputs, attention.output.dense.weight.T], dim=1).square().sum(1).detach()
    torch.testing.assert_close(scores[Axis.HEAD, 1], rows.view(2, 8).sum(1))
    assert scores[Axis.HIDDEN, None].shape == (16,)

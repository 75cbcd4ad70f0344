"""Smaller matrices say what the larger ones said with the dropped units silenced."""

import dataclasses
import re

import pytest
import torch
from transformers import AutoModel

from hf_distill.pruning.compaction import Keep, compact, compact_in_place, feed_forward_size
from hf_distill.pruning.structure import SUPPORTED, Axis, units_of
from tests.tiny_architectures import LAYERS, tiny_batch, tiny_model

HEADS = {
    "bert": ["SequenceClassification", "MaskedLM", "PreTraining", "QuestionAnswering", "TokenClassification"],
    "roberta": ["SequenceClassification", "MaskedLM"],
    "electra": ["SequenceClassification", "MaskedLM", "TokenClassification"],  # embeddings narrower than the rest
    "distilbert": ["SequenceClassification", "MaskedLM", "QuestionAnswering"],
    "xlm-roberta": ["SequenceClassification"],
    "modernbert": ["SequenceClassification", "MaskedLM", "QuestionAnswering", "TokenClassification"],
    "nomic_bert": ["SequenceClassification", "MaskedLM"],
    "vit": ["ImageClassification"],
}
MODELS = [(architecture, head) for architecture, heads in HEADS.items() for head in heads]
ROTARY = ("modernbert", "nomic_bert")


def random_model(architecture, head=None, **config):
    """Also biases and norms are random, so that one left behind would be noticed."""
    config = {"embedding_size": 4} | config if architecture == "electra" else config
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
    assert sum(not torch.equal(*pair) for pair in pairs) > LAYERS * 5
    torch.testing.assert_close(answers(moved, architecture), answers(model, architecture), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("architecture", "head"), MODELS)
def test_dimensions_inside_heads_in_another_order_give_the_same_answers(architecture, head):
    model = random_model(architecture, head)
    query_key, value = (
        {layer: [shuffled(8, seed + layer), shuffled(8, seed + 10 + layer)] for layer in range(LAYERS)}
        for seed in (1, 50)
    )
    if architecture in ROTARY:
        with pytest.raises(ValueError, match=rf"dimensions of queries and keys of {architecture} models must stay in"):
            compact(model, Keep(query_key_dims=query_key, value_dims=value))
        query_key = {}
    moved = compact(model, Keep(query_key_dims=query_key, value_dims=value))
    torch.testing.assert_close(answers(moved, architecture), answers(model, architecture), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("architecture", "head"), [each for each in MODELS if each[0] not in ROTARY])
def test_without_silenced_dimensions_of_heads_the_answers_are_the_same(architecture, head):
    """The residual stream shrinks with them: its last dimensions are copies that norms see as the others' equals."""
    model = random_model(architecture, head)
    weights = dict(model.named_parameters())
    dropped = {Axis.QUERY: [6, 7, 14, 15], Axis.VALUE: [0, 1, 8, 9]}
    with torch.no_grad():
        for owned in units_of(model):
            if owned.axis in dropped:
                owned.of(weights[owned.parameter]).index_fill_(owned.dim, torch.tensor(dropped[owned.axis]), 0.0)
    keep = Keep(
        query_key_dims=every_layer([range(6), range(6)]), value_dims=every_layer([range(2, 8), range(2, 8)])
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"16 dimensions and 2 heads of 6 do not satisfy\. Keep 12 dimensions"):
        compact(model, keep)
    narrow = compact(model, dataclasses.replace(keep, hidden=range(12)))
    assert (narrow.config.hidden_size, narrow.config.num_attention_heads) == (12, 2)
    wide = compact(model, Keep(hidden=range(16)))
    for layer in range(LAYERS):
        torch.testing.assert_close(*(scores_of(each, architecture, layer) for each in (narrow, wide)))


@pytest.mark.parametrize("architecture", ROTARY)
def test_without_silenced_heads_the_answers_are_the_same_and_rotary_heads_stay_whole(architecture):
    model = random_model(architecture, "SequenceClassification")
    weights, dropped = dict(model.named_parameters()), {layer: layer % 2 for layer in range(LAYERS)}
    with torch.no_grad():
        for owned in units_of(model):
            if owned.axis is Axis.VALUE:
                owned.of(weights[owned.parameter]).unflatten(owned.dim, (2, 8)).select(
                    owned.dim, dropped[owned.layer]
                ).zero_()
            elif owned.axis is Axis.HIDDEN and owned.dim == 1 and "embeddings" not in owned.parameter:
                weights[owned.parameter][:, 8:] = 0
            elif owned.axis is Axis.HIDDEN:  # copies, which norms see as the others' equals
                half = owned.of(weights[owned.parameter]).movedim(owned.dim, 0)
                half[8:] = half[:8]
    smaller = compact(model, Keep(hidden=range(8), heads={layer: [1 - dropped[layer]] for layer in range(LAYERS)}))
    assert (smaller.config.hidden_size, smaller.config.num_attention_heads) == (8, 1)
    torch.testing.assert_close(answers(smaller, architecture), answers(model, architecture), rtol=1e-4, atol=1e-5)
    dims = every_layer([range(4)] * 2)
    with pytest.raises(
        ValueError, match=rf"heads of {architecture} models cannot become narrower: .*got 4\. Remove .*\[8, 16\]"
    ):
        compact(model, Keep(hidden=range(8), query_key_dims=dims, value_dims=dims))


def scores_of(model, architecture, layer):
    """A layer's attention scores for inputs in the first 12 dimensions of the residual stream."""
    states = torch.randn(2, 5, 12, generator=torch.Generator().manual_seed(layer))
    states = torch.nn.functional.pad(states, (0, model.config.hidden_size - 12))
    names = {"query": r"(query|q_lin|q_proj)", "key": r"(key|k_lin|k_proj)"}
    found = {}
    for kind, pattern in names.items():
        found[kind] = next(
            module
            for name, module in model.named_modules()
            if re.search(rf"\.layers?\.{layer}\..*{pattern}$", f".{name}")
        )
        found[kind] = found[kind](states).unflatten(-1, (2, -1)).transpose(1, 2)
    return found["query"] @ found["key"].mT / found["query"].shape[-1] ** 0.5


@pytest.mark.parametrize("optimizer_class", [torch.optim.AdamW, torch.optim.SGD])
@pytest.mark.parametrize("architecture", SUPPORTED)
def test_in_place_is_the_same_and_training_goes_on(architecture, optimizer_class, tmp_path):
    model = random_model(architecture)
    model.train()
    options = {"momentum": 0.9} if optimizer_class is torch.optim.SGD else {}
    optimizer = optimizer_class(model.parameters(), lr=1e-3, **options)

    def step():
        loss = next(iter(model(**tiny_batch(architecture)).values())).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    step()
    keep = Keep(hidden=range(0, 16, 2), heads=every_layer([1]), neurons=every_layer(range(5, 30)))
    expected, identities = compact(model, keep), [id(parameter) for parameter in model.parameters()]
    compact_in_place(model, keep, optimizer)
    assert [id(parameter) for parameter in model.parameters()] == identities
    assert model.config.to_dict() == expected.config.to_dict()
    assert all(torch.equal(*pair) for pair in zip(model.parameters(), expected.parameters(), strict=True))
    model.eval()
    torch.testing.assert_close(answers(model, architecture), answers(expected.eval(), architecture))
    for parameter in model.parameters():
        for value in optimizer.state[parameter].values():
            assert not torch.is_tensor(value) or value.dim() == 0 or value.shape == parameter.shape
    model.train()
    losses = [step() for _ in range(10)]
    assert losses[-1] < losses[0]
    model.save_pretrained(tmp_path)
    model.eval()
    reloaded = type(model).from_pretrained(tmp_path)
    assert all(torch.equal(*pair) for pair in zip(reloaded.parameters(), model.parameters(), strict=True))
    torch.testing.assert_close(answers(reloaded, architecture), answers(model, architecture))


def test_moments_and_gradients_are_cut_with_their_parameters():
    model = random_model("bert")
    optimizer = torch.optim.AdamW(model.parameters())
    for parameter in model.parameters():
        parameter.grad = parameter.detach().clone()
    optimizer.step()
    dense = model.bert.encoder.layer[0].intermediate.dense.weight
    gradient, moment = dense.grad.clone(), optimizer.state[dense]["exp_avg"].clone()
    kept = [3, 4, 9, 20]
    compact_in_place(model, Keep(neurons=every_layer(kept)), optimizer)
    assert torch.equal(dense.grad, gradient[kept]) and torch.equal(optimizer.state[dense]["exp_avg"], moment[kept])


def with_an_idle_half(model):
    """The model without effect of the second half of its hidden dimensions, and of the dimensions of each of its two heads.

    The second half of the residual stream is a copy of the first, so that normalization is that of either, and nothing
    reads it.
    """
    weights, half = dict(model.named_parameters()), model.config.hidden_size // 2
    idle = torch.arange(2 * half) % half >= half // 2
    with torch.no_grad():
        for owned in units_of(model):
            weight = owned.of(weights[owned.parameter]).movedim(owned.dim, 0)
            if owned.axis.is_of_heads:
                weight[idle] = 0
            elif owned.axis is Axis.HIDDEN and owned.dim == 1 and "embeddings" not in owned.parameter:
                weight[half:] = 0
            elif owned.axis is Axis.HIDDEN:
                weight[half:] = weight[:half]
    dims = every_layer([range(half // 2)] * 2)
    return model, Keep(hidden=range(half), query_key_dims=dims, value_dims=dims)


@pytest.mark.parametrize(
    ("optimizer_class", "of_gradient", "of_square"),
    [(torch.optim.AdamW, "exp_avg", "exp_avg_sq"), (torch.optim.RMSprop, None, "square_avg"),
     (torch.optim.Adagrad, None, "sum"), (torch.optim.SGD, "momentum_buffer", None)],
)  # fmt: skip
def test_moments_of_queries_are_those_of_their_new_gradients(optimizer_class, of_gradient, of_square):
    model, keep = with_an_idle_half(random_model("bert", "SequenceClassification"))
    momentum = dict(momentum=0.9) if optimizer_class is torch.optim.SGD else {}
    optimizer = optimizer_class(model.parameters(), lr=0.0, **momentum)

    def backward():
        model.zero_grad()
        logits = model.eval()(**tiny_batch()).logits
        logits.square().sum().backward()
        return logits.detach()

    before = backward()
    optimizer.step()
    queries = [
        model.bert.encoder.layer[1].attention.self.query.weight,
        model.bert.encoder.layer[1].attention.self.query.bias,
    ]
    compact_in_place(model, keep, optimizer)
    kept = [query.grad.clone() for query in queries]
    torch.testing.assert_close(backward(), before, rtol=1e-4, atol=1e-6)
    for query, gradient in zip(queries, kept, strict=True):
        state = optimizer.state[query]
        assert query.grad.abs().max() > 1e-5
        torch.testing.assert_close(gradient, query.grad, rtol=1e-3, atol=1e-7)
        if of_gradient:
            share = 0.1 if optimizer_class is torch.optim.AdamW else 1.0
            torch.testing.assert_close(state[of_gradient], share * query.grad, rtol=1e-3, atol=1e-7)
        if of_square:
            share = {torch.optim.AdamW: 1e-3, torch.optim.RMSprop: 1e-2}.get(optimizer_class, 1.0)
            torch.testing.assert_close(state[of_square], share * query.grad.square(), rtol=2e-3, atol=1e-10)


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
    assert all(torch.equal(*pair) for pair in zip(loaded.parameters(), smaller.parameters(), strict=True))
    torch.testing.assert_close(answers(loaded, architecture), answers(smaller, architecture))
    assert isinstance(AutoModel.from_pretrained(tmp_path).config, type(model.config))


def test_tied_words_stay_tied():
    smaller = compact(tiny_model("bert", "MaskedLM"), Keep(hidden=range(8), heads=every_layer([0])))
    assert smaller.get_output_embeddings().weight is smaller.get_input_embeddings().weight


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        (Keep(hidden=range(12)), r"12 dimensions and 2 heads of 8 do not satisfy\. Keep 16 dimensions, or other heads"),
        (Keep(heads={0: [0]}), r"same number of heads, at least 1, got \[1, 2\]"),
        (Keep(value_dims=every_layer([range(4)] * 2)), r"as many dimensions per head as values, got \[4, 8\]"),
        (Keep(query_key_dims={0: [range(8)]}), r"layer 0 keeps 2 heads, but dimensions are given for 1"),
        (Keep(neurons=every_layer([])), r"same number of neurons, at least 1, got \[0\]"),
    ],
)
def test_sizes_no_config_can_say_are_refused(keep, message):
    with pytest.raises(ValueError, match=message):
        compact(tiny_model("bert"), keep)


def test_a_width_without_the_projection_that_it_had_is_refused():
    with pytest.raises(ValueError, match=r"no projection where hidden size and embedding size are both 8"):
        compact(tiny_model("electra"), Keep(hidden=range(8), heads=every_layer([0])))


def test_an_unknown_family_is_refused_by_name():
    with pytest.raises(ValueError, match=r"albert models .* known are those of bert, roberta, xlm-roberta, electra"):
        units_of(tiny_model("albert"))

"""Fake int8 gives the values of integer arithmetic, and leaves a model what it was."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from hf_distill.quantization import Int8Embedding, Int8Linear, Quantization, exact, in_range, per_row, set_quantization
from tests.tiny_models import parameters_of, tiny_bert


def in_integers(values: np.ndarray, of: np.ndarray) -> tuple[np.ndarray, float, float]:
    """uint8 values, scale and zero point as ONNX's operator DynamicQuantizeLinear defines them."""
    low, high = min(of.min(), 0), max(of.max(), 0)
    scale = (high - low) / 255
    zero = np.rint(-low / scale)
    return np.clip(np.rint(values / scale) + zero, 0, 255), scale, zero


def test_values_become_the_nearest_of_256_in_their_range():
    values = torch.tensor([-1.0, 0.0, 0.0174, 0.5, 2.0])  # a 255th of the range is 1 / 85
    found = in_range(values, values)
    assert (85 * found).tolist() == pytest.approx([-85, 0, 1, 42, 170], abs=1e-4)  # 42.5 is rounded to the even number
    assert (in_range(torch.tensor([3.0, -3.0]), values)).tolist() == pytest.approx([2, -1])  # beyond the range


@pytest.mark.parametrize("values", [[0.5, 2.0], [-0.5, -2.0]])
def test_a_range_contains_zero(values):
    values = torch.tensor(values)
    steps = in_range(values, values) * 255 / 2
    assert steps.abs().tolist() == pytest.approx([64, 255], abs=1e-3)


def test_rows_of_weights_have_scales_of_their_own():
    weight = torch.tensor([[64.0, 1.4, -63.6], [0.064, -0.0314, 0.0], [0.0, 0.0, 0.0]])
    expected = [[64.0, 1.0, -64.0], [0.064, -0.031, 0.0], [0.0, 0.0, 0.0]]
    assert per_row(weight).tolist() == [pytest.approx(row, abs=1e-5) for row in expected]


def test_a_linear_layer_computes_as_integers_do():
    layer, inputs = nn.Linear(24, 7), torch.randn(3, 5, 24)
    numbers, scale, zero = in_integers(inputs.numpy(), inputs.numpy())
    weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    scales = np.abs(weight).max(axis=1) / 64
    products = (numbers - zero) @ np.rint(weight / scales[:, None]).T
    set_quantization(layer, Quantization.INT8)
    found = layer(inputs)
    torch.testing.assert_close(found, torch.tensor(products * scale * scales + bias, dtype=torch.float32))
    assert not torch.allclose(found, nn.functional.linear(inputs, layer.weight, layer.bias), atol=1e-4)


def test_embeddings_have_the_range_of_the_table():
    table, rows = nn.Embedding(9, 6, padding_idx=0), torch.tensor([[1, 4, 0], [8, 4, 2]])
    weight = table.weight.detach().numpy()
    numbers, scale, zero = in_integers(weight, weight)
    set_quantization(table, Quantization.INT8)
    torch.testing.assert_close(table(rows), torch.tensor((numbers - zero) * scale, dtype=torch.float32)[rows])
    assert (table(rows)[0, 2] == 0).all()


def test_gradients_pass_through_the_rounding():
    layer, inputs = nn.Linear(24, 7), torch.randn(3, 24, requires_grad=True)
    rounded_inputs, rounded_weight = in_range(inputs, inputs).detach(), per_row(layer.weight).detach()
    set_quantization(layer, Quantization.INT8)
    outer = torch.randn(3, 7)
    layer(inputs).backward(outer)
    torch.testing.assert_close(inputs.grad, outer @ rounded_weight)
    torch.testing.assert_close(layer.weight.grad, outer.T @ rounded_inputs)


def test_layers_compile_without_a_break():
    layers, tokens = nn.Sequential(nn.Embedding(9, 24), nn.Linear(24, 7)), torch.tensor([[1, 4, 0]])
    set_quantization(layers, Quantization.INT8)
    compiled = torch.compile(layers, backend="eager", fullgraph=True)
    assert torch.equal(compiled(tokens), layers(tokens))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_ranges_and_scales_are_computed_in_single_precision(dtype):
    weight = torch.randn(5, 24).to(dtype)
    for found, expected in (
        (in_range(weight, weight), in_range(weight.float(), weight.float())),
        (per_row(weight), per_row(weight.float())),
    ):
        assert found.dtype == dtype
        torch.testing.assert_close(found, expected.to(dtype))


def test_layers_stay_the_same_objects_with_the_same_weights():
    model = tiny_bert(layers=2)
    expected, modules = copy.deepcopy(model.state_dict()), list(model.modules())
    set_quantization(model, Quantization.INT8)
    kinds = [type(module) for module in model.modules()]
    assert kinds.count(Int8Linear) == 2 * 6 + 2 and kinds.count(Int8Embedding) == 3
    assert all(now is before for now, before in zip(model.modules(), modules, strict=True))
    state = model.state_dict()
    assert state.keys() == expected.keys() and all(torch.equal(state[name], expected[name]) for name in state)
    set_quantization(model, None)
    assert not {type(module) for module in model.modules()} & {Int8Linear, Int8Embedding}


def test_a_layer_with_a_computation_of_its_own_is_left_alone():
    class Doubled(nn.Embedding):
        def forward(self, input):
            return 2 * super().forward(input)

    model = nn.Sequential(Doubled(4, 4))
    set_quantization(model, Quantization.INT8)
    assert type(model[0]) is Doubled


def test_an_exact_copy_only_of_what_is_not_exact():
    model = tiny_bert()
    assert exact(model) is model
    set_quantization(model, Quantization.INT8)
    found = exact(model)
    assert found is not model and type(found.classifier) is nn.Linear and type(model.classifier) is Int8Linear
    assert torch.equal(parameters_of(found), parameters_of(model))


def test_adapters_are_refused():
    model = tiny_bert()
    model.peft_config = {"default": None}
    with pytest.raises(
        ValueError, match=r"'int8' needs a student that is trained as a whole, got a BertFor.* with adapters"
    ):
        set_quantization(model, Quantization.INT8)
    set_quantization(model, None)

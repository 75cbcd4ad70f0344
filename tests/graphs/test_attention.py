"""Attention as one operator answers as the model does, whatever the architecture, and ONNX Runtime runs nothing slow."""

from collections import Counter

import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor

from hf_distill.graphs.attention import OPSET
from hf_distill.graphs.export import export_onnx, traced_inputs
from hf_distill.graphs.formats import GraphFormat, convert, layers_of
from hf_distill.graphs.runner import GraphRunner
from tests.tiny_architectures import LAYERS, OWN_ATTENTION, tiny_batch, tiny_model
from tests.tiny_models import tiny_bert

FUSED = ["bert", "roberta", "xlm-roberta", "electra", "albert", "distilbert", "modernbert", "nomic_bert", "vit"]
WITH_REPEATED_KEYS = ["llama", "granite"]  # several heads of queries share one of keys


def answers(model, inputs: dict[str, Tensor]) -> Tensor:
    with torch.inference_mode():
        return model(**inputs).logits


def exported(model, path, architecture="bert", *, fused=True):
    example = traced_inputs(model, {name: value[:, :5] for name, value in tiny_batch(architecture).items()})
    if architecture == "vit":
        example = tiny_batch(architecture)
    export_onnx(model, example, path, fused=fused)
    return Counter(node.op_type for node in onnx.load(path).graph.node)


@pytest.mark.parametrize("architecture", [*FUSED, *OWN_ATTENTION, *WITH_REPEATED_KEYS])
def test_the_answers_are_the_model_s_with_padding_and_other_lengths(architecture, tmp_path):
    model, inputs = tiny_model(architecture), tiny_batch(architecture)
    expected = answers(model, inputs)
    nodes = exported(model, tmp_path / "fused.onnx", architecture)
    real = torch.ones(expected.shape[:-1], dtype=torch.bool)
    if expected.ndim == 3 and "attention_mask" in inputs:  # tokens; what stands at padding nobody reads
        real = inputs["attention_mask"].bool()
    found = GraphRunner(tmp_path / "fused.onnx")(inputs)["logits"]
    assert torch.allclose(found[real], expected[real], atol=1e-5)
    assert nodes["Attention"] == (LAYERS if architecture in FUSED else 0)
    assert torch.equal(answers(model, inputs), expected)  # the model is as it was


@pytest.mark.parametrize("architecture", ["modernbert", "llama"])
def test_windows_and_later_tokens_stay_out_of_sight(architecture, tmp_path):
    changes = {"local_attention": 2} if architecture == "modernbert" else {"num_key_value_heads": 2}
    model, inputs = tiny_model(architecture, **changes), tiny_batch(architecture)
    inputs = {name: value[:1] for name, value in inputs.items()}  # without padding
    nodes = exported(model, tmp_path / "fused.onnx", architecture)
    assert nodes["Attention"] == LAYERS
    run = GraphRunner(tmp_path / "fused.onnx")
    assert torch.allclose(run(inputs)["logits"], answers(model, inputs), atol=1e-5)


def test_a_fused_file_has_the_same_layers_and_no_reshapes_and_int8_of_it_the_same_answers(tmp_path):
    model = tiny_bert(hidden_size=64, layers=2).eval()
    plain, fused = tmp_path / "plain.onnx", tmp_path / "fused.onnx"
    few, many = exported(model, fused), exported(model, plain, fused=False)
    assert few["Reshape"] == few["Transpose"] == few["Softmax"] == 0 and many["Attention"] == 0
    assert few.total() < 0.7 * many.total()
    assert list(layers_of(fused)) == list(layers_of(plain))
    found = []
    for path in (plain, fused):
        convert(path, target := tmp_path / "int8.onnx", GraphFormat.INT8)
        found.append(GraphRunner(target)(tiny_batch())["logits"])
    assert torch.allclose(*found, atol=0.05 * found[0].std())


@pytest.mark.parametrize("fused", [True, False])
def test_onnx_runtime_keeps_sums_and_layer_normalization_apart(fused, tmp_path):
    exported(tiny_bert(hidden_size=64, layers=2).eval(), tmp_path / "model.onnx", fused=fused)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(tmp_path / "model.onnx", options, providers=["CPUExecutionProvider"])
    nodes = Counter(node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node)
    assert nodes["LayerNormalization"] == 5 and nodes["SkipLayerNormalization"] == 0


def test_plain_files_have_operators_of_an_older_version_than_attention(tmp_path):
    model = tiny_bert(hidden_size=64, layers=1).eval()
    exported(model, tmp_path / "plain.onnx", fused=False)
    exported(model, tmp_path / "fused.onnx")
    versions = [onnx.load(tmp_path / f"{name}.onnx").opset_import[0].version for name in ("plain", "fused")]
    assert versions[0] < versions[1] == OPSET

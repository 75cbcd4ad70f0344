"""Files of every format answer as the model does, are as small as their numbers, and tell nothing of this machine."""

import copy
import logging

import onnx
import pytest
import torch

from hf_distill.evaluation.formats import in_format
from hf_distill.graphs.export import export_onnx, traced_inputs
from hf_distill.graphs.formats import GraphFormat, convert, layers_of
from hf_distill.graphs.messages import silenced
from hf_distill.graphs.runner import GraphRunner
from hf_distill.quantization import Quantization, set_quantization
from tests.tiny_architectures import tiny_model
from tests.tiny_models import VOCABULARY, tiny_bert

LAYER = "bert.encoder.layer.0"
LINEAR = ["attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"]
LAYERS = [
    *(f"bert.embeddings.{kind}_embeddings" for kind in ("word", "token_type", "position")),
    *(f"{LAYER}.{name}" for name in [*LINEAR, "intermediate.dense", "output.dense"]),
    *("bert.pooler.dense", "classifier"),
]


@pytest.fixture(scope="module")
def model():
    return tiny_bert(hidden_size=64, layers=1).eval()


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "model.onnx"
    export_onnx(model, traced_inputs(model, tokens(2, 16)), path)
    return path


def tokens(rows: int, length: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(rows)
    ids = torch.randint(4, VOCABULARY, (rows, length), generator=generator)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def test_layers_are_called_as_in_torch(exported):
    assert sorted(layers_of(exported)) == sorted(LAYERS)


def test_token_types_are_an_input_that_counts(exported, model):
    inputs = tokens(3, 9)
    inputs["token_type_ids"] = torch.zeros_like(inputs["input_ids"])
    inputs["token_type_ids"][:, 4:] = 1
    with torch.inference_mode():
        expected = model(**inputs).logits
    run = GraphRunner(exported)
    assert torch.allclose(run(inputs)["logits"], expected, atol=1e-5)
    del inputs["token_type_ids"]  # then they are zeros
    assert not torch.allclose(run(inputs)["logits"], expected, atol=1e-2)


@pytest.mark.parametrize(
    ("number_format", "tolerance", "share"),
    [(GraphFormat.ONNX, 1e-5, 1), (GraphFormat.FP16, 0.02, 0.6), (GraphFormat.INT8, 0.3, 0.5), (GraphFormat.INT8_STATIC, 0.8, 0.5)],
)  # fmt: skip
def test_every_format_answers_as_the_model_and_is_smaller(number_format, tolerance, share, exported, model, tmp_path):
    inputs, target = tokens(5, 13), tmp_path / "converted.onnx"
    calibration = [traced_inputs(model, tokens(8, 16))]
    convert(exported, target, number_format, calibration=calibration)
    with torch.inference_mode():
        expected = model(**inputs).logits
    run = GraphRunner(target)
    difference = (run(inputs)["logits"] - expected).abs().max()
    assert difference <= tolerance * expected.std() and (number_format is GraphFormat.ONNX or difference > 0)
    assert run.megabytes == pytest.approx(target.stat().st_size / 1e6, abs=1e-3)
    assert run.megabytes <= share * GraphRunner(exported).megabytes + 0.01


@pytest.mark.parametrize("rows", [1, 5])
def test_fake_int8_answers_as_the_export_does(rows, exported, model, tmp_path):
    inputs = tokens(rows, 13)
    fake = copy.deepcopy(model)
    set_quantization(fake, Quantization.INT8)
    convert(exported, tmp_path / "int8.onnx", GraphFormat.INT8)
    answers = GraphRunner(tmp_path / "int8.onnx")(inputs)["logits"]
    with torch.inference_mode():
        of_fake, of_model = ((each(**inputs).logits - answers).abs().max() for each in (fake, model))
    assert of_fake < 0.2 * of_model and of_model > 1e-3


def test_fake_int8_is_exported_as_it_is_saved(exported, model, tmp_path):
    fake = copy.deepcopy(model)
    set_quantization(fake, Quantization.INT8)
    inputs = tokens(5, 13)
    export_onnx(fake, traced_inputs(fake, tokens(2, 16)), tmp_path / "model.onnx")
    expected = GraphRunner(exported)(inputs)["logits"]
    assert torch.equal(GraphRunner(tmp_path / "model.onnx")(inputs)["logits"], expected)
    assert sorted(layers_of(tmp_path / "model.onnx")) == sorted(LAYERS)
    with torch.inference_mode():
        of_model = model(**inputs).logits
    assert torch.equal(in_format(fake, "fp32", inputs)(inputs)["logits"], of_model)


@pytest.mark.parametrize("architecture", ["mpnet", "deberta-v2"])
def test_half_precision_leaves_buckets_of_positions_as_they_are(architecture, tmp_path):
    own = {"deberta-v2": dict(relative_attention=True, pos_att_type=["p2c", "c2p"], position_buckets=8)}
    config = dict(max_position_embeddings=130, initializer_range=0.5) | own.get(architecture, {})
    model = tiny_model(architecture, "SequenceClassification", **config)
    rows = {"input_ids": torch.randint(5, 30, (8, 96), generator=torch.Generator().manual_seed(0))}
    rows["attention_mask"] = torch.ones_like(rows["input_ids"])
    export_onnx(model, {name: value[:2] for name, value in rows.items()}, tmp_path / "exact.onnx")
    convert(tmp_path / "exact.onnx", tmp_path / "half.onnx", GraphFormat.FP16)
    with torch.inference_mode():
        expected = model(**rows).logits
    torch.testing.assert_close(
        GraphRunner(tmp_path / "half.onnx")(rows)["logits"], expected, rtol=0, atol=0.01 * expected.std().item()
    )


@pytest.mark.parametrize("number_format", [GraphFormat.INT8, GraphFormat.INT8_STATIC])
def test_layers_that_are_kept_stay_in_single_precision(number_format, exported, model, tmp_path):
    calibration = [traced_inputs(model, tokens(8, 16))]
    convert(exported, tmp_path / "all.onnx", number_format, LAYERS, calibration)
    inputs = tokens(5, 13)
    expected = GraphRunner(exported)(inputs)["logits"]
    assert torch.allclose(GraphRunner(tmp_path / "all.onnx")(inputs)["logits"], expected, atol=1e-5)
    convert(exported, tmp_path / "head.onnx", number_format, ["classifier"], calibration)
    weights = {each.name: each.data_type for each in onnx.load(tmp_path / "head.onnx").graph.initializer}
    single = [
        name
        for name, kind in weights.items()
        if kind == onnx.TensorProto.FLOAT and "weight" in name and "scale" not in name
    ]
    assert any("classifier" in name for name in single) and not any("pooler" in name for name in single)


@pytest.mark.parametrize("number_format", [GraphFormat.INT8, GraphFormat.INT8_STATIC])
def test_products_of_int8_do_not_overflow_on_processors_that_add_pairs_in_16_bits(
    number_format, exported, model, tmp_path
):
    convert(exported, tmp_path / "int8.onnx", number_format, calibration=[traced_inputs(model, tokens(8, 16))])
    stored = [onnx.numpy_helper.to_array(each) for each in onnx.load(tmp_path / "int8.onnx").graph.initializer]
    matrices = [each.astype(int) for each in stored if each.dtype == "int8" and each.ndim == 2]
    assert len(matrices) == 8 and {abs(each).max() for each in matrices} == {64}
    assert 2 * 255 * 64 < 2**15
    embeddings = [each for each in stored if each.dtype == "uint8" and each.ndim == 2]
    assert {each.max() for each in embeddings} == {255}, "they are in no product"


def test_a_static_format_needs_rows_to_calibrate_on(exported, tmp_path):
    with pytest.raises(ValueError, match="'onnx-int8-static' needs rows to calibrate on, got none"):
        convert(exported, tmp_path / "x.onnx", GraphFormat.INT8_STATIC)


def test_the_file_has_no_paths_of_this_machine(exported):
    content = exported.read_bytes()
    assert b"site-packages" not in content and b".py" not in content


def test_an_export_leaves_the_form_of_later_messages_as_it_is(exported, tmp_path):
    before = logging.getLogger().handlers[:]
    with silenced(None):
        logging.getLogger().addHandler(logging.StreamHandler())  # as logging.warning of a library does
    convert(exported, tmp_path / "int8.onnx", GraphFormat.INT8)
    assert logging.getLogger().handlers == before

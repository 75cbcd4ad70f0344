"""Latency is measured on the model given, in the format asked for."""

import logging
from itertools import pairwise

import pytest
import torch

from hf_distill.evaluation.formats import Format, in_format
from hf_distill.evaluation.latency import machine_load, measure_latency, random_tokens
from tests.tiny_models import VOCABULARY, tiny_bert


def test_a_deeper_model_takes_longer_and_conditions_are_stated():
    models = {"deep": tiny_bert(hidden_size=64, layers=12).train(), "shallow": tiny_bert(hidden_size=64, layers=1)}
    found = measure_latency(models, batch_size=2, sequence_length=16, runs=9, warm_up=2)
    assert found["deep"]["median_ms"] > 2 * found["shallow"]["median_ms"] > 0
    for measured in found.values():
        assert measured["p95_ms"] >= measured["median_ms"]
        assert (measured["batch_size"], measured["sequence_length"], measured["runs"]) == (2, 16, 9)
        assert measured["threads"] == torch.get_num_threads() and measured["device"] == "cpu"


@pytest.mark.parametrize(
    ("runs", "turns", "consecutive"), [(1, 1, 1), (2, 1, 2), (5, 3, 2), (20, 10, 2), (50, 10, 5), (57, 10, 6)]
)
def test_models_take_turns_of_several_passes_whose_first_is_not_timed(runs, turns, consecutive, monkeypatch):
    passes = []
    clock = iter(range(10**6))
    monkeypatch.setattr("time.perf_counter", lambda: next(clock) * 0.025)  # 25 ms a pass
    models = {name: lambda batch, name=name: passes.append(name) for name in ("first", "second")}
    found = measure_latency(models, runs=runs, warm_up=3)
    assert sum(one != other for one, other in pairwise(passes)) == 2 * turns - 1
    assert passes.count("first") == passes.count("second") == 3 + turns + runs
    assert {each["consecutive"] for each in found.values()} == {consecutive}
    assert all(each["median_ms"] == each["p95_ms"] == 25 for each in found.values())


def test_what_runs_in_the_first_20_milliseconds_of_a_turn_is_not_timed(monkeypatch):
    passes = []
    clock = iter(range(10**6))
    monkeypatch.setattr("time.perf_counter", lambda: next(clock) * 0.004)  # 4 ms a pass
    measure_latency({"fast": lambda batch: passes.append(batch)}, runs=2, warm_up=0)
    assert len(passes) == 5 + 2


@pytest.mark.parametrize(
    ("number_format", "tolerance"),
    [("fp32", 1e-5), ("bf16", 0.1), ("int8", 0.3), ("onnx", 1e-5), ("onnx-fp16", 0.1), ("onnx-int8", 0.3)],
)
def test_every_format_gives_the_model_s_answers_and_leaves_it_alone(number_format, tolerance):
    model = tiny_bert(hidden_size=64, layers=2).eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    example, inputs = random_tokens(VOCABULARY, 2, 8, "cpu"), random_tokens(VOCABULARY, 5, 13, "cpu")
    run = in_format(model, number_format, example)
    with torch.inference_mode():
        expected = model(**inputs).logits
    answer = run(inputs | {"not_read": torch.ones(5)})["logits"].float()
    spread = expected.std()
    assert (answer - expected).abs().max() <= tolerance * spread
    assert number_format == "fp32" or not torch.equal(answer, expected)  # it is another format
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("number_format", [Format.INT8, Format.ONNX])
def test_formats_of_the_cpu_are_refused_elsewhere(number_format):
    with pytest.raises(ValueError, match=f"'{number_format.value}' runs on the CPU only, got device 'cuda'"):
        in_format(tiny_bert(), number_format, {}, "cuda")


def test_an_export_says_nothing_of_operators_that_no_encoder_has():
    name, said = "torch.onnx._internal.exporter._registration", []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    log = logging.getLogger(name)
    log.addHandler(handler)
    level = log.level
    try:
        model = tiny_bert(hidden_size=16, layers=1).eval()
        in_format(model, Format.ONNX, random_tokens(VOCABULARY, 1, 8, "cpu"))
    finally:
        log.removeHandler(handler)
    assert not [line for line in said if "torchvision" in line] and log.level == level


def test_onnx_reads_token_types_so_that_pairs_of_texts_are_predicted_with_them():
    model = tiny_bert(hidden_size=16, layers=1).eval()
    inputs = random_tokens(VOCABULARY, 3, 8, "cpu")
    inputs["token_type_ids"] = torch.ones_like(inputs["input_ids"])
    run = in_format(model, "onnx", random_tokens(VOCABULARY, 2, 8, "cpu"))
    with torch.inference_mode():
        assert torch.allclose(run(inputs)["logits"], model(**inputs).logits, atol=1e-5)


@pytest.mark.parametrize(("load", "busy"), [(2.9, {}), (5.1, {"busy": "load average 5.1 on 2 processors"})])
def test_a_busy_machine_is_told_and_recorded(load, busy, monkeypatch, caplog):
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    monkeypatch.setattr("os.getloadavg", lambda: (load, 0.0, 0.0), raising=False)
    assert machine_load() == busy
    assert ("The machine is busy" in caplog.text) == bool(busy)

"""Candidates: names, sizes by calculation, and what a plan and a search make of them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from datasets import load_from_disk

from hf_distill.compression.candidate import Candidate, Size
from hf_distill.compression.plan import _default_vocabulary, default_selection, target_of
from hf_distill.compression.predicted_latency import predict_latencies
from hf_distill.compression.search_space import Limits, SearchSpace
from hf_distill.compression.vocabularies import Vocabularies, checked_vocabulary
from hf_distill.evaluation.comparison import LatencySettings
from tests.compression.made import save_data
from tests.tiny_models import tiny_bert, tiny_tokenizer

TEACHER = {"hidden_size": 128, "layers": 4}


def candidate(layers=2, hidden_size=128, initialization="truncated", selection="uniform", vocabulary="texts"):
    return Candidate(layers, hidden_size, initialization, selection, vocabulary, "onnx-int8")


@pytest.mark.parametrize(
    "each",
    [candidate(), candidate(1), candidate(2, 64, "width"), candidate(2, 64, "embeddings"), candidate(3, 64, "random")],
    ids=lambda each: each.name,
)
def test_the_size_by_calculation_is_that_of_the_student(each):
    teacher = tiny_bert(**TEACHER)
    size, student = Size.of(each, teacher), each.create(teacher)
    assert size.parameters == student.num_parameters()
    assert size == Size.of_model(student) and not any(part.is_meta for part in student.parameters())
    weights = [part for name, part in student.named_parameters() if name.endswith("weight") and part.dim() == 2]
    assert size.quantizable == sum(part.numel() for part in weights)
    assert (
        size.megabytes("fp32") == 4 * size.parameters / 1e6 and size.megabytes("onnx-fp16") == 2 * size.parameters / 1e6
    )
    assert size.megabytes("onnx-int8") == (size.quantizable + 4 * (size.parameters - size.quantizable)) / 1e6


def test_layers_are_those_that_the_student_starts_from():
    teacher, each = tiny_bert(**TEACHER), candidate()
    assert each.teacher_layers(teacher) == [0, 2]
    layers, own = teacher.bert.encoder.layer, each.create(teacher).bert.encoder.layer
    assert torch.equal(own[1].output.dense.weight, layers[2].output.dense.weight)


def test_names_tell_students_apart_and_their_formats():
    assert candidate().student == "2x128-truncated-uniform-texts" and candidate().name.endswith("texts-onnx-int8")
    assert candidate(initialization="random").student == "2x128-random-texts"


def test_vocabularies_are_trimmed_to_the_texts_once(tmp_path):
    rows = load_from_disk(save_data(tmp_path))["train"]
    found = Vocabularies(tiny_bert(**TEACHER), tiny_tokenizer(), rows)
    assert found.tokens("full") == 100 > found.tokens("texts") > found.tokens("20") == 20
    assert found["texts"] is found["texts"] and found["20"][0].config.vocab_size == 20


@pytest.mark.parametrize("text", ["", "0", "-1", "2.5", "all"])
def test_no_vocabulary(text):
    with pytest.raises(ValueError, match="a vocabulary is full, texts or a number of tokens, got"):
        checked_vocabulary(text)


def test_a_vocabulary_that_cannot_be_trimmed_stays_whole_and_the_user_is_told():
    class Whole:
        def __getitem__(self, vocabulary):
            raise ValueError("the tokenizer is of a kind of its own")

    said = []
    assert _default_vocabulary(SimpleNamespace(vocabularies=Whole()), said.append) == "full"
    assert said == ["The vocabulary stays whole: the tokenizer is of a kind of its own."]


def test_targets():
    assert target_of("10x") == 10 and target_of(" 2.5 x") == 2.5
    for text in ("1x", "0.5x", "10", "x", "10MB", "-3x"):
        with pytest.raises(ValueError, match="such as 10x; got"):
            target_of(text)


def test_of_deep_teachers_evenly_spaced_layers_are_taken():
    assert (default_selection(6).value, default_selection(12).value) == ("bottom", "uniform")


def test_latencies_of_depths_between_those_measured_are_on_a_line(monkeypatch):
    asked = []

    def measured(runners, *settings, **others):
        asked.extend(runners)
        layers = {name: int(name[0]) for name in runners}
        return {name: {"median_ms": 1.0 + 2.0 * layers[name]} for name in runners}

    monkeypatch.setattr("hf_distill.compression.predicted_latency.measure_latency", measured)
    teacher = tiny_bert(**TEACHER)
    found = [Candidate(layers, 128, "truncated", "bottom", "full", "fp32") for layers in (1, 2, 4)]
    found.append(Candidate(2, 64, "width", "bottom", "full", "fp32"))
    times = predict_latencies(found, lambda vocabulary: teacher, LatencySettings((1,), (8,)))
    assert [times[each.name] for each in found] == [3.0, 5.0, 9.0, 5.0]
    assert [name[0] for name in asked] == ["1", "4", "2"]


def test_the_space_has_the_initializations_that_fit(monkeypatch):
    space = SearchSpace((1, 2), (64, 128), ("full",), ("truncated", "width", "embeddings"), ("fp32",))
    found = {(each.hidden_size, each.initialization) for each in space.candidates(lambda name: tiny_bert(**TEACHER))}
    assert found == {(64, "width"), (64, "embeddings"), (128, "truncated"), (128, "embeddings")}
    every = SearchSpace(vocabularies=("full",)).candidates(lambda name: tiny_bert(256, 6))
    assert {each.layers for each in every} == {1, 2, 3} and {each.hidden_size for each in every} == {128, 256}
    with pytest.raises(ValueError, match="none of the initializations"):
        SearchSpace((1,), (64,), ("full",), ("truncated",)).candidates(lambda name: tiny_bert(**TEACHER))


def test_limits_are_met_by_what_is_measured():
    row = {"parameters": 100, "metrics": {"accuracy": 0.8}}
    assert Limits(5.0, 100, 0.8).are_met(row, "accuracy", 5.0)
    assert not Limits(5.0).are_met(row, "accuracy", 5.1) and not Limits(5.0).are_met(row, "accuracy", None)
    assert not Limits(max_parameters=99).are_met(row, "accuracy", 1.0)
    assert not Limits(min_accuracy=0.81).are_met(row, "accuracy", 1.0)

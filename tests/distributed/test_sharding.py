"""When a teacher is kept in parts; that it then teaches the same is shown in tests/distributed."""

import re

import pytest
import torch
import torch.distributed as dist

from hf_distill import ProgressiveTrainingArguments
from hf_distill.distributed.sharding import is_to_be_sharded, layers_of
from tests.tiny_architectures import HEAD_OF, LAYERS, tiny_model

TEACHER = torch.nn.Linear(100, 100, bias=False)  # 20,000 bytes in bfloat16
GPU, CPU = torch.device("cuda"), torch.device("cpu")


@pytest.fixture
def two_processes(monkeypatch):
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)


@pytest.mark.parametrize(
    ("free", "other", "expected"), [(39_000, False, True), (41_000, False, False), (41_000, True, True)]
)
def test_by_itself_where_half_of_the_free_memory_is_too_little(monkeypatch, two_processes, free, other, expected):
    def gather(found, own):
        found[:] = [own, other]

    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 10**9))
    monkeypatch.setattr(dist, "all_gather_object", gather)
    assert is_to_be_sharded("auto", TEACHER, torch.bfloat16, GPU) is expected
    assert not is_to_be_sharded("never", TEACHER, torch.bfloat16, GPU)


def test_always_means_several_processes(two_processes, monkeypatch):
    assert is_to_be_sharded("always", TEACHER, torch.float32, CPU)
    assert not is_to_be_sharded("auto", TEACHER, torch.float32, CPU)
    monkeypatch.setattr(dist, "get_world_size", lambda: 1)
    assert not is_to_be_sharded("always", TEACHER, torch.float32, CPU)


def test_checkpoints_that_follow_one_another_stay_whole(tmp_path):
    with pytest.raises(ValueError, match="auto or never, got 'always'"):
        ProgressiveTrainingArguments(str(tmp_path), teacher_checkpoints=["teacher"], teacher_sharding="always")
    assert ProgressiveTrainingArguments(str(tmp_path), teacher_sharding="always").teacher_sharding == "always"


@pytest.mark.parametrize("architecture", HEAD_OF)
def test_every_encoder_is_cut_layer_by_layer(architecture):
    model = tiny_model(architecture)
    found = list(layers_of(model))
    assert len(found) == (1 if architecture == "albert" else LAYERS)  # ALBERT's layers are one
    within = {parameter for layer in found for parameter in layer.parameters()}
    outside = [name for name, parameter in model.named_parameters() if parameter not in within]
    assert outside and not any(re.search(r"\.\d+\.", name) for name in outside)

"""Two processes add up what they spend, and end together."""

import pytest
import torch

from tests.distributed.scenarios import trainer
from tests.distributed.workers import on_two_processes

pytest.importorskip("deepspeed")


@pytest.fixture(scope="module")
def came(tmp_path_factory):
    folder = tmp_path_factory.mktemp("spending")
    result = on_two_processes("budget_worker", folder)
    assert (folder / "done").exists(), result.stderr[-3000:]
    return torch.load(folder / "came.pt")


@pytest.mark.parametrize("engine", ["ddp", "zero3"])
def test_tokens_are_those_of_one_process(came, engine, tmp_path):
    first, second = came[engine, "max_tokens"]
    assert first == second
    alone = trainer("projections", tmp_path, 8, 1, max_steps=-1, max_tokens=600.0)
    alone.train()
    assert (first["tokens"], first["steps"]) == (alone.cost()["tokens"], alone.state.global_step)
    assert first["tokens"] >= 600 and first["learning_rate"] == 0.0
    real = (
        first["flops"] - first["padding_flops"]
    )  # smaller batches are padded less, but a row may be there for company
    assert real == pytest.approx(alone.cost()["flops"] - alone.cost()["padding_flops"], rel=1e-3)


@pytest.mark.parametrize("engine", ["ddp", "zero3"])
def test_operations_are_those_of_both(came, engine):
    first, second = came[engine, "max_flops"]
    assert first == second
    assert 5e7 <= first["flops"] < 5e7 * (1 + 2 / first["steps"])
    assert first["total_flos"] == pytest.approx(first["flops"], rel=1e-6)

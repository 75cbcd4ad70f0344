"""Two processes rank whole queries each, and give the gradient, weights and metrics of one."""

import pytest
import torch

from tests.distributed.workers import on_two_processes
from tests.tiny_models import parameters_of
from tests.trainers.test_rerankers import RANKING, candidates, train


def test_two_processes_give_the_gradient_weights_and_metrics_of_one(arguments, tmp_path):
    result = on_two_processes("reranker_worker", tmp_path)
    assert (tmp_path / "done").exists(), result.stderr[-3000:]
    worked = torch.load(tmp_path / "worked.pt")
    for loss in RANKING:
        whole, gradient = train(
            arguments, loss, batch_size=16, accumulation=2, hard_label_weight=0.5, soft_label_weight=0.5
        )
        ours = worked[loss]
        assert ours["wrapper"] == "DistributedDataParallel"
        assert ours["steps"] == whole.state.global_step == 4
        torch.testing.assert_close(ours["gradient"], gradient, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(ours["weights"], parameters_of(whole.model), rtol=1e-4, atol=1e-6)
        metrics = whole.evaluate(candidates())
        for name in ("eval_loss", "eval_soft_label_loss", "eval_hard_label_loss", "eval_teacher_mse"):
            assert ours["metrics"][name] == pytest.approx(metrics[name], rel=1e-4), name

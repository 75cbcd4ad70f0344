"""Two processes with half of a batch each give the gradient of the whole, where rows and labels are uneven too."""

import torch

from tests.distributed.workers import on_two_processes
from tests.tiny_models import parameters_of
from tests.trainers.test_partition import OBJECTIVES, train


def test_two_processes_give_the_gradient_and_weights_of_one(arguments, tmp_path):
    result = on_two_processes("gradient_worker", tmp_path)
    assert (tmp_path / "done").exists(), result.stderr[-3000:]
    worked = torch.load(tmp_path / "worked.pt")
    for objective in OBJECTIVES:
        whole, gradient = train(arguments, objective, 8, 1)
        ours = worked[objective]
        assert ours["wrapper"] == "DistributedDataParallel"
        torch.testing.assert_close(ours["gradient"], gradient, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(ours["weights"], parameters_of(whole.model), rtol=1e-4, atol=1e-6)

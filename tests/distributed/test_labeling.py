"""Two processes label as one does, byte by byte, and train on the answers as one does."""

import torch

from hf_distill.precomputed.labeling_cost import COST, labeling_cost
from tests.distributed.labeling_worker import label, train
from tests.distributed.workers import on_two_processes


def test_two_processes_label_and_train_as_one(tmp_path):
    result = on_two_processes("labeling_worker", tmp_path)
    assert (tmp_path / "done").exists(), result.stderr[-3000:]
    rows = label(tmp_path / "alone")
    for file in sorted(
        {*(tmp_path / "alone").iterdir()} - {tmp_path / "alone" / COST}
    ):  # what it took is never the same
        for folder in ("labeled", "labeled_in_parts"):
            assert file.read_bytes() == (tmp_path / folder / file.name).read_bytes(), (folder, file.name)
    assert len(list((tmp_path / "labeled").iterdir())) == 7
    costs = [labeling_cost(tmp_path / folder) for folder in ("alone", "labeled")]
    assert costs[0].flops == costs[1].flops > 0 < costs[1].seconds
    ours, alone = torch.load(tmp_path / "weights.pt"), train(tmp_path / "output", rows, batch_size=8)
    torch.testing.assert_close(ours, alone, rtol=1e-4, atol=1e-6)

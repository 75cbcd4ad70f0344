"""The closed form against torch's own counter."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from hf_distill.flops import encoder_flops, vit_length
from tests.tiny_architectures import tiny_batch, tiny_model

TEXT = ["bert", "roberta", "electra", "albert", "distilbert", "modernbert"]


def counted(architecture, batch):
    model = tiny_model(architecture, attn_implementation="eager").base_model  # fused attention on CPUs is not counted
    pooler = getattr(model, "pooler", None)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(**batch)
    total = counter.get_total_flops()
    outside = 2 * len(next(iter(batch.values()))) * 16 * 16 if pooler is not None else 0
    return model.config, total - outside


@pytest.mark.parametrize("architecture", TEXT)
@pytest.mark.parametrize("length", [7, 40])
def test_text(architecture, length):
    batch = {"input_ids": torch.randint(4, 100, (3, length)), "attention_mask": torch.ones(3, length, dtype=torch.long)}
    config, total = counted(architecture, batch)
    assert 3 * encoder_flops(config, length) == pytest.approx(total, rel=0.01)


def test_images():
    config, total = counted("vit", tiny_batch("vit"))
    assert 2 * encoder_flops(config, vit_length(config)) == pytest.approx(total, rel=0.01)

"""The profile of a small student's step: shares add up to the whole step."""

import pytest
from transformers import DataCollatorWithPadding

from hf_distill import DistillationTrainer, DistillationTrainingArguments, label_transfer_set
from tests.tiny_models import encoded_sentences, tiny_bert, tiny_tokenizer


@pytest.fixture
def small_step(benchmark_module):
    return benchmark_module("small_step")


def test_shares_of_a_step(small_step, tmp_path):
    collate, clock = DataCollatorWithPadding(tiny_tokenizer()), small_step.CpuClock()
    rows = label_transfer_set(encoded_sentences(64), tiny_bert(seed=1), collate, disable_tqdm=True)
    args = DistillationTrainingArguments(
        tmp_path, max_steps=8, per_device_train_batch_size=8, report_to="none", use_cpu=True, disable_tqdm=True
    )
    trainer = DistillationTrainer(
        tiny_bert(dropout=0.1), args, train_dataset=rows, data_collator=collate, callbacks=[clock]
    )
    shares = small_step.shares(trainer)
    assert sum(shares.values()) == pytest.approx(1, abs=1e-3)
    assert all(0 < share < 1 for share in shares.values()), shares
    assert len(clock.ends) == 8 and clock.step_ms > 0

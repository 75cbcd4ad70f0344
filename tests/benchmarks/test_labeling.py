"""The comparison of precisions in labeling: rows are put back in their order, and the gate says what is faithful."""

import datasets
import pytest
import torch
from transformers import DataCollatorWithPadding

from tests.tiny_models import encoded_sentences, tiny_bert, tiny_tokenizer


class TinyTask:
    classes = 2

    def __init__(self):
        self.teacher, self.tokenizer = tiny_bert(layers=2).eval(), tiny_tokenizer()
        rows = encoded_sentences(30, labels=None)
        texts = [" ".join(f"w{token}" for token in row) for row in rows["input_ids"]]
        self.raw = {"transfer": datasets.Dataset.from_dict({"text": texts})}
        self.splits, self.shared = {"transfer": rows}, {"data_collator": DataCollatorWithPadding(self.tokenizer)}

    def texts(self, rows):
        return list(rows["text"])


@pytest.fixture
def labeling(benchmark_module):
    return benchmark_module("labeling")


@pytest.fixture
def world(labeling):
    return labeling.World(TinyTask(), 30, 10)


def test_batches_by_length_hold_every_row_once_and_give_the_same_logits(labeling, world):
    numbers = world.sorted(4)
    lengths = [int(world.lengths[number]) for batch in numbers for number in batch]
    assert lengths == sorted(lengths, reverse=True)
    assert sorted(number for batch in numbers for number in batch) == list(range(30))
    torch.testing.assert_close(world.logits((world.single, numbers)), world.reference, atol=1e-5, rtol=1e-4)
    some = world.logits((world.single, world.sorted(4, world.first)))
    torch.testing.assert_close(some[:10], world.reference[:10], atol=1e-5, rtol=1e-4)
    assert not some[10:].any()


def test_ways_are_compared_with_the_first_and_judged_by_the_gate(labeling, world):
    def other(inputs):
        return {"logits": -world.single(inputs)["logits"]}

    ways = {"naive": (world.single, world.in_order(8)), "wrong": (other, world.sorted(8))}
    found = labeling.compared(world, ways, rounds=1)
    assert found["naive"]["times_as_fast_as_naive"] == 1 and found["naive"]["faithful"]
    assert found["wrong"]["agreement"] == 0 and not found["wrong"]["faithful"]
    assert labeling.is_faithful({"agreement": 0.995, "kl": 1e-3})
    assert not labeling.is_faithful({"agreement": 0.9949, "kl": 0})
    assert not labeling.is_faithful({"agreement": 1.0, "kl": 1.1e-3})
    assert labeling.parts(world).keys() == {"tokenization", "collating", "forward passes", "label_transfer_set"}


def test_as_few_layers_are_kept_as_the_gate_needs(labeling, world, tmp_path, monkeypatch):
    """Int8 that is faithful from two kept layers on."""
    int8 = labeling.Int8(world, tmp_path)
    hurt = int8.hurt(8)
    assert len(hurt) > 10 and list(hurt.values()) == sorted(hurt.values(), reverse=True)
    tried = []

    def keeping(layers):
        tried.append(len(layers))
        sign = 1 if len(layers) >= 2 else -1
        return lambda inputs: {"logits": sign * world.single(inputs)["logits"]}

    monkeypatch.setattr(int8, "keeping", keeping)
    assert int8.kept(hurt) == list(hurt)[:2] and len(tried) < len(hurt)

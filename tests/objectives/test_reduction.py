"""Counting items and sharing a step among micro-batches."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from hf_distill.objectives.reduction import (
    IGNORE_INDEX,
    batch_rows,
    count_label_items,
    count_labels,
    has_labels,
    share_of_batch,
)

IDS = torch.zeros(3, 5, dtype=torch.long)
PARTLY_LABELLED = torch.tensor([[4, -100, 2], [-100, 0, 1]])


def test_share_of_batch():
    shares = share_of_batch(torch.tensor([3.0, 0.0, 0.0]), torch.tensor([8.0, 5.0, 0.0]))
    assert shares.tolist() == [0.375, 0.0, 0.0]


def test_shares_of_all_micro_batches_add_up_to_one():
    items = torch.tensor([[4.0, 1.0], [4.0, 0.0], [3.0, 6.0]])  # (micro-batches, terms)
    shares = torch.stack([share_of_batch(num_items, items.sum(dim=0)) for num_items in items])
    torch.testing.assert_close(shares.sum(dim=0), torch.ones(2))


@pytest.mark.parametrize(
    ("labels", "causal_shift", "expected"),
    [
        (torch.tensor([0, 2, 1]), False, 3),
        (torch.tensor([0, -100, 1]), False, 2),
        (torch.full((4,), -100), False, 0),
        (PARTLY_LABELLED, False, 4),
        (PARTLY_LABELLED, True, 3),  # the first column is nobody's target
        (torch.tensor([[5, -100], [6, -100]]), True, 0),
        (torch.tensor([0.5, -100.0, 1.0]), False, 3),  # a regression target may be any number
        (torch.zeros(2, 3), False, 6),
        (torch.zeros(2, 3), True, 6),
    ],
    ids=[
        "all",
        "one ignored",
        "all ignored",
        "tokens",
        "causal",
        "causal none",
        "float",
        "multi-label",
        "float causal",
    ],
)
def test_count_labels(labels, causal_shift, expected):
    count = count_labels(labels, causal_shift)
    assert count.shape == ()
    assert not count.is_floating_point()
    assert count.item() == expected


def test_labels_counted_are_those_cross_entropy_averages_over():
    labels = torch.tensor([1, -100, 0, 2, -100])
    logits = torch.randn(5, 3)
    total = cross_entropy(logits, labels, reduction="sum", ignore_index=IGNORE_INDEX)
    torch.testing.assert_close(total / count_labels(labels), cross_entropy(logits, labels))


@pytest.mark.parametrize(
    "inputs",
    [
        {"input_ids": IDS},
        {"name": "a batch", "scale": torch.tensor(2.0), "input_ids": IDS},
        {"pixel_values": torch.zeros(3, 3, 8, 8), "labels": torch.zeros(3)},
    ],
    ids=["text", "after what is no batch", "images"],
)
def test_batch_rows(inputs):
    rows = batch_rows(inputs)
    assert rows.shape == ()
    assert not rows.is_floating_point()
    assert rows.item() == 3


@pytest.mark.parametrize("inputs", [{}, {"text": ["a", "b"], "scale": torch.tensor(1.0)}], ids=["empty", "no rows"])
def test_batch_rows_names_what_it_got(inputs):
    with pytest.raises(ValueError, match="without tensors") as error:
        batch_rows(inputs)
    assert str(sorted(inputs)) in str(error.value)


@pytest.mark.parametrize(
    ("inputs", "label_names", "causal_shift", "expected"),
    [
        ({"input_ids": IDS, "labels": PARTLY_LABELLED}, ["labels"], False, 4),
        ({"input_ids": IDS, "labels": PARTLY_LABELLED}, ["labels"], True, 3),
        ({"input_ids": IDS, "start": torch.tensor([1, -100, 2])}, ["start", "end"], False, 2),
        ({"input_ids": IDS, "end": torch.tensor([1, -100, -100])}, ["start", "end"], False, 1),
        ({"input_ids": IDS}, ["labels"], False, 3),
        ({"input_ids": IDS, "labels": None}, ["labels"], False, 3),
        ({"input_ids": IDS, "labels": PARTLY_LABELLED}, [], False, 3),
    ],
    ids=["labels", "causal", "first of two", "second of two", "unlabelled", "labels of None", "a model without labels"],
)
def test_count_label_items(inputs, label_names, causal_shift, expected):
    assert count_label_items(inputs, label_names, causal_shift).item() == expected


@pytest.mark.parametrize(
    ("inputs", "label_names", "expected"),
    [
        ({"labels": IDS}, ["labels"], True),
        ({"labels": None}, ["labels"], False),
        ({"input_ids": IDS}, ["labels"], False),
        ({"start": IDS, "end": IDS}, ["start", "end"], True),
        ({"start": IDS}, ["start", "end"], False),
        ({"labels": IDS}, [], False),
    ],
)
def test_has_labels(inputs, label_names, expected):
    assert has_labels(inputs, label_names) is expected

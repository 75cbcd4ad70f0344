"""Counting items and sharing a step among micro-batches."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from hf_distill.objectives.reduction import (
    IGNORE_INDEX,
    example_items,
    has_labels,
    label_items,
    mean_over_items,
    position_items,
    row_count,
    share_of_batch,
    token_items,
    valid_positions,
)

IDS = torch.zeros(3, 5, dtype=torch.long)
PARTLY_LABELED = torch.tensor([[4, -100, 2], [-100, 0, 1]])
MASK = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 0, 0, 0, 0]])


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
        (PARTLY_LABELED, False, 4),
        (PARTLY_LABELED, True, 3),  # the first column is nobody's target
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
def test_labels_that_count(labels, causal_shift, expected):
    items = label_items({"labels": labels}, ["labels"], causal_shift)
    assert items.shape == labels.shape
    assert items.dtype == torch.bool
    assert items.sum().item() == expected


def test_causal_labels_count_where_they_are_predicted():
    items = label_items({"labels": PARTLY_LABELED}, ["labels"], causal_shift=True)
    assert items.tolist() == [[False, True, False], [True, True, False]]


def test_labels_counted_are_those_cross_entropy_averages_over():
    labels = torch.tensor([1, -100, 0, 2, -100])
    logits = torch.randn(5, 3)
    total = cross_entropy(logits, labels, reduction="sum", ignore_index=IGNORE_INDEX)
    torch.testing.assert_close(total / label_items({"labels": labels}, ["labels"]).sum(), cross_entropy(logits, labels))


@pytest.mark.parametrize(
    "inputs",
    [
        {"input_ids": IDS},
        {"name": "a batch", "scale": torch.tensor(2.0), "input_ids": IDS},
        {"pixel_values": torch.zeros(3, 3, 8, 8), "labels": torch.zeros(3)},
    ],
    ids=["text", "after what is no batch", "images"],
)
def test_rows_are_examples(inputs):
    assert row_count(inputs) == 3
    assert example_items(inputs).tolist() == [True] * 3


@pytest.mark.parametrize("inputs", [{}, {"text": ["a", "b"], "scale": torch.tensor(1.0)}], ids=["empty", "no rows"])
def test_row_count_names_what_it_got(inputs):
    with pytest.raises(ValueError, match="without tensors") as error:
        row_count(inputs)
    assert str(sorted(inputs)) in str(error.value)


@pytest.mark.parametrize(
    ("inputs", "label_names", "causal_shift", "expected"),
    [
        ({"input_ids": IDS, "labels": PARTLY_LABELED}, ["labels"], False, 4),
        ({"input_ids": IDS, "labels": PARTLY_LABELED}, ["labels"], True, 3),
        ({"input_ids": IDS, "start": torch.tensor([1, -100, 2])}, ["start", "end"], False, 2),
        ({"input_ids": IDS, "end": torch.tensor([1, -100, -100])}, ["start", "end"], False, 1),
        ({"input_ids": IDS}, ["labels"], False, 3),
        ({"input_ids": IDS, "labels": None}, ["labels"], False, 3),
        ({"input_ids": IDS, "labels": PARTLY_LABELED}, [], False, 3),
    ],
    ids=["labels", "causal", "first of two", "second of two", "unlabeled", "labels of None", "a model without labels"],
)
def test_label_items(inputs, label_names, causal_shift, expected):
    assert label_items(inputs, label_names, causal_shift).sum().item() == expected


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


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        ({"input_ids": IDS, "attention_mask": MASK}, MASK.bool()),
        ({"input_ids": IDS}, torch.ones(3, 5, dtype=torch.bool)),
        ({"input_ids": IDS, "attention_mask": MASK[:, None, None, :]}, torch.ones(3, 5, dtype=torch.bool)),
        ({"pixel_values": torch.zeros(3, 3, 8, 8)}, torch.ones(3, dtype=torch.bool)),
    ],
    ids=["mask", "no mask", "a mask of another kind", "images"],
)
def test_position_items(inputs, expected):
    assert torch.equal(position_items(inputs), expected)


def test_valid_positions():
    assert torch.equal(valid_positions({"attention_mask": MASK}), MASK.bool())
    assert valid_positions({"input_ids": IDS}) is None


def test_token_items_are_the_labeled_or_else_all_but_padding():
    inputs = {"input_ids": IDS, "attention_mask": MASK, "labels": IDS.clone().fill_diagonal_(IGNORE_INDEX)}
    assert torch.equal(token_items(inputs, ["labels"]), ~torch.eye(3, 5, dtype=torch.bool))
    assert torch.equal(token_items(inputs, ["labels"], causal_shift=True).sum(), torch.tensor(10))
    assert torch.equal(token_items(inputs, []), MASK.bool())
    del inputs["labels"]
    assert torch.equal(token_items(inputs, ["labels"]), MASK.bool())


@pytest.mark.parametrize(
    ("values", "items", "expected"),
    [
        ([1.0, 2.0, 6.0], [True, False, True], 3.5),
        ([[1.0, 3.0], [5.0, 7.0]], [False, True], 6.0),
        ([[1.0, 3.0], [5.0, 7.0]], [[True, True], [True, False]], 3.0),
        ([4.0, 6.0, 2.0], [[True, True, False], [False, False, True]], 4.0),
        (2.5, [True, False], 2.5),
        ([1.0, 2.0], [False, False], 0.0),
        ([], [[False, False]], 0.0),
        ([float("inf"), 2.0], [False, True], 2.0),
    ],
    ids=["items", "further dimensions", "positions", "picked out", "a mean", "no items", "none picked", "infinite"],
)
def test_mean_over_items(values, items, expected):
    values = torch.tensor(values, requires_grad=True)
    mean = mean_over_items(values, torch.tensor(items))
    mean.backward()
    assert mean.item() == expected
    assert values.grad.isfinite().all()


def test_only_items_have_a_gradient():
    values = torch.randn(3, 5, 2, requires_grad=True)
    mean_over_items(values, MASK.bool()).backward()
    torch.testing.assert_close(values.grad, MASK[..., None].expand(3, 5, 2) / (2.0 * MASK.sum()))

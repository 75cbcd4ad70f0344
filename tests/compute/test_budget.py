"""Budgets: what is spent of them, and how they are written."""

import json

import pytest

from hf_distill.compute.budget import GPU_PEAKS, BudgetSpec, ComputeBudget, RunCost, parse_budget_spec


def test_the_limit_that_is_nearest_decides():
    budget = ComputeBudget(max_flops=1000, max_seconds=10, max_tokens=500)
    spent = RunCost(student_flops=300, teacher_flops=100, pruning_flops=50, tokens=100, seconds=2)
    assert budget.share_spent(spent, RunCost()) == 0.45
    assert budget.share_spent(spent + RunCost(seconds=7), RunCost()) == 0.9
    assert ComputeBudget(max_tokens=50).share_spent(spent, RunCost()) == 2.0
    assert ComputeBudget().share_spent(spent, RunCost()) == 0.0 and not ComputeBudget() and budget


def test_what_was_spent_before_is_taken_off_both_sides():
    begun = RunCost(labeling_flops=600)
    assert ComputeBudget(max_flops=1000).share_spent(begun + RunCost(student_flops=100), begun) == 0.25
    assert ComputeBudget(max_flops=500).share_spent(begun, begun) == 1.0
    assert (ComputeBudget(max_flops=1000, max_tokens=10) * 0.5) == ComputeBudget(500, None, 5)


def test_spent_survives_json():
    spent = RunCost(1.5, 2, 3, 4, 5, 60, 7, 8.25)
    content = json.loads(json.dumps(spent.as_dict()))
    assert RunCost.from_dict(content) == spent and content["flops"] == 10.5 and isinstance(content["tokens"], int)


@pytest.mark.parametrize(("limit", "value"), [("max_flops", 0), ("max_seconds", -2), ("max_tokens", float("inf"))])
def test_impossible_limits(limit, value):
    with pytest.raises(ValueError, match=f"{limit} must be None or a finite number above 0, got {value}"):
        ComputeBudget(**{limit: value})


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("8xH200x13h", BudgetSpec(None, 13 * 3600, 8, "H200")),
        ("h100-pciex90min", BudgetSpec(None, 5400, 1, "H100-PCIe")),
        ("2xRTX4090x1.5d", BudgetSpec(None, 1.5 * 86400, 2, "RTX4090")),
        ("3e18", BudgetSpec(flops=3e18)),
        ("2h", BudgetSpec(seconds=7200)),
        ("30s", BudgetSpec(seconds=30)),
    ],
)
def test_grammar(text, found):
    assert parse_budget_spec(text) == found


@pytest.mark.parametrize("text", ["", "8xH200", "x2h", "2 hours", "-3e18", "nan", "inf", "0h", "0xH200x2h", "0"])
def test_what_is_no_budget_is_refused(text):
    with pytest.raises(ValueError, match=r"a budget is written like 8xH200x13h.* got|no peak is known"):
        parse_budget_spec(text)


def test_an_unknown_gpu_is_refused_with_the_list():
    with pytest.raises(ValueError, match=f"no peak is known for a 'V100'; known are {', '.join(GPU_PEAKS)}"):
        parse_budget_spec("8xV100x13h")

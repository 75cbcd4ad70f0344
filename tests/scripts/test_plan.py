"""What a budget buys of an arm follows from the FLOPs of one step."""

from __future__ import annotations

import pytest

from hf_distill.compute.budget import BudgetSpec
from hf_distill.scripts.plan import ARMS, StepFlops, StepShape, plan_arm, plan_arms, training_speed

SHAPE = StepShape(batch_size=4, length=10, padding=0.5)
STEP = StepFlops(student=60.0, teacher=40.0)


def test_a_live_teacher_computes_in_every_step():
    plan = plan_arm("vanilla_kd", STEP, 1000.0, SHAPE.tokens, None, None)
    assert SHAPE.tokens == 20 and (plan.steps, plan.tokens) == (10, 200)
    assert (plan.student_flops_per_token, plan.teacher_flops_per_token, plan.teacher_share) == (3, 2, 0.4)
    assert plan.epochs is plan.seconds is None


def test_a_cached_teacher_computes_in_the_first_epoch_only():
    plan = plan_arm("cached_kd", STEP, 1000.0, SHAPE.tokens, 50, 10.0)
    assert plan.labeling_flops == 100 and plan.tokens == 300
    assert (plan.epochs, plan.seconds, plan.teacher_share) == (6, 100, 0.1)


def test_remarks_say_whether_the_data_are_limited():
    steps = dict.fromkeys(ARMS, STEP) | {"no_kd": StepFlops(60.0, 0.0)}
    for tokens, words in ((50, "The data are limited"), (1e6, "The data are not limited"), (None, "--transfer-tokens")):
        plans, remarks = plan_arms(steps, 1000.0, SHAPE, tokens, None)
        assert [plan.arm for plan in plans] == list(ARMS) and words in remarks[-1]


def test_the_speed_is_measured_or_a_share_of_the_peak():
    assert training_speed(BudgetSpec(devices=2), 1e12, 0.3) == 2e12
    assert training_speed(BudgetSpec(devices=2, gpu="H100"), None, 0.5) == pytest.approx(989e12)

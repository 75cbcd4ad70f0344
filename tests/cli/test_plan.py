"""`hf-distill plan` says what a budget buys."""

import json
from types import SimpleNamespace

import pytest
import torch
from typer.testing import CliRunner

from hf_distill import DistillationTrainer, create_student
from hf_distill.cli.main import app
from hf_distill.compute.flops import batch_flops
from hf_distill.compute.peak import remember_peak
from hf_distill.scripts.plan import ARMS
from hf_distill.students.miniatures import Miniature
from tests.tiny_models import encoded_sentences, tiny_tokenizer

BASE = ["plan", "--teacher", "4/256", "--student", "2/128", "--length", "32", "--batch-size", "8"]


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_DISTILL_CACHE", str(tmp_path / "cache"))


def planned(*arguments):
    result = CliRunner().invoke(app, [*BASE, *arguments, "--json"])
    assert result.exit_code == 0, result.output
    content = json.loads(result.output)
    return content, {arm["arm"]: arm for arm in content["arms"]}


def config(layers, hidden):
    return SimpleNamespace(model_type="bert", vocab_size=30522, num_labels=2, **Miniature(layers, hidden).sizes)


def test_arms_use_up_the_budget():
    content, arms = planned("--budget", "1e15")
    assert list(arms) == list(ARMS) and content["flops"] == 1e15 and content["flops_per_second"] is None
    predictions = int(0.15 * 8 * 32)
    step = batch_flops(config(2, 128), [32] * 8, "masked_lm", predictions=predictions, backward=True).computed
    taught = batch_flops(config(4, 256), [32] * 8, "masked_lm", predictions=predictions).computed
    assert arms["no_kd"]["steps"] == int(1e15 / step) and arms["no_kd"]["teacher_share"] == 0
    assert arms["vanilla_kd"]["steps"] == int(1e15 / (step + taught))
    assert arms["vanilla_kd"]["teacher_share"] == pytest.approx(taught / (step + taught))
    assert arms["tinybert"]["student_flops_per_token"] > arms["minilmv2"]["student_flops_per_token"]
    assert arms["cached_kd"]["tokens"] == pytest.approx(arms["vanilla_kd"]["tokens"])  # every text read once
    assert all(
        arm["seconds"] is None and arm["tokens"] == pytest.approx(256 * arm["steps"], rel=0.01) for arm in arms.values()
    )


def test_a_small_transfer_set_makes_a_cached_teacher_cheap():
    content, arms = planned("--budget", "1e15", "--transfer-tokens", "1e5")
    assert arms["cached_kd"]["labeling_flops"] == 1e5 * arms["cached_kd"]["teacher_flops_per_token"]
    assert arms["cached_kd"]["epochs"] > 0.95 * arms["no_kd"]["epochs"] > 2 * arms["vanilla_kd"]["epochs"]
    assert any("The data are limited" in remark for remark in content["remarks"])
    content, _ = planned("--budget", "1e12", "--transfer-tokens", "1e9")
    assert any("The data are not limited" in remark for remark in content["remarks"])


def test_devices_and_hours():
    content, arms = planned("--budget", "8xH200x13h", "--utilization", "0.5")
    assert content["flops"] == 8 * 989e12 * 0.5 * 13 * 3600
    assert arms["no_kd"]["seconds"] == pytest.approx(13 * 3600)
    content, _ = planned("--budget", "2xL4x1h", "--flops-per-second", "1e12")
    assert content["flops"] == 2e12 * 3600


def test_this_machine_needs_a_measured_peak():
    refused = CliRunner().invoke(app, [*BASE, "--budget", "2h"], env={"COLUMNS": "200"})
    assert refused.exit_code == 2 and "hf-distill peak" in refused.output
    for dtype in (torch.float32, torch.bfloat16):
        remember_peak("cuda" if torch.cuda.is_available() else "cpu", dtype, 1e11)
    content, _ = planned("--budget", "2h")
    assert content["flops"] == pytest.approx(0.3 * 1e11 * 7200)
    assert any("utilization of 0.3 is assumed" in remark for remark in content["remarks"])


def test_the_plan_is_what_a_training_costs(arguments):
    teacher = create_student("4/256", task="sequence_classification", vocab_size=100)
    student = create_student("2/128", teacher, "random")
    rows = encoded_sentences(16).map(lambda row: {"input_ids": [5] * 32, "attention_mask": [1] * 32})
    trainer = DistillationTrainer(
        student, arguments(recipe="vanilla_kd", per_device_train_batch_size=8), train_dataset=rows,
        processing_class=tiny_tokenizer(), teacher_model=teacher,
    )  # fmt: skip
    trainer.train()
    _, arms = planned("--budget", str(trainer.cost()["flops"] * 1.001), "--task", "sequence_classification")
    assert arms["vanilla_kd"]["steps"] == trainer.state.global_step == 2


def test_models_by_path_and_what_cannot_be_compared(tmp_path):
    create_student("3/192", task="masked_lm").save_pretrained(tmp_path / "teacher")
    content, _ = planned("--budget", "1e15", "--teacher", str(tmp_path / "teacher"))
    assert "tinybert without its attention term: 2 heads cannot be compared with 3." in content["remarks"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--budget", "8xV100x13h"], "no peak is known for a 'V100'"),
        (["--budget", "much"], "a budget is written like"),
        (["--budget", "1e15", "--task", "translation"], "task must be one of"),
        (["--budget", "1e15", "--student", "nowhere"], "nowhere"),
        (["--budget", "1e15", "--flops-per-second", "-1"], "must be a number above 0"),
    ],
)
def test_usage_errors(arguments, message):
    result = CliRunner().invoke(app, [*BASE, *arguments], env={"COLUMNS": "300"})
    assert result.exit_code == 2 and message in result.output and "Traceback" not in result.output


def test_the_table():
    result = CliRunner().invoke(app, [*BASE, "--budget", "1xH200x1h"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    assert all(arm in result.output for arm in ARMS) and "The teacher takes" in result.output

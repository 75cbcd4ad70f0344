"""One process x batch 8, batch 2 x accumulation 4 and 2 processes x 4: the same gradient, the same weights."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification, TrainerCallback

from hf_distill import DistillationTrainer, PruningDistillTrainer, PruningDistillTrainingArguments
from tests.tiny_models import encoded_sentences, parameters_of, tiny_bert, tiny_tokenizer

REPOSITORY = Path(__file__).parents[2]
ZERO_STAGES = (0, 1, 2)
OBJECTIVES = {
    "soft": dict(),
    "hard": dict(hard_label_weight=1.0, soft_label_weight=0.0),
    "both": dict(hard_label_weight=0.5, soft_label_weight=0.5, temperature=2.0),
    "inside": dict(recipe="tinybert_task", relation_weight=1.0),  # with projections from 16 to 32
}


class GradientOfFirstStep(TrainerCallback):
    """Keeps the gradient as the first optimizer step sees it, clipped or not."""

    gradient = None

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        if self.gradient is None:
            self.gradient = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


def partly_labelled(dataset):
    """Labels of rows 0, 5, 10, ... are unknown (-100)."""
    return dataset.map(lambda row, index: {"labels": row["labels"] if index % 5 else -100}, with_indices=True)


def train(arguments, objective, batch_size, accumulation, teacher=True, **overrides):
    probe = GradientOfFirstStep()
    args = arguments(
        per_device_train_batch_size=batch_size,
        gradient_accumulation_steps=accumulation,
        num_train_epochs=2,
        max_grad_norm=0.0,
        optim="sgd",
        learning_rate=0.05,
        **OBJECTIVES[objective],
        **overrides,
    )
    trainer = DistillationTrainer(
        tiny_bert(),
        args,
        train_dataset=partly_labelled(encoded_sentences(29)),
        processing_class=tiny_tokenizer(),
        teacher_model=tiny_bert(hidden_size=32, layers=2, seed=1) if teacher else None,
        callbacks=[probe],
    )
    trainer.train()
    return trainer, probe.gradient


def train_shrinking(folder, batch_size, **overrides):
    """A student that loses half of its width on the way."""
    given = dict(
        report_to="none", disable_tqdm=True, use_cpu=True, bf16=False, save_strategy="no", logging_steps=1,
        per_device_train_batch_size=batch_size, max_steps=10, optim="sgd", learning_rate=1e-3, recipe="homodistil",
        target_hidden_size=16, pruning_events=4,
    )  # fmt: skip
    args = PruningDistillTrainingArguments(str(folder), **(given | overrides))
    trainer = PruningDistillTrainer(
        None, args, train_dataset=encoded_sentences(29), processing_class=tiny_tokenizer(),
        teacher_model=tiny_bert(hidden_size=32, layers=2, seed=1),
    )  # fmt: skip
    trainer.train(resume_from_checkpoint=args.resume_from_checkpoint)
    return trainer


def on_two_processes(worker, folder):
    """Run a module of this folder under torchrun, which gets the folder to report into."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--rdzv_backend=c10d"]
    command += ["--rdzv_endpoint=127.0.0.1:0", "--module", f"tests.trainers.{worker}", str(folder)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=REPOSITORY, check=False)
    assert (folder / "done").exists(), result.stderr[-3000:]


@pytest.mark.parametrize("bucketing", [True, False], ids=["bucketed", "random"])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_accumulation_gives_the_gradient_of_the_whole_batch(arguments, objective, bucketing):
    whole, whole_gradient = train(arguments, objective, 8, 1, length_bucketing=bucketing)
    for batch_size, accumulation in ((2, 4), (1, 8)):
        split, gradient = train(arguments, objective, batch_size, accumulation, length_bucketing=bucketing)
        assert split.state.global_step == whole.state.global_step == 8  # 29 rows: the fourth step holds 5
        torch.testing.assert_close(gradient, whole_gradient, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(parameters_of(split.model), parameters_of(whole.model), rtol=1e-4, atol=1e-6)
        for ours, theirs in zip(split.state.log_history, whole.state.log_history, strict=True):
            for name in theirs.keys() & {"loss", "soft_label_loss", "hard_label_loss"}:
                assert ours[name] == pytest.approx(theirs[name], rel=1e-4)


def test_labels_alone_without_a_teacher_are_exact_too(arguments):
    """Stock Trainer multiplies this gradient by the number of accumulation steps."""
    whole, _ = train(arguments, "hard", 8, 1, teacher=False)
    split, _ = train(arguments, "hard", 2, 4, teacher=False)
    torch.testing.assert_close(parameters_of(split.model), parameters_of(whole.model), rtol=1e-4, atol=1e-6)


def test_two_processes_give_the_gradient_and_weights_of_one(arguments, tmp_path):
    on_two_processes("two_process_worker", tmp_path)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["wrapper"] == "DistributedDataParallel" and report["world_size"] == 2
    for objective in OBJECTIVES:
        whole, gradient = train(arguments, objective, 8, 1)
        worked = torch.load(tmp_path / f"{objective}.pt")
        torch.testing.assert_close(worked["gradient"], gradient, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(worked["weights"], parameters_of(whole.model), rtol=1e-4, atol=1e-6)
        logged = [entry["loss"] for entry in whole.state.log_history if "loss" in entry]
        assert worked["losses"] == pytest.approx(logged, rel=1e-4)
        # 101 examples on 2 processes: the one repeated to fill the last batch is counted once.
        metrics = whole.evaluate(encoded_sentences(101))
        for name, value in worked["metrics"].items():
            assert value == pytest.approx(metrics[name], rel=1e-4), name
    whole, worked = train_shrinking(tmp_path / "output", 8), torch.load(tmp_path / "shrinking.pt")
    assert worked["widths"] == [entry["hidden_size"] for entry in whole.state.log_history if "loss" in entry]
    assert worked["widths"][0] > worked["widths"][-1] == 16
    torch.testing.assert_close(worked["weights"], parameters_of(whole.model), rtol=1e-4, atol=1e-6)
    assert torch.equal(worked["weights"], worked["weights_of_the_other"])


def test_a_student_under_deepspeed_shrinks_to_the_weights_of_one_process(tmp_path):
    pytest.importorskip("deepspeed")
    on_two_processes("deepspeed_worker", tmp_path)
    worked, alone = torch.load(tmp_path / "deepspeed.pt"), train_shrinking(tmp_path / "alone", 8, optim="adamw_torch")
    logged = [entry for entry in alone.state.log_history if "loss" in entry]
    for stage in ZERO_STAGES:
        assert worked[stage]["engine"] == "DeepSpeedEngine" and worked[stage]["stage"] == stage
        assert worked[stage]["world_size"] == 2
        assert worked[stage]["widths"] == [entry["hidden_size"] for entry in logged]
        assert worked[stage]["losses"] == pytest.approx([entry["loss"] for entry in logged], rel=1e-4)
        # AdamW makes a whole step of a gradient near zero, so single weights may differ.
        assert (worked[stage]["weights"] - parameters_of(alone.model)).abs().mean() < 1e-6
    assert torch.equal(worked["resumed"]["weights"], worked["whole"]["weights"])
    assert worked["resumed"]["losses"] == worked["whole"]["losses"]
    assert "ZeRO-0, 1 or 2" in worked["refusal"] and "got ZeRO-3" in worked["refusal"]
    kept = AutoModelForSequenceClassification.from_pretrained(tmp_path / "resumed" / "checkpoint-4")
    assert kept.config.hidden_size == worked["whole"]["widths"][3] < 32

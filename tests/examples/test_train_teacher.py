"""A teacher's trajectory on a few sentences with tiny random models, in this process."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from hf_distill import ProgressiveTrainer, ProgressiveTrainingArguments, create_student
from hf_distill.teachers.checkpoints import find_checkpoints
from hf_distill.teachers.trajectory import Trajectory
from tests.examples.test_run_glue import QUIET, REVIEWS, TEXTS, read_json, save_bert, write_csv


@pytest.fixture
def train(run_main, tmp_path):
    """Trains a teacher in output/; returns that folder."""
    reviews = write_csv(tmp_path / "reviews.csv", ["text", "label"], REVIEWS)
    start = save_bert(tmp_path / "start", hidden_size=32, layers=1, seed=0)

    def call(*arguments: str, model: str = start) -> Path:
        places = ["--model_name_or_path", model, "--train_file", reviews, "--validation_file", reviews]
        places += ["--output_dir", str(tmp_path / "output"), "--do_train", "--do_eval"]
        training = ["--per_device_train_batch_size", "3", "--learning_rate", "5e-3"]
        run_main(*places, *training, *QUIET, *arguments)
        return tmp_path / "output"

    return call


def steps_in(folder: Path) -> list[int]:
    return [checkpoint.step for checkpoint in find_checkpoints(str(folder))]


def logits_of(model) -> torch.Tensor:
    tokenizer = AutoTokenizer.from_pretrained(model.config.name_or_path)
    with torch.no_grad():
        return model.eval()(**tokenizer(TEXTS, padding=True, return_tensors="pt")).logits


@pytest.mark.parametrize(
    ("losses", "count", "expected"),
    [
        ([4, 3, 2, 1, 0], 2, [2, 4]),
        ([8, 4, 2, 1, 0.5, 0.25, 0.12, 0.06, 0], 3, [1, 2, 8]),  # 8 -> 4 -> 2 -> 0: dense where it falls fastest
        ([8, 7.9, 7.8, 7.7, 5, 2, 0], 3, [4, 5, 6]),  # late
        ([4, 3, 9, 9, 2, 1, 0], 2, [4, 6]),  # a rise is passed over
        ([1, 1, 1, 1], 3, [1, 2, 3]),
        ([5, 4], 1, [1]),
        ([4, 2, 5, 5], 1, [3]),  # the last is always among them
    ],
)
def test_checkpoints_are_evenly_spaced_in_the_loss(script, losses, count, expected):
    assert script.evenly_falling(losses, count) == expected


def test_the_loss_is_averaged_over_neighboring_logs(script):
    log = [{"step": step, "loss": float(loss)} for step, loss in [(1, 9), (5, 6), (10, 5), (15, 1), (20, 3)]]
    log.insert(2, {"step": 10, "eval_loss": 100.0})
    assert script.smoothed(log, [0, 5, 10, 15, 20]) == [7.5, 20 / 3, 4, 3, 2]


@pytest.mark.parametrize(
    ("total", "count", "expected"), [(10, 4, [2, 5, 7, 10]), (3, 3, [1, 2, 3]), (3, 8, [1, 2, 3]), (9, 1, [9])]
)
def test_steps_to_save(script, total, count, expected):
    assert script.steps_to_save(total, count) == expected


def test_evenly_spaced_in_steps_and_the_last_is_the_finished_model(train):
    folder = train("--checkpoints", "4", "--max_steps", "12")
    assert steps_in(folder) == [3, 6, 9, 12]
    weights = [load_file(place / "model.safetensors") for place in (folder / "checkpoint-12", folder)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[1])
    assert read_json(folder, "config.json")["id2label"] == {"0": "negative", "1": "positive"}
    assert {"eval_accuracy", "train_loss"} <= read_json(folder, "all_results.json").keys()
    # A finished run that is started again changes no checkpoint; one started afresh leaves none of the old ones.
    train("--checkpoints", "4", "--max_steps", "12")
    assert steps_in(folder) == [3, 6, 9, 12]
    train("--checkpoints", "2", "--max_steps", "10", "--overwrite_output_dir", "true")
    assert steps_in(folder) == [5, 10]


def test_denser_where_the_loss_falls(train, script, monkeypatch):
    seen = []
    chosen = script.evenly_falling
    monkeypatch.setattr(script, "evenly_falling", lambda *args: seen.append(args) or chosen(*args))
    folder = train("--checkpoints", "3", "--spacing", "loss", "--max_steps", "24")
    (losses, count), *_ = seen
    assert len(losses) == 13 and count == 3
    assert steps_in(folder) == [2 * position for position in chosen(losses, 3)]
    log = read_json(folder, "trainer_state.json")["log_history"]
    assert [entry["step"] for entry in log if "loss" in entry] == [1, *range(2, 25, 2)]
    train("--checkpoints", "3", "--spacing", "loss", "--max_steps", "24")
    assert len(steps_in(folder)) == 3 and len(seen) == 1


def test_adapters_teach_a_student_and_are_merged_in_the_end(train, tmp_path):
    folder = train("--checkpoints", "3", "--max_steps", "12", "--lora_rank", "4")
    checkpoints = find_checkpoints(str(folder))
    assert [checkpoint.step for checkpoint in checkpoints] == [4, 8, 12]
    assert all(checkpoint.is_adapter for checkpoint in checkpoints)
    finished = AutoModelForSequenceClassification.from_pretrained(folder)
    assert not (folder / "adapter_config.json").exists() and type(finished).__name__ == "BertForSequenceClassification"
    assert finished.config.label2id == {"negative": 0, "positive": 1}
    student = create_student("1/64", finished, "random")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    trajectory = Trajectory(checkpoints)
    teacher = trajectory.first_model(student)
    before = logits_of(teacher)
    trajectory.move_to(2, teacher)
    after = logits_of(teacher)
    torch.testing.assert_close(after, logits_of(finished), rtol=1e-4, atol=1e-5)
    assert (before - after).abs().max() > 1e-3
    args = ProgressiveTrainingArguments(
        str(tmp_path / "student"), teacher_checkpoints=[str(folder)], max_steps=6, final_stage_steps=2, logging_steps=1,
        checkpoint_shares="equal",
        report_to="none", use_cpu=True, bf16=False, disable_tqdm=True, save_strategy="no",
    )  # fmt: skip
    rows = [dict(tokenizer(text)) | {"labels": finished.config.label2id[label]} for text, label in REVIEWS]
    trainer = ProgressiveTrainer(student, args, train_dataset=rows, processing_class=tokenizer)
    trainer.train()
    taught = [entry["teacher_step"] for entry in trainer.state.log_history if "teacher_step" in entry]
    assert taught == [4, 4, 8, 8, 12, 12]


@pytest.mark.parametrize("rank", ["0", "4"])
def test_a_stopped_training_goes_on(train, script, monkeypatch, rank):
    arguments = ["--checkpoints", "2", "--spacing", "loss", "--max_steps", "16", "--lora_rank", rank]
    folder = train(*arguments)
    whole, kept = load_file(folder / "model.safetensors"), steps_in(folder)
    shutil.rmtree(folder)

    class Stopping(script.LeaveTrajectory):
        def on_save(self, args, state, control, **kwargs):
            if state.global_step == 6:
                raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(script, "LeaveTrajectory", Stopping)
        train(*arguments)
    train(*arguments)
    assert steps_in(folder) == kept and read_json(folder, "trainer_state.json")["global_step"] == 16
    resumed = load_file(folder / "model.safetensors")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


@pytest.mark.parametrize("architecture", ["roberta", "distilbert"])
def test_adapters_of_other_architectures(train, tmp_path, architecture):
    folder = Path(save_bert(tmp_path / architecture, hidden_size=32, layers=1, seed=0))
    size = len(AutoTokenizer.from_pretrained(folder))
    torch.manual_seed(0)
    if architecture == "roberta":
        sizes = dict(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64)
        config = RobertaConfig(vocab_size=size, max_position_embeddings=64, pad_token_id=0, **sizes)
        RobertaForSequenceClassification(config).save_pretrained(folder)
    else:
        config = DistilBertConfig(vocab_size=size, dim=32, n_layers=1, n_heads=2, hidden_dim=64)
        DistilBertForSequenceClassification(config).save_pretrained(folder)
    output = train("--checkpoints", "2", "--max_steps", "4", "--lora_rank", "2", model=str(folder))
    assert steps_in(output) == [2, 4]
    finished = AutoModelForSequenceClassification.from_pretrained(output)
    trajectory = Trajectory(find_checkpoints(str(output)))
    teacher = trajectory.first_model(finished)
    trajectory.move_to(1, teacher)
    torch.testing.assert_close(logits_of(teacher), logits_of(finished), rtol=1e-4, atol=1e-5)
    adapter = json.loads((output / "checkpoint-4" / "adapter_config.json").read_text())
    assert Path(adapter["base_model_name_or_path"]) == output / "base"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--spacing", "epochs"], r"spacing must be steps or loss, got 'epochs'"),
        (["--checkpoints", "0"], r"checkpoints must be at least 1, got 0"),
        (["--lora_rank", "-1"], r"lora_rank must be at least 0, got -1"),
        (["--save_total_limit", "2"], r"save_total_limit and load_best_model_at_end would delete or choose"),
        (["--teacher_model_name_or_path", "nowhere"], r"to learn from a teacher use run_glue.py"),
        (["--checkpoints", "5", "--max_steps", "4"], r"5 checkpoints need as many steps, got only 4"),
    ],
)
def test_bad_input(train, arguments, message):
    with pytest.raises(ValueError, match=message):
        train(*arguments)

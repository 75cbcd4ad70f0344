"""What a training shows of its log: readable lines, and terms, costs and fidelity in groups where trackers show them."""

from __future__ import annotations

import json
import math
import sqlite3
import time
from functools import partial
from pathlib import Path

import pytest
from tqdm.auto import tqdm
from transformers import PrinterCallback, ProgressCallback

from hf_distill import DistillationTrainer
from hf_distill.trainers.training_log import ReadablePrinter, ReadableProgress, log_line

GROUPED = {
    "train/loss", "train/grad_norm", "train/terms/soft_label_loss", "train/cost/spent_flops", "train/cost/tokens_per_second",
    "eval/loss", "eval/terms/soft_label_loss", "eval/terms/hard_label_loss",
    "eval/fidelity/teacher_agreement", "eval/fidelity/teacher_kl",
}  # fmt: skip


@pytest.fixture
def trained(student, teacher, sentences, tokenizer, arguments):
    def make(evaluated=sentences, **options):
        args = arguments(logging_steps=2, max_steps=4, eval_strategy="steps", eval_steps=2, **options)
        trainer = DistillationTrainer(
            student,
            args,
            train_dataset=sentences,
            eval_dataset=evaluated,
            processing_class=tokenizer,
            teacher_model=teacher,
        )
        trainer.train()
        return trainer

    return make


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0988123456, "0.09881"), (1e-4 / 3, "3.333e-05"), (2282.6, "2,283"), (18_440_123_456.0, "1.84e+10"),
        (4_385_920, "4,385,920"), (7, "7"), (math.nan, "nan"), (-1e9, "-1e+09"), ("word", "word"), (True, "True"),
    ],
)  # fmt: skip
def test_numbers_have_few_digits(value, text):
    assert log_line({"x": value, "total_flos": 1.0}, 1200) == f"step 1,200: x {text}"


def test_the_only_term_is_not_repeated_beside_the_loss():
    assert log_line({"loss": 0.5, "soft_label_loss": 0.50000001, "epoch": 1.0}, 3) == "step 3: loss 0.5, epoch 1"
    assert "soft_label_loss 0.25, hidden_state_loss 0.25" in log_line(
        {"loss": 0.5, "soft_label_loss": 0.25, "hidden_state_loss": 0.25}, 3
    )


def test_a_log_entry_is_one_line_of_numbers(trained, capsys):
    log = trained().state.log_history
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("step ")]
    assert len(lines) == len(log)
    assert lines[0].startswith(f"step 2: loss {log[0]['loss']:.4g}, grad_norm ") and "'" not in lines[0]
    assert "soft_label_loss" in log[0] and "eval_teacher_kl" in log[1], "the log itself keeps its names and values"


@pytest.fixture
def bars(monkeypatch):
    made = []

    class Bar(tqdm):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options | {"delay": 0})
            made.append(self)

    monkeypatch.setattr("transformers.trainer_callback.tqdm", Bar)
    return made


def test_progress_bars_say_what_of(trained, bars, capsys):
    trained(disable_tqdm=False)
    assert [bar.desc for bar in bars] == ["Training: ", "Evaluating: ", "Evaluating: "]
    assert "Training: " in capsys.readouterr().err


def test_the_rate_of_a_resumed_training_is_that_of_its_own_steps(student, sentences, tokenizer, arguments, bars):
    options = dict(train_dataset=sentences, processing_class=tokenizer)
    args = arguments(max_steps=3, save_strategy="steps", save_steps=2)
    DistillationTrainer(student, args, **options).train()
    args.disable_tqdm = False
    DistillationTrainer(student, args, **options).train(resume_from_checkpoint=f"{args.output_dir}/checkpoint-2")
    assert [(bar.initial, bar.n, bar.total) for bar in bars] == [(2, 3, 3)]


@pytest.mark.parametrize(("disable_tqdm", "kind"), [(False, ReadableProgress), (True, ReadablePrinter)])
def test_users_remove_them_as_they_remove_those_of_transformers(
    disable_tqdm, kind, student, sentences, tokenizer, arguments
):
    pytest.importorskip("IPython")
    from transformers.utils.notebook import NotebookProgressCallback

    args = arguments(disable_tqdm=disable_tqdm)
    trainer = DistillationTrainer(
        student, args, train_dataset=sentences, processing_class=tokenizer, callbacks=[NotebookProgressCallback()]
    )
    kinds = [type(callback) for callback in trainer.callback_handler.callbacks]
    assert kinds.count(kind) == 1 and NotebookProgressCallback in kinds
    trainer.remove_callback(PrinterCallback if disable_tqdm else ProgressCallback)
    assert kind not in [type(callback) for callback in trainer.callback_handler.callbacks]


def of_tensorboard(folder: Path) -> set[str]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (run,) = (folder / "output" / "runs").iterdir()
    events = EventAccumulator(str(run))
    events.Reload()
    return set(events.Tags()["scalars"])


def of_trackio(folder: Path) -> set[str]:
    (file,) = folder.glob("**/*.db")
    with sqlite3.connect(file) as database:
        return {name for (row,) in database.execute("select metrics from metrics") for name in json.loads(row)}


def of_wandb(folder: Path) -> set[str]:
    (file,) = folder.glob("**/*.wandb")
    for _ in range(120):  # a process of its own writes it
        content = file.read_bytes()
        if b"train/" in content:
            break
        time.sleep(0.5)
    return {name for name in GROUPED | {"train/soft_label_loss", "eval/teacher_kl"} if name.encode() in content}


@pytest.mark.parametrize("read", [of_tensorboard, of_trackio, of_wandb], ids=lambda read: read.__name__[3:])
def test_trackers_get_terms_costs_and_fidelity_in_groups(read, trained, tmp_path, monkeypatch):
    tracker = read.__name__[3:]
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    for name, value in {"MODE": "offline", "DIR": str(tmp_path), "SILENT": "true", "_SERVICE_WAIT": "300"}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    trained(report_to=tracker)
    if tracker == "wandb":
        import wandb

        wandb.finish()
    found = read(tmp_path)
    assert found >= GROUPED
    assert not {"train/soft_label_loss", "eval/teacher_kl"} & found


def test_so_are_several_evaluation_sets(trained, sentences, tmp_path):
    trained({"near": sentences, "far": sentences}, report_to="tensorboard")
    assert {"eval/terms/near_soft_label_loss", "eval/fidelity/far_teacher_kl", "eval/near_loss"} <= of_tensorboard(
        tmp_path
    )


def test_in_a_file_lines_of_the_log_stand_below_the_bar(trained, capsys):
    trained(disable_tqdm=False)
    captured = capsys.readouterr()
    assert all(line.startswith("step ") for line in captured.out.splitlines())  # none is written at the end of a bar


def test_bars_that_are_switched_off_do_not_end_a_training(trained, monkeypatch, capsys):
    monkeypatch.setattr("transformers.trainer_callback.tqdm", partial(tqdm, disable=True))
    trained(disable_tqdm=False)
    captured = capsys.readouterr()
    assert "step 4: " in captured.out and "Training" not in captured.err

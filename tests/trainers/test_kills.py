"""Killed at any moment and started again, a run ends where it would have ended."""

import multiprocessing
import os
import random
import signal
import time

import pytest
import torch

from hf_distill import (
    DistillationTrainer,
    DistillationTrainingArguments,
    ProgressiveTrainer,
    ProgressiveTrainingArguments,
    PruningDistillTrainer,
    PruningDistillTrainingArguments,
)
from hf_distill.trainers.checkpoints import last_complete_checkpoint
from tests.tiny_models import encoded_sentences, parameters_of, tiny_bert, tiny_tokenizer

KILLS = int(os.environ.get("HF_DISTILL_KILLS", "3"))


def distill(folder, **arguments):
    args = DistillationTrainingArguments(recipe="tinybert_task", max_steps=20, **arguments)
    return DistillationTrainer, tiny_bert(dropout=0.1), args, wide_bert()


def follow(folder, **arguments):
    stages = dict(max_steps=12, final_stage_steps=8, max_temperature=3)
    args = ProgressiveTrainingArguments(teacher_checkpoints=[str(folder.parent / "teacher")], **stages, **arguments)
    return ProgressiveTrainer, tiny_bert(dropout=0.1), args, None


def shrink(folder, **arguments):
    args = PruningDistillTrainingArguments(
        recipe="homodistil", target_hidden_size=16, pruning_events=6, max_steps=20, **arguments
    )
    return PruningDistillTrainer, wide_bert(dropout=0.1), args, wide_bert()


def wide_bert(**config):
    return tiny_bert(hidden_size=32, layers=2, seed=1, **config)


def train(folder, make, resume):
    torch.manual_seed(0)
    trainer_class, student, args, teacher = make(
        folder, output_dir=str(folder), report_to="none", disable_tqdm=True, use_cpu=True, bf16=False, save_steps=3,
        learning_rate=1e-2, save_total_limit=2,
    )  # fmt: skip
    trainer = trainer_class(
        student, args, train_dataset=encoded_sentences(29), processing_class=tiny_tokenizer(),
        **({"teacher_model": teacher} if teacher else {}),
    )  # fmt: skip
    trainer.train(resume_from_checkpoint=resume)
    torch.save(parameters_of(trainer.model), folder / "weights.part")
    (folder / "weights.part").replace(folder / "weights.pt")


def something_to_resume_from(folder):
    stages = [folder, folder / "general_stage", folder / "final_stage"]
    finished = (folder / "general_stage" / "finished.json").exists()
    return finished or any(last_complete_checkpoint(stage) for stage in stages)


@pytest.fixture(scope="module")
def start():
    """Starts a process that trains. Each is a copy of one that has imported everything and runs no threads yet."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])

    def start(*args):
        child = context.Process(target=train, args=args)
        child.start()
        return child

    return start


def finish(child):
    child.join(timeout=300)
    assert child.exitcode == 0


@pytest.mark.parametrize("make", [distill, follow, shrink])
def test_killed_at_random_moments(make, start, tmp_path):
    for index, step in enumerate((10, 20, 40)):
        tiny_bert(hidden_size=32, layers=2, seed=10 + index).save_pretrained(
            tmp_path / "teacher" / f"checkpoint-{step}"
        )
    whole = tmp_path / "whole"
    finish(start(tmp_path / "warm_up", make, None))
    begin = time.monotonic()
    finish(start(whole, make, None))
    duration = time.monotonic() - begin
    moments, killed = random.Random(0), 0
    for number in range(KILLS):
        folder = tmp_path / f"killed{number}"
        child = start(folder, make, None)
        child.join(timeout=moments.uniform(0.1, 1.0) * duration)
        child.kill()
        child.join()
        killed += child.exitcode == -signal.SIGKILL
        if not (folder / "weights.pt").exists():
            finish(start(folder, make, something_to_resume_from(folder) or None))
        assert torch.equal(torch.load(folder / "weights.pt"), torch.load(whole / "weights.pt")), number
    assert killed

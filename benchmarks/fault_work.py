"""What faults.py interrupts: small trainings and recordings, in processes that can be killed or run out of space.

Under torchrun this file trains itself: fault_work.py FOLDER STEP, after which the second process kills itself; 0: none does.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast, Trainer, TrainerCallback

from hf_distill import (
    DistillationTrainer,
    DistillationTrainingArguments,
    ProgressiveTrainer,
    ProgressiveTrainingArguments,
    PruningDistillTrainer,
    PruningDistillTrainingArguments,
    label_transfer_set,
)
from hf_distill.fingerprints import weights_sha256
from hf_distill.precomputed.labeling_cost import COST
from hf_distill.trainers.checkpoints import last_complete_checkpoint

CONTEXT = multiprocessing.get_context("fork")
VOCABULARY, STEPS, SAVE_STEPS = 100, 12, 3
TRAINED_ROWS, RECORDED_ROWS, PER_SHARD = 64, 400, 40
KILLED, ENDED = "killed", "ended"


def tokenizer() -> PreTrainedTokenizerFast:
    made = Tokenizer(models.WordLevel({f"w{index}": index for index in range(VOCABULARY)}, unk_token="w1"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=made, pad_token="w0", unk_token="w1", model_max_length=32)


def bert(hidden_size: int = 16, layers: int = 1, seed: int = 0, dropout: float = 0.0) -> BertForSequenceClassification:
    torch.manual_seed(seed)
    return BertForSequenceClassification(
        BertConfig(
            vocab_size=VOCABULARY, hidden_size=hidden_size, num_hidden_layers=layers, num_attention_heads=2,
            intermediate_size=2 * hidden_size, max_position_embeddings=32, hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout, initializer_range=0.3,
        )
    )  # fmt: skip


def rows(number: int) -> datasets.Dataset:
    generator = np.random.default_rng(7)
    tokens = [generator.integers(4, VOCABULARY, length).tolist() for length in generator.integers(3, 21, number)]
    masks = [[1] * len(each) for each in tokens]
    labels = [row % 2 for row in range(number)]
    return datasets.Dataset.from_dict({"input_ids": tokens, "attention_mask": masks, "labels": labels})


def distill(seed: int, **arguments: Any) -> Trainer:
    args = DistillationTrainingArguments(recipe="tinybert_task", seed=seed, max_steps=STEPS, **arguments)
    return _made(DistillationTrainer, bert(dropout=0.1), args, bert(32, 2, 1))


def follow(seed: int, **arguments: Any) -> Trainer:
    """A trajectory of three checkpoints, which lies beside the output folder."""
    trajectory = Path(arguments["output_dir"]).parent / "trajectory"
    for index in range(3):
        place = trajectory / f"checkpoint-{10 * (index + 1)}"
        if not (place / "config.json").exists():
            bert(32, 2, 10 + index).save_pretrained(place)
    stages = dict(teacher_checkpoints=[str(trajectory)], max_steps=9, final_stage_steps=6, max_temperature=3)
    args = ProgressiveTrainingArguments(seed=seed, **stages, **arguments)
    return _made(ProgressiveTrainer, bert(dropout=0.1), args, None)


def shrink(seed: int, **arguments: Any) -> Trainer:
    shape = dict(recipe="homodistil", target_hidden_size=16, pruning_events=4, max_steps=STEPS)
    args = PruningDistillTrainingArguments(seed=seed, **shape, **arguments)
    return _made(PruningDistillTrainer, bert(32, 2, 1, dropout=0.1), args, bert(32, 2, 1))


TRAININGS = {"distill": distill, "follow": follow, "shrink": shrink}


def _made(trainer_class: type[Trainer], student: Any, args: Any, teacher: Any) -> Trainer:
    given = {} if teacher is None else {"teacher_model": teacher}
    return trainer_class(student, args, train_dataset=rows(TRAINED_ROWS), processing_class=tokenizer(), **given)


def train(
    make: str, folder: Path, seed: int = 0, before: Callable[[], object] = int, after: Callable[[], object] = int,
    callbacks: tuple[TrainerCallback, ...] = (),
) -> tuple[str, bool]:  # fmt: skip
    """What a user's command does when it is repeated: train, from the last whole checkpoint if there is one, and save.

    Args:
        make: Which training.
        folder: Its output.
        seed: Of the training.
        before: Is called before the training.
        after: Is called between the training and the final save.
        callbacks: For the trainer.

    Returns:
        The weights' sha256, and whether it went on from a checkpoint.
    """
    trainer = TRAININGS[make](
        seed, output_dir=str(folder), report_to="none", disable_tqdm=True, use_cpu=True, bf16=False, logging_steps=3,
        save_steps=SAVE_STEPS, save_total_limit=2, learning_rate=1e-2, per_device_train_batch_size=8,
    )  # fmt: skip
    for callback in callbacks:
        trainer.add_callback(callback)
    before()
    resumes = _something_to_resume_from(folder)
    trainer.train(resume_from_checkpoint=resumes or None)
    after()
    trainer.save_model()
    trainer.create_model_card()
    return weights_sha256(trainer.model), resumes


def _something_to_resume_from(folder: Path) -> bool:
    stages = [folder, folder / "general_stage", folder / "final_stage"]
    finished = (folder / "general_stage" / "finished.json").exists()
    return finished or any(last_complete_checkpoint(stage) for stage in stages)


def record(folder: Path, seed: int = 1, before: Callable[[], object] = int) -> int:
    """Record a teacher's answers; the number of rows."""
    asked, teacher = rows(RECORDED_ROWS), bert(32, 2, seed)
    options = dict(disable_tqdm=True, batch_size=8, rows_per_shard=PER_SHARD)
    before()
    return len(label_transfer_set(asked, teacher, tokenizer(), output_dir=folder, **options))


def contents(folder: Path) -> dict[str, bytes]:
    """All files of a recording but what it took, which is never the same, and what tells of processes."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name not in (COST, ".lock")}


def limit_files(size: int) -> None:
    """As a full disk: no file of this process grows beyond so many bytes; -1: any may."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


class Child:
    """A call in a process of its own, a copy of this one."""

    def __init__(self, work: Callable[..., Any], *args: Any, **kwargs: Any):
        self._receive, send = CONTEXT.Pipe(duplex=False)
        self._process = CONTEXT.Process(target=_tell, args=(send, partial(work, *args, **kwargs)))
        self._process.start()
        send.close()

    def kill_after(self, seconds: float) -> None:
        """Kill it then, if it still runs."""
        self._process.join(seconds)
        self._process.kill()

    def came(self) -> tuple[str, Any]:
        """ENDED and what the call gave, the name of an error's class and its message, or KILLED and None."""
        try:
            found = self._receive.recv() if self._receive.poll(300) else ("hung", None)
        except EOFError:
            found = KILLED, None
        self._process.kill() if found[0] == "hung" else self._process.join()
        return found


def _tell(send: Any, work: Callable[[], Any]) -> None:
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
    try:
        found = ENDED, work()
    except BaseException as error:
        found = type(error).__name__, str(error)[:500]
    send.send(found)
    send.close()
    os._exit(0)


def required(child: Child) -> Any:
    """What a child must have given."""
    came, given = child.came()
    if came != ENDED:
        raise RuntimeError(f"{came}: {given}")
    return given


def can_mount(place: Path) -> bool:
    """Whether this process may make small file systems."""
    try:
        with small_disk(place, 64):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


@contextmanager
def small_disk(place: Path, kilobytes: int) -> Iterator[Callable[[], object]]:
    """A file system of that size at a place; gives what makes it large."""
    place.mkdir(parents=True, exist_ok=True)

    def mount(options: str) -> None:
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], check=True, capture_output=True)

    mount(f"size={max(kilobytes, 4)}k")
    try:
        yield lambda: mount("remount,size=256m")
    finally:
        subprocess.run(["umount", "-l", place], check=True, capture_output=True)


class AfterStep(TrainerCallback):
    """Calls something after an optimizer step."""

    def __init__(self, step: int, call: Callable[[], object]):
        self._step, self._call = step, call

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self._step:
            self._call()


def launch(folder: Path, kill_at: int = 0) -> int:
    """Train on two processes under torchrun; its exit code. What came is in `weights.txt` of the folder."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--rdzv_backend=c10d"]
    command += ["--rdzv_endpoint=127.0.0.1:0", __file__, str(folder), str(kill_at)]
    return subprocess.run(command, capture_output=True, timeout=600, check=False).returncode


def kill_the_second_process() -> None:
    if os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    folder, kill_at = Path(sys.argv[1]), int(sys.argv[2])
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    weights, _ = train("distill", folder, callbacks=(AfterStep(kill_at, kill_the_second_process),))
    torch.distributed.barrier()
    if torch.distributed.get_rank() == 0:
        (folder / "weights.txt").write_text(weights)
    os._exit(0)  # gloo now and then aborts a process group that is torn down while its peer is still at it


if __name__ == "__main__":
    main()

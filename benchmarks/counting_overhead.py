"""What it costs to count what a training costs: the share of its time that goes into counting.

    python benchmarks/counting_overhead.py [--device cuda] [--shape 2/128 4/256]

Every call that counts, looks after the budget or adds up for the log is timed inside a real training with a live teacher;
for tokens, which on a GPU the device is waited for, also with max_tokens.
"""

from __future__ import annotations

import argparse
import functools
import json
import time
from pathlib import Path
from typing import Any

import datasets
import transformers
from trainer_overhead import BATCH_SIZE, RESULTS, fresh, make_world, now, quiet

from hf_distill import DistillationTrainer, DistillationTrainingArguments
from hf_distill.fingerprints import package_versions
from hf_distill.hardware import hardware_name
from hf_distill.resources.minilm import minilm_path

COUNTING = ("_note_step", "_update_share", "sync_cost", "floating_point_ops")


class TimedTrainer(DistillationTrainer):
    """Notes how long its counting takes."""

    counting_seconds = 0.0


def timed(name: str):
    method = getattr(DistillationTrainer, name)

    @functools.wraps(method)
    def call(self, *args, **kwargs):
        begin = time.perf_counter()
        try:
            return method(self, *args, **kwargs)
        finally:
            self.counting_seconds += time.perf_counter() - begin

    return call


for _name in COUNTING:
    setattr(TimedTrainer, _name, timed(_name))


def share(world: dict[str, Any], device: str, steps: int, limits: dict[str, float]) -> dict[str, float]:
    rows = world["train"].select(range(BATCH_SIZE * steps))
    given = quiet(world["folder"], use_cpu=device == "cpu", logging_steps=10, max_steps=steps, **limits)
    args = DistillationTrainingArguments(**given)
    trainer = TimedTrainer(
        fresh(world["student"], device),
        args,
        train_dataset=rows,
        data_collator=world["collate"],
        teacher_model=world["teacher"],
    )
    begin = now(device)
    trainer.train()
    seconds = now(device) - begin
    return {
        "step_ms": 1000 * seconds / steps,
        "counting_us": 1e6 * trainer.counting_seconds / steps,
        "share": trainer.counting_seconds / seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--shape", nargs="+", default=["2/128", "4/256"], help="students, layers/hidden size")
    parser.add_argument("--teacher", type=Path, default=minilm_path(), help="a fine-tuned one costs the same time")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--folder", type=Path, default=Path("outputs/counting"), help="scratch folder")
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    content: dict[str, Any] = {"hardware": hardware_name(options.device), "versions": package_versions()}
    budgets = {"no budget": {}, "max_flops": {"max_flops": 1e18}, "max_tokens": {"max_tokens": 1e12}}
    for shape in options.shape:
        world = make_world(options.folder, options.teacher, shape)
        share(world, options.device, 20, {})
        content[shape] = {name: share(world, options.device, options.steps, each) for name, each in budgets.items()}
        print(shape, json.dumps(content[shape], indent=2), flush=True)
    (RESULTS / f"counting_overhead_{options.device}.json").write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()

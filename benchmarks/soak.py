"""Whether memory or open handles grow over many steps: python benchmarks/soak.py [--steps 2000] [--only shrinking ddp]

Tiny models, one thread, a process per cell, of which every twentieth part of the run is evaluated and saved: distillation from
a live teacher and from recorded outputs, in bfloat16 autocast, of streams, images and questions, in two processes of DDP, a
student that shrinks 20 times, and a teacher with 20 checkpoints. A cell fails where the memory after the first tenth of its
steps is above the most of that tenth by more than `--megabytes`, or handles by more than `--handles`; the script then ends with 1.
Finished cells are not repeated, unless they failed.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import torch
import transformers
from distributed import RESULTS
from scale import WORDS, arguments, bert, made_rows, memory, tokenizer
from transformers import (
    BertConfig,
    BertForQuestionAnswering,
    DefaultDataCollator,
    TrainerCallback,
    ViTConfig,
    ViTForImageClassification,
)

from hf_distill import (
    DistillationTrainer,
    ProgressiveTrainer,
    ProgressiveTrainingArguments,
    PruningDistillTrainer,
    PruningDistillTrainingArguments,
    label_transfer_set,
)
from hf_distill.fingerprints import package_versions
from hf_distill.hardware import hardware_name

EVENTS, SAMPLES, FIRST = 20, 40, 4  # the first tenth has `FIRST` samples
ROWS, EVALUATED = 2000, 200


class Watch(TrainerCallback):
    """Memory and open handles of the process, `SAMPLES` times in the run."""

    def __init__(self, steps: int):
        self._every, self._done = max(steps // SAMPLES, 1), 0
        self.samples: list[dict[str, float]] = []

    def on_step_end(self, args, state, control, **kwargs):
        self._done += 1  # of both stages, where there are two
        if self._done % self._every == 0:
            gc.collect()
            handles = len(os.listdir("/proc/self/fd"))
            self.samples.append({"step": self._done, "mb": round(memory("VmRSS"), 1), "handles": handles})


def given(folder: Path, steps: int, kind: Any = None, **more: Any) -> dict[str, Any]:
    """The arguments of a trainer of token sequences."""
    every = max(steps // EVENTS, 1)
    periodic = dict(
        eval_strategy="steps", eval_steps=every, save_strategy="steps", save_steps=every, save_total_limit=2
    )
    options = dict(max_steps=steps, logging_steps=every, learning_rate=1e-4) | periodic | more
    args = arguments(folder, **({} if kind is None else {"kind": kind}), **options)
    rows = dict(train_dataset=made_rows(ROWS), eval_dataset=made_rows(EVALUATED))
    return dict(args=args, processing_class=tokenizer(), callbacks=[Watch(steps)]) | rows


def live_teacher(folder: Path, steps: int) -> DistillationTrainer:
    return DistillationTrainer(bert(), teacher_model=bert(1), **given(folder, steps, recipe="tinybert_task"))


def recorded_outputs(folder: Path, steps: int) -> DistillationTrainer:
    options = given(folder, steps)
    collator = options["processing_class"]
    for name in ("train_dataset", "eval_dataset"):
        options[name] = label_transfer_set(options[name], bert(1), collator, folder / name, disable_tqdm=True)
    return DistillationTrainer(bert(), **options)


def bfloat16(folder: Path, steps: int) -> DistillationTrainer:
    return DistillationTrainer(
        bert(), teacher_model=bert(1), **given(folder, steps, bf16=True, teacher_dtype="bfloat16")
    )


def stream(folder: Path, steps: int) -> DistillationTrainer:
    options = given(folder, steps)
    rows = options["train_dataset"].to_list()
    options["train_dataset"] = datasets.IterableDataset.from_generator(lambda: iter(rows))
    return DistillationTrainer(bert(), teacher_model=bert(1), **options)


def images(folder: Path, steps: int) -> DistillationTrainer:
    def model(layers: int) -> ViTForImageClassification:
        sizes = dict(hidden_size=32, num_attention_heads=2, intermediate_size=64, num_hidden_layers=layers)
        return ViTForImageClassification(ViTConfig(image_size=8, patch_size=2, num_channels=1, num_labels=2, **sizes))

    def rows(count: int) -> datasets.Dataset:
        pixels = torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(0)).numpy()
        made = datasets.Dataset.from_dict({"pixel_values": pixels, "labels": [row % 2 for row in range(count)]})
        return made.with_format("torch")

    options = given(folder, steps) | dict(train_dataset=rows(ROWS), eval_dataset=rows(EVALUATED))
    options |= dict(processing_class=None, data_collator=DefaultDataCollator())
    return DistillationTrainer(model(1), teacher_model=model(2), **options)


def questions(folder: Path, steps: int) -> DistillationTrainer:
    def model(layers: int) -> BertForQuestionAnswering:
        sizes = dict(hidden_size=32, num_attention_heads=2, intermediate_size=64, num_hidden_layers=layers)
        return BertForQuestionAnswering(BertConfig(vocab_size=WORDS, max_position_embeddings=64, **sizes))

    def answered(rows: datasets.Dataset) -> datasets.Dataset:
        return rows.map(lambda row: {"start_positions": 1, "end_positions": len(row["input_ids"]) - 1}).remove_columns(
            "labels"
        )

    options = given(folder, steps)
    options |= {name: answered(options[name]) for name in ("train_dataset", "eval_dataset")}
    return DistillationTrainer(model(1), teacher_model=model(2), **options)


def shrinking(folder: Path, steps: int) -> PruningDistillTrainer:
    sizes = dict(target_hidden_size=8, target_intermediate_size=16, pruning_events=EVENTS, pruning_end=0.9)
    options = given(folder, steps, PruningDistillTrainingArguments, recipe="homodistil", **sizes)
    return PruningDistillTrainer(None, teacher_model=bert(1), **options)


def trajectory(folder: Path, steps: int) -> ProgressiveTrainer:
    for step in range(1, EVENTS + 1):
        bert(step).save_pretrained(folder / "teacher" / f"checkpoint-{step}")
    final = dict(teacher_checkpoints=[str(folder / "teacher")], max_temperature=5, final_stage_steps=max(steps // 4, 1))
    return ProgressiveTrainer(bert(), **given(folder, steps, ProgressiveTrainingArguments, **final))


ALONE: dict[str, Callable[[Path, int], DistillationTrainer]] = {
    "live_teacher": live_teacher, "recorded_outputs": recorded_outputs, "bfloat16": bfloat16, "stream": stream,
    "images": images, "questions": questions, "shrinking": shrinking, "trajectory": trajectory,
}  # fmt: skip
CELLS = ALONE | {"ddp": live_teacher}


def work(cell: str, steps: int) -> list[dict[str, float]]:
    """The samples of one process, under torchrun or alone."""
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as folder:
        trainer = CELLS[cell](Path(folder), steps)
        watch = next(each for each in trainer.callback_handler.callbacks if isinstance(each, Watch))
        trainer.train()
    return watch.samples


def growth(samples: list[dict[str, float]], figure: str) -> float:
    """How far the most after the first tenth is above the most in it."""
    values = [each[figure] for each in samples]
    return round(max(values[FIRST:]) - max(values[:FIRST]), 1)


def soaked(cell: str, options: argparse.Namespace) -> dict[str, Any]:
    """What the processes of a cell found, and whether it is too much."""
    launcher = ["-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"] if cell == "ddp" else []
    with tempfile.TemporaryDirectory() as reports:
        environment = os.environ | {"OMP_NUM_THREADS": "1", "SOAK_REPORTS": reports}
        command = [sys.executable, *launcher, __file__, "--work", cell, "--steps", str(options.steps)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        found = [json.loads(path.read_text()) for path in sorted(Path(reports).iterdir())]
    if done.returncode or len(found) != (2 if launcher else 1):
        raise RuntimeError(f"{cell}: {done.stderr[-2000:]}")
    grown = {figure: max(growth(samples, figure) for samples in found) for figure in ("mb", "handles")}
    return {
        "steps": int(found[0][-1]["step"]),
        "processes": len(found),
        "mb": [round(max(each["mb"] for each in found[0][:FIRST])), round(found[0][-1]["mb"])],
        "grown": grown,
        "failed": grown["mb"] > options.megabytes or grown["handles"] > options.handles,
        "samples": found[0],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000, help="optimizer steps of every cell, at least 40")
    parser.add_argument("--megabytes", type=float, default=24, help="growth of a process that is allowed")
    parser.add_argument("--handles", type=int, default=2, help="growth of open handles that is allowed")
    parser.add_argument("--only", nargs="+", choices=CELLS, default=list(CELLS), help="cells")
    parser.add_argument("--output", type=Path, default=RESULTS / "soak.json")
    parser.add_argument("--work", choices=CELLS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.steps < SAMPLES:
        parser.error(f"--steps must be at least {SAMPLES}, got {options.steps}")
    if options.work:
        samples = work(options.work, options.steps)
        Path(os.environ["SOAK_REPORTS"], f"{os.environ.get('RANK', '0')}.json").write_text(json.dumps(samples))
        os._exit(0)  # gloo now and then aborts a process group that is torn down while its peer is still at it
    torch.set_num_threads(1)
    allowed = {"mb": options.megabytes, "handles": options.handles}
    content: dict[str, Any] = {"hardware": hardware_name("cpu"), "versions": package_versions(), "allowed": allowed}
    content["cells"] = json.loads(options.output.read_text())["cells"] if options.output.exists() else {}
    for cell in options.only:
        if content["cells"].get(cell, {"failed": True})["failed"]:
            content["cells"][cell] = soaked(cell, options)
            print(cell, json.dumps({**content["cells"][cell], "samples": None}), flush=True)
            options.output.write_text(json.dumps(content, indent=2) + "\n")
    sys.exit(any(content["cells"][cell]["failed"] for cell in options.only))


if __name__ == "__main__":
    main()

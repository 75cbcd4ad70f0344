"""What following a trajectory costs beside one teacher: python benchmarks/trajectory_overhead.py [--device cuda]

Trajectories of all weights and of LoRA adapters over all-MiniLM-L6-v2, BERT-Tiny as the student, movie reviews.

1. Steps of ProgressiveTrainer against those of DistillationTrainer with the last checkpoint: same batches and objective,
   rounds in turn, ratio of the medians over all steps. Steps in which the teacher changes are reported apart: how
   much longer than the median they take, in units of the median.
2. What the checkpoints take on disk, and seconds to put the next one into the teacher, read beforehand and not.
3. Peak memory of either trainer in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
import transformers
from objectives import resident_bytes
from peft import LoraConfig, TaskType, get_peft_model
from trainer_overhead import BATCH_SIZE, now, quiet
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    TrainerCallback,
)
from transformers.trainer_utils import set_seed

from hf_distill import (
    DistillationTrainer,
    DistillationTrainingArguments,
    ProgressiveTrainer,
    ProgressiveTrainingArguments,
    create_student,
)
from hf_distill.fingerprints import package_versions
from hf_distill.hardware import hardware_name
from hf_distill.resources.minilm import minilm_path
from hf_distill.resources.sentiment import load_sentiment
from hf_distill.teachers.checkpoints import find_checkpoints
from hf_distill.teachers.trajectory import Trajectory

RESULTS = Path(__file__).with_name("results")
CHECKPOINTS = 4
LORA = dict(r=8, target_modules=["query", "value"], modules_to_save=["classifier"], task_type=TaskType.SEQ_CLS)


class StepTimes(TrainerCallback):
    """Seconds of every step, and whether its teacher was another than the step before's."""

    def __init__(self, device: str):
        self._device, self._begin, self.seconds = device, 0.0, []

    def on_step_begin(self, args, state, control, **kwargs):
        self._begin = now(self._device)

    def on_step_end(self, args, state, control, **kwargs):
        self.seconds.append(now(self._device) - self._begin)


def make_trajectories(folder: Path) -> dict[str, Path]:
    """Checkpoints that differ by a little noise: what they know does not matter here, only what moving them costs."""
    folders = {"whole": folder / "whole", "adapters": folder / "adapters"}
    for index in range(CHECKPOINTS):
        set_seed(0)
        model = AutoModelForSequenceClassification.from_pretrained(minilm_path())
        set_seed(index)
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(1e-3 * torch.randn_like(weight))
        model.save_pretrained(folders["whole"] / f"checkpoint-{index + 1}")
    base = folder / "base"
    model.save_pretrained(base)
    for index in range(CHECKPOINTS):
        set_seed(index)
        adapted = get_peft_model(AutoModelForSequenceClassification.from_pretrained(base), LoraConfig(**LORA))
        adapted.save_pretrained(folders["adapters"] / f"checkpoint-{index + 1}")
    return folders


def step_times(kind: str, folder: Path, device: str, steps: int) -> list[float]:
    """Seconds per step of one trainer: "single", or following the trajectory in the folder."""
    tokenizer = AutoTokenizer.from_pretrained(minilm_path())
    rows = load_sentiment()["train"].select(range(BATCH_SIZE * steps))
    rows = rows.map(lambda batch: tokenizer(batch["text"], truncation=True, max_length=128), batched=True)
    clock = StepTimes(device)
    fixed = quiet(
        folder / "out", max_steps=steps, bf16=False, teacher_dtype="float32", soft_label_loss="logit_mse",
        train_sampling_strategy="sequential", use_cpu=device == "cpu",
    )  # fmt: skip
    last = folder / "whole" / f"checkpoint-{CHECKPOINTS}"
    teacher = AutoModelForSequenceClassification.from_pretrained(last)
    set_seed(0)
    student = create_student("2/128", teacher, "random")
    common = dict(train_dataset=rows, data_collator=DataCollatorWithPadding(tokenizer), callbacks=[clock])
    if kind == "single":
        arguments = DistillationTrainingArguments(**fixed)
        trainer = DistillationTrainer(student, arguments, teacher_model=teacher, processing_class=tokenizer, **common)
    else:
        arguments = ProgressiveTrainingArguments(
            **fixed, teacher_checkpoints=[str(folder / kind)], final_stage_epochs=0, final_stage_steps=-1
        )
        del teacher
        trainer = ProgressiveTrainer(student, arguments, processing_class=tokenizer, **common)
    trainer.train()
    return clock.seconds


def compare_steps(folder: Path, device: str, rounds: int, steps: int) -> dict[str, object]:
    kinds = ("single", "whole", "adapters")
    seconds: dict[str, list[list[float]]] = {kind: [] for kind in kinds}
    for number in range(rounds):
        for kind in kinds[number % 3 :] + kinds[: number % 3]:
            seconds[kind].append(step_times(kind, folder, device, steps))
    # The teacher changes at these steps; the first ones of a run warm up.
    changes = [steps * number // CHECKPOINTS for number in range(1, CHECKPOINTS)]
    plain = [step for step in range(3, steps) if step not in changes]
    found: dict[str, object] = {}
    reference = statistics.median(run[step] for run in seconds["single"] for step in plain)
    for kind in kinds:
        median = statistics.median(run[step] for run in seconds[kind] for step in plain)
        found[kind] = {"step_ms": 1000 * median, "ratio": median / reference}
        found[kind]["ratio_by_round"] = [
            statistics.median(run[step] for step in plain) / statistics.median(other[step] for step in plain)
            for run, other in zip(seconds[kind], seconds["single"], strict=True)
        ]
        # The same batches without a change of teacher tell what these steps would have taken.
        extra = [
            (run[step] - other[step]) / reference
            for run, other in zip(seconds[kind], seconds["single"], strict=True)
            for step in changes
        ]
        found[kind]["extra_at_a_change_in_steps"] = {"median": statistics.median(extra), "largest": max(extra)}
    return found


def moving(folder: Path) -> dict[str, object]:
    """Disk and seconds per checkpoint."""
    found = {}
    for kind in ("whole", "adapters"):
        checkpoints = find_checkpoints(str(folder / kind))
        student = AutoModelForSequenceClassification.from_pretrained(folder / "base")
        trajectory = Trajectory(checkpoints)
        model = trajectory.first_model(student)
        model = AutoModelForSequenceClassification.from_pretrained(model) if isinstance(model, str) else model
        waited, read = [], []
        for index in range(1, CHECKPOINTS):
            trajectory.prefetch()
            time.sleep(2)
            begin = time.perf_counter()
            trajectory.move_to(index, model)
            read.append(time.perf_counter() - begin)
        for index in range(CHECKPOINTS - 1):
            begin = time.perf_counter()
            trajectory.move_to(index, model)
            waited.append(time.perf_counter() - begin)
        sizes = [file.stat().st_size for checkpoint in checkpoints for file in checkpoint.files()]
        found[kind] = {"megabytes_on_disk": sum(sizes) / CHECKPOINTS / 1e6}
        found[kind] |= {"ms_when_read_before": 1000 * statistics.median(read)}
        found[kind] |= {"ms_when_not": 1000 * statistics.median(waited)}
    return found


def peak_memory(folder: Path, device: str, steps: int) -> dict[str, float]:
    found = {}
    for kind in ("single", "whole", "adapters"):
        command = [sys.executable, __file__, "--peak", kind, "--folder", str(folder)]
        printed = subprocess.run(
            [*command, "--device", device, "--steps", str(steps)], check=True, capture_output=True, text=True
        ).stdout
        found[kind] = json.loads(printed.strip().splitlines()[-1])
    return found


def peak_of_this_process(device: str) -> dict[str, float]:
    peak = {"host_megabytes": resident_bytes("VmHWM") / 1e6}
    return peak if device == "cpu" else peak | {"device_megabytes": torch.cuda.max_memory_allocated() / 1e6}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="where to run")
    parser.add_argument("--rounds", type=int, default=6, help="runs of each trainer")
    parser.add_argument("--steps", type=int, default=40, help="optimizer steps of a run")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    if options.peak:
        step_times(options.peak, options.folder, options.device, options.steps)
        print(json.dumps(peak_of_this_process(options.device)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_trajectories(folder)
        content = {"steps": compare_steps(folder, options.device, options.rounds, options.steps)}
        content |= {"moving": moving(folder), "peak_memory": peak_memory(folder, options.device, options.steps)}
    content["conditions"] = {
        "rounds": options.rounds,
        "steps": options.steps,
        "batch_size": BATCH_SIZE,
        "checkpoints": CHECKPOINTS,
        "hardware": hardware_name(options.device),
        "versions": package_versions(),
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"trajectory_overhead_{options.device}.json").write_text(json.dumps(content, indent=2) + "\n")
    print(json.dumps(content, indent=2))


if __name__ == "__main__":
    main()

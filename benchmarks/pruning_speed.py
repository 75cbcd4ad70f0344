"""What shrinking saves against masking the same units: python benchmarks/pruning_speed.py [--steps 200] [--seeds 3]

all-MiniLM-L6-v2 fine-tuned on movie reviews (quality_movie_reviews.py) loses half of its width, 6x384 to 6x192, while it
is distilled from itself. The twin follows the same schedule and chooses its units in the same way, but sets them to zero
instead of removing them, as pruning is usually written. Runs alternate; per run the seconds and counted operations of all
steps, the time of an event and the accuracy on the test split. Then the student's latency beside its teacher's, and the
ratio of their operations.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import datasets
import torch
import transformers
from quality_movie_reviews import arguments, teacher_and_splits
from transformers import TrainerCallback
from transformers.trainer_utils import set_seed

from hf_distill import DistillationTrainer, PruningDistillTrainer, PruningDistillTrainingArguments, TeacherOutputs
from hf_distill.compute.flops import encoder_flops
from hf_distill.evaluation.latency import measure_latency
from hf_distill.evaluation.metrics import glue_metric
from hf_distill.fingerprints import package_versions
from hf_distill.hardware import hardware_name
from hf_distill.pruning.importance import largest
from hf_distill.pruning.structure import units_of

RESULTS = Path(__file__).with_name("results")
WIDTH = 192
LEARNING_RATE = 3e-4
LENGTH = 32  # of the sequences whose latency is measured


class MaskingTwin(PruningDistillTrainer):
    """Zeroes what `PruningDistillTrainer` removes, now and after every optimizer step."""

    def shrink(self, optimizer: torch.optim.Optimizer | None) -> None:
        shrinking = self.shrinking
        keep = largest(shrinking.model, shrinking.scores, *vars(shrinking.sizes_after(shrinking.done)).values())
        config, self.dropped = shrinking.model.config, []
        heads, parameters = config.num_attention_heads, dict(shrinking.model.named_parameters())
        for owned in units_of(shrinking.model):
            kept = keep.entries(owned.axis, owned.layer, heads, config.hidden_size // heads)
            if kept is not None and owned.parameter in parameters:
                parameter = parameters[owned.parameter]
                gone = sorted(set(range(parameter.shape[owned.dim])) - set(kept))
                self.dropped.append((parameter, owned.dim, torch.tensor(gone, device=parameter.device)))
        self.kept = torch.tensor(keep.hidden)
        self.mask()
        shrinking.done, shrinking.scores = shrinking.done + 1, {}

    def mask(self) -> None:
        with torch.no_grad():
            for parameter, dim, gone in self.dropped:
                parameter.index_fill_(dim, gone, 0.0)

    def teacher_forward(self, inputs: Mapping[str, Any], training: bool) -> TeacherOutputs:
        outputs = DistillationTrainer.teacher_forward(self, inputs, training)
        if self.kept is None:
            return outputs
        zeros = {index: torch.zeros_like(each) for index, each in outputs.hidden_states.items()}
        for index, each in outputs.hidden_states.items():
            zeros[index][..., self.kept] = each[..., self.kept]
        return dataclasses.replace(outputs, hidden_states=zeros)

    dropped: tuple | list = ()
    kept: torch.Tensor | None = None


class Clock(TrainerCallback):
    """Seconds of all steps, and how much longer those with an event took than the step after."""

    def __init__(self):
        self.steps: list[float] = []
        self._begin = 0.0

    def on_step_begin(self, args, state, control, **kwargs):
        self._begin = time.perf_counter()

    def on_log(self, args, state, control, logs=None, **kwargs):  # after the step's end and whatever it does
        if "loss" in logs:
            self.steps.append(time.perf_counter() - self._begin)


class MaskAgain(TrainerCallback):
    def __init__(self, trainer: MaskingTwin):
        self._trainer = trainer

    def on_step_end(self, args, state, control, **kwargs):
        self._trainer.mask()


def train(
    kind: type,
    teacher: Any,
    tokenizer: Any,
    splits: dict[str, Any],
    folder: Path,
    steps: int,
    seed: int,
    width: int = WIDTH,
) -> tuple[PruningDistillTrainer, dict[str, Any]]:
    set_seed(seed)
    clock = Clock()
    options = dict(recipe="homodistil", target_hidden_size=width, pruning_start=0.0, logging_steps=1)
    args = arguments(folder / "run", steps, LEARNING_RATE, seed, PruningDistillTrainingArguments, **options)
    trainer = kind(
        None, args, teacher_model=teacher, train_dataset=splits["train"], processing_class=tokenizer,
        callbacks=[clock], compute_metrics=glue_metric(None),
    )  # fmt: skip
    if kind is MaskingTwin:
        trainer.add_callback(MaskAgain(trainer))
    durations = []
    shrink = trainer.shrink

    def timed(optimizer: Any) -> None:
        begin = time.perf_counter()
        shrink(optimizer)
        durations.append(time.perf_counter() - begin)

    trainer.shrink = timed
    trainer.train()
    gflops = sum(entry["step_gflops"] for entry in trainer.state.log_history if "step_gflops" in entry)
    median = statistics.median(clock.steps)
    return trainer, {
        "seconds": sum(clock.steps),
        "gflops": gflops,
        "event_seconds": statistics.median(durations),
        "event_in_steps": statistics.median(durations) / median,
        "accuracy": trainer.evaluate(splits["test"])["eval_accuracy"],
    }


def summary(values: list[float]) -> dict[str, float]:
    return {"mean": statistics.mean(values), "sd": statistics.stdev(values)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("outputs/quality"), help="where the teacher is")
    parser.add_argument("--steps", type=int, default=200, help="optimizer steps of a run")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each kind, one per seed; at least 2")
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    teacher, tokenizer, splits, metrics = teacher_and_splits(options.folder)
    runs: dict[str, list[dict[str, Any]]] = {"shrinking": [], "masking": []}
    for seed in range(options.seeds):
        for name, kind in {"shrinking": PruningDistillTrainer, "masking": MaskingTwin}.items():
            trainer, measured = train(kind, teacher, tokenizer, splits, options.folder, options.steps, seed)
            print(name, measured, flush=True)
            runs[name].append(measured)
            if name == "shrinking":
                student = trainer.model
    latency = measure_latency({"teacher": teacher, "student": student}, sequence_length=LENGTH, runs=100)
    seconds = [
        ours["seconds"] / theirs["seconds"] for ours, theirs in zip(runs["shrinking"], runs["masking"], strict=True)
    ]
    content = {
        "teacher_accuracy": metrics["test_accuracy"],
        "time_ratio": {"median": statistics.median(seconds), "by_seed": seconds},
        "accuracy": {name: summary([run["accuracy"] for run in found]) for name, found in runs.items()},
        "operations_ratio": runs["shrinking"][0]["gflops"] / runs["masking"][0]["gflops"],
        "student_latency_ratio": latency["student"]["median_ms"] / latency["teacher"]["median_ms"],
        "student_operations_ratio": encoder_flops(student.config, LENGTH) / encoder_flops(teacher.config, LENGTH),
        "runs": runs,
        "conditions": {
            "steps": options.steps,
            "learning_rate": LEARNING_RATE,
            "hardware": hardware_name("cpu"),
            "threads": torch.get_num_threads(),
            "versions": package_versions(),
        },
    }  # fmt: skip
    (RESULTS / "pruning_speed_cpu.json").write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()

"""Students that shrink while they learn against the same shape made otherwise: quality_pruning.py {digits,reviews}

digits    teacher a ViT of 4 layers of 64 (quality_recipes.py), students 4 layers of 32, or of `--width`
reviews   teacher all-MiniLM-L6-v2 fine-tuned on movie reviews, 6 layers of 384, students 6 layers of 192, or of `--width`

All learn by the HomoDistil recipe:

sensitivity, taylor, magnitude, random   the teacher's copy loses width at ten events, by each measure of importance
linear, one_shot                         by sensitivity, with another schedule
truncated, scratch                       the last shape from the first step on, with the teacher's leading dimensions or
                                         with random weights, and learned projections where widths differ

All take the same counted compute, forward and backward passes of the student and forward passes of the teacher: what the
steps of `sensitivity` cost. Each has its own best learning rate of the same list, by validation accuracy with the first
seed; then come the other seeds at that rate. A cell that is done is not run again.
"""

from __future__ import annotations

import argparse
import json
from bisect import bisect_right
from pathlib import Path
from typing import Any

import datasets
import torch
import transformers
from quality_movie_reviews import arguments
from quality_recipes import RESULTS, Digits, Experiment, Reviews
from transformers.trainer_utils import set_seed

from hf_distill import DistillationTrainer, PruningDistillTrainer, PruningDistillTrainingArguments
from hf_distill.compute.flops import encoder_flops, vit_length
from hf_distill.fingerprints import package_versions
from hf_distill.hardware import hardware_name
from hf_distill.pruning.compaction import compact
from hf_distill.pruning.importance import Criterion, largest, leading, score
from hf_distill.pruning.shrinking import Sizes

EVENTS = 10
LENGTH = 32  # of the sequences whose operations are counted
SHRINKING: dict[str, dict[str, Any]] = {
    "sensitivity": {},
    "taylor": {"importance": "taylor"},
    "magnitude": {"importance": "magnitude"},
    "random": {"importance": "random"},
    "linear": {"shrinking": "linear"},
    "one_shot": {"shrinking": "one_shot", "pruning_start": 0.05},
}


class Shrinking(Experiment):
    """An experiment of quality_recipes.py with its teacher, and students of one shape."""

    arms = (*SHRINKING, "truncated", "scratch")

    def __init__(self, folder: Path, width: int):
        self.width = width
        super().__init__(folder)
        config = self.teacher.config
        self.heads, self.neurons = config.num_attention_heads, config.intermediate_size * width // config.hidden_size
        self.conditions["student"] = f"{config.num_hidden_layers}/{width}"
        self.compute = self._compute("sensitivity", self.steps)

    def cell(self, arm: str, rate: float, seed: int) -> dict[str, float]:
        set_seed(seed)
        make = self._shrinking if arm in SHRINKING else self._of_last_shape
        trainer = make(arm, self._affordable(arm), rate, seed, self.splits["train"])
        trainer.train()
        assert Sizes.of(trainer.model.config) == Sizes(self.width, self.heads, self.neurons)
        test = trainer.predict(self.splits["test"]).metrics
        return {
            "validation_accuracy": trainer.evaluate(self.splits["validation"])["eval_accuracy"],
            "test_accuracy": test["test_accuracy"],
            "test_agreement": test["test_teacher_agreement"],
            "steps": trainer.state.global_step,
        }

    def _shrinking(self, arm: str, steps: int, rate: float, seed: int, data: Any = None) -> PruningDistillTrainer:
        sizes = dict(target_hidden_size=self.width, pruning_events=EVENTS, pruning_start=0.0)
        options = dict(recipe="homodistil") | sizes | SHRINKING[arm]
        args = arguments(self.folder / "run", steps, rate, seed, PruningDistillTrainingArguments, **options)
        return PruningDistillTrainer(None, args, teacher_model=self.teacher, train_dataset=data, **self.more)

    def _of_last_shape(self, arm: str, steps: int, rate: float, seed: int, data: Any) -> DistillationTrainer:
        units = leading(score(self.teacher, Criterion.MAGNITUDE))
        keep = largest(self.teacher, units, self.width, self.heads, self.neurons)
        student = compact(self.teacher, keep).requires_grad_(True)
        if arm == "scratch":
            student = type(student)(student.config)
        args = arguments(self.folder / "run", steps, rate, seed, recipe="homodistil")
        return DistillationTrainer(student, args, teacher_model=self.teacher, train_dataset=data, **self.more)

    def _affordable(self, arm: str) -> int:
        """The most steps for the compute of `sensitivity`."""
        if arm not in SHRINKING:
            return round(self.compute / self._cost(self.width))
        candidates = range(EVENTS + 1, 3 * self.steps)
        return candidates[bisect_right(candidates, self.compute, key=lambda steps: self._compute(arm, steps)) - 1]

    def _compute(self, arm: str, steps: int) -> float:
        """Operations of a run that shrinks, per example."""
        shrinking = self._shrinking(arm, steps, self.rates[0], seed=0).shrinking
        events, operations, width = shrinking.events(steps), 0.0, shrinking.first.hidden_size
        for step in range(1, steps + 1):
            operations += self._cost(width)
            if step in events:
                width = shrinking.sizes_after(events.index(step)).hidden_size
        return operations

    def _cost(self, width: int) -> float:
        """Operations of a step with a student of a width, neurons in proportion, per example."""
        config = type(self.teacher.config)(**self.teacher.config.to_dict())
        length = vit_length(config) if config.model_type == "vit" else LENGTH
        teacher = encoder_flops(config, length)
        config.hidden_size, config.intermediate_size = width, config.intermediate_size * width // config.hidden_size
        return 3 * encoder_flops(config, length) + teacher


class ShrinkingDigits(Shrinking, Digits):
    """A task that even a small student learns to its end."""


class ShrinkingReviews(Shrinking, Reviews):
    """A task on which what the teacher knows counts."""

    arms = ("sensitivity", "magnitude", "one_shot", "truncated", "scratch")
    steps = 100
    rates = (3e-4, 1e-3)


TASKS = {"digits": (ShrinkingDigits, 32), "reviews": (ShrinkingReviews, 192)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--folder", type=Path, default=Path("outputs/quality_pruning"), help="where cells are kept")
    parser.add_argument("--width", type=int, help="of the students, a multiple of the teacher's heads")
    parser.add_argument("--seeds", type=int, default=3, help="seeds per way of training, at least 2")
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    kind, width = TASKS[options.task]
    width = options.width or width
    folder = options.folder / f"{options.task}_{width}"
    folder.mkdir(parents=True, exist_ok=True)
    experiment = kind(folder, width)
    found = {arm: experiment.arm(arm, options.seeds) for arm in experiment.arms}
    conditions = experiment.conditions | {
        "operations_per_example": experiment.compute,
        "seeds": options.seeds,
        "hardware": hardware_name("cuda" if torch.cuda.is_available() else "cpu"),
        "versions": package_versions(),
    }
    content = {"conditions": conditions, "arms": found}
    (RESULTS / f"quality_pruning_{options.task}_{width}.json").write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()

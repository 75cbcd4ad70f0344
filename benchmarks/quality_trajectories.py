"""Pro-KD against its baselines: python benchmarks/quality_trajectories.py {reviews,definitions,questions,digits}

reviews      Movie reviews, 500 with labels, 8,445 without. Teacher multilingual-e5-small, student its bottom 2 layers.
definitions  WordNet definitions in 45 classes, 3,000 with labels, 30,000 without. The same models.
questions    Questions about newspaper editorials (cloze_questions.py). Teacher all-MiniLM-L6-v2, student its bottom 2 layers.
digits       Handwritten digits. Teacher a ViT of 4 layers of 64, student a ViT of 1 layer of 32, from random weights.

All ways of training take equally many steps of the student; annealing_kd and pro_kd spend a third of theirs on labels. Each
has its own best learning rate of the same list, by validation with the first seed; then come the other seeds at that rate
(for questions the list has one). Scores are those of the test split. A run that is finished is not run again.

On reviews and definitions (trajectory_texts.py, trajectory_ways.py) only a final stage is on labels, the rest on the texts
without labels. Every run on questions and digits is one of the example script, as a user would start it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import torch
import transformers
from cloze_questions import cloze_questions
from trajectory_texts import ENCODERS, TEXT_TASKS, TaughtTexts
from trajectory_ways import DEFAULT_WAYS, WAYS, WayComparison
from transformers import AutoModelForImageClassification, AutoModelForQuestionAnswering, AutoTokenizer
from transformers.trainer_utils import set_seed

from hf_distill import create_student
from hf_distill.files import atomic_write
from hf_distill.fingerprints import package_versions
from hf_distill.hardware import hardware_name
from hf_distill.resources.digits import load_digits_dataset
from hf_distill.resources.minilm import minilm_path

RESULTS = Path(__file__).with_name("results")
EXAMPLES = Path(__file__).parents[1] / "examples"
CHECKPOINTS = 8
FINAL_SHARE = 1 / 3


class Task(ABC):
    """A script, its data, its models."""

    script: str
    metric: str  # as the script's eval_results.json calls it
    teacher_steps: int
    teacher_rate: float
    steps: int
    rates: tuple[float, ...]
    batch_size: int

    def __init__(self, folder: Path):
        self.folder = folder

    @property
    def teacher(self) -> Path:
        return self.folder / "teacher"

    @abstractmethod
    def data(self) -> list[str]:
        """Arguments that name the data."""

    @abstractmethod
    def untrained(self, seed: int | None) -> list[str]:
        """Arguments that name the student before training; without a seed the teacher."""

    @abstractmethod
    def test(self, folder: Path) -> float:
        """The score of a trained model on the test split."""

    def arms(self) -> dict[str, list[str]]:
        last = str(self.teacher / f"checkpoint-{self.teacher_steps}")
        final = round(self.steps * FINAL_SHARE)
        whole = ["--max_steps", str(self.steps)]
        staged = ["--max_steps", str(self.steps - final), "--final_stage_steps", str(final)]
        at_one = ["--recipe", "vanilla_kd", "--general_stage_loss", "forward_kl", "--max_temperature", "1"]
        followed = ["--teacher_checkpoints", str(self.teacher)]
        return {
            "fine_tuning": whole,
            "vanilla_kd": [*whole, "--teacher_model_name_or_path", last, "--recipe", "vanilla_kd"],
            "annealing_kd": [*staged, "--teacher_checkpoints", last],
            "rco": [*whole, "--final_stage_epochs", "0", *followed, *at_one],
            "pro_kd": [*staged, *followed],
        }

    def train(self, folder: Path, start: list[str], rate: float, seed: int, arguments: list[str]) -> dict[str, float]:
        """Validation and test score of a run."""
        result = folder / "result.json"
        if not result.exists():
            self.call(
                folder, "--do_train", *start, "--learning_rate", str(rate), "--seed", str(seed), *arguments,
                "--per_device_train_batch_size", str(self.batch_size), "--warmup_steps", "0.1",
            )  # fmt: skip
            scores = {"validation": self.validation(folder), "test": self.test(folder)}
            result.write_text(json.dumps(scores))
        return json.loads(result.read_text())

    def validation(self, folder: Path) -> float:
        return json.loads((folder / "eval_results.json").read_text())[self.metric]

    def call(self, folder: Path, *arguments: str) -> None:
        quiet = ["--report_to", "none", "--disable_tqdm", "true", "--logging_steps", "50", "--log_level", "error"]
        command = [sys.executable, str(EXAMPLES / self.script), "--output_dir", str(folder), "--do_eval", *quiet]
        save = [] if "--save_strategy" in arguments else ["--save_strategy", "no"]
        subprocess.run([*command, *self.data(), *save, *arguments], check=True)

    def teach_teacher(self) -> dict[str, float]:
        every = str(self.teacher_steps // CHECKPOINTS)
        length = ["--max_steps", str(self.teacher_steps), "--save_strategy", "steps", "--save_steps", every]
        return self.train(self.teacher, self.untrained(None), self.teacher_rate, 0, [*length, "--save_only_model"])

    def arm(self, name: str, seeds: int) -> dict[str, object]:
        def run(rate: float, seed: int) -> dict[str, float]:
            folder = self.folder / f"{name}_{self.steps}_{rate:g}_{seed}"
            scores = self.train(folder, self.untrained(seed), rate, seed, self.arms()[name])
            print(f"{name} lr={rate:g} seed={seed}: {scores}", flush=True)
            return scores

        tried = {rate: run(rate, 0)["validation"] for rate in self.rates}
        best = max(tried, key=tried.get)
        values = [run(best, seed)["test"] for seed in range(seeds)]
        summary = {"learning_rate": best, "validation_by_rate": tried}
        return summary | {"mean": statistics.mean(values), "sd": statistics.stdev(values), "values": values}

    def results(self, names: Sequence[str], seeds: int) -> dict[str, Any]:
        """Teacher, results of every way, and conditions."""
        conditions = {
            "metric": self.metric.removeprefix("eval_"),
            "student_steps": self.steps,
            "batch_size": self.batch_size,
            "teacher_checkpoints": CHECKPOINTS,
            "teacher_steps": self.teacher_steps,
        }
        teacher = self.teach_teacher()
        return {"teacher": teacher, "arms": {name: self.arm(name, seeds) for name in names}, "conditions": conditions}


class Questions(Task):
    script, metric = "run_qa.py", "eval_f1"
    teacher_steps, teacher_rate = 400, 1e-4
    steps, rates, batch_size = 200, (3e-4,), 16  # 1e-4 was worse on labels

    def __init__(self, folder: Path):
        super().__init__(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for split, rows in cloze_questions().items():
            (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def data(self) -> list[str]:
        files = ["--train_file", str(self.folder / "train.jsonl")]
        return [*files, "--validation_file", str(self.folder / "validation.jsonl"), "--max_seq_length", "256"]

    def untrained(self, seed: int | None) -> list[str]:
        if seed is None:
            return ["--model_name_or_path", minilm_path()]
        folder = self.folder / "student"
        if not folder.exists():
            set_seed(0)
            start = AutoModelForQuestionAnswering.from_pretrained(minilm_path())
            create_student("2/384", start, "truncated").save_pretrained(folder)
            AutoTokenizer.from_pretrained(minilm_path()).save_pretrained(folder)
        return ["--model_name_or_path", str(folder)]

    def test(self, folder: Path) -> float:
        model = ["--model_name_or_path", str(folder), "--validation_file", str(self.folder / "test.jsonl")]
        self.call(folder / "test", *model)
        return self.validation(folder / "test")


class Digits(Task):
    script, metric = "run_image_classification.py", "eval_accuracy"
    teacher_steps, teacher_rate = 1200, 1e-3
    steps, rates, batch_size = 600, (1e-3, 3e-3), 32

    def data(self) -> list[str]:
        return ["--dataset_name", "digits"]

    def untrained(self, seed: int | None) -> list[str]:
        width, depth = (64, 4) if seed is None else (32, 1)
        shape = f"hidden_size={width},intermediate_size={2 * width},num_hidden_layers={depth},num_attention_heads=4"
        return ["--model_type", "vit", "--config_overrides", f"image_size=8,patch_size=2,num_channels=1,{shape}"]

    def test(self, folder: Path) -> float:
        model = AutoModelForImageClassification.from_pretrained(folder).eval()
        rows = load_digits_dataset()["test"].with_format("torch")[:]
        with torch.inference_mode():
            return (model(rows["pixel_values"]).logits.argmax(-1) == rows["label"]).float().mean().item()


TASKS = {"questions": Questions, "digits": Digits}


def comparison_of(options: argparse.Namespace) -> tuple[Task | WayComparison, Sequence[str], Sequence[str]]:
    """The comparison of a task, the ways that it knows, and those that it compares unless others are named."""
    folder = options.folder.resolve()
    if options.task in TEXT_TASKS:
        task = TEXT_TASKS[options.task]
        task = dataclasses.replace(task, texts=options.texts or task.texts)
        taught = TaughtTexts(task, folder / f"{options.task}_{options.encoder}_{task.texts}", options.encoder)
        return WayComparison(taught, options.steps or 1500), list(WAYS), DEFAULT_WAYS
    task = TASKS[options.task](folder / options.task)
    task.steps = options.steps or task.steps
    return task, list(task.arms()), list(task.arms())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=[*TEXT_TASKS, *TASKS])
    parser.add_argument("--folder", type=Path, default=Path("outputs/trajectories"), help="where runs are kept")
    parser.add_argument("--output", type=Path, help="the file of results, by default one per task in results/")
    parser.add_argument("--seeds", type=int, default=3, help="seeds per way of training, at least 2")
    parser.add_argument("--steps", type=int, help="steps of a student, by default those of the task")
    parser.add_argument("--ways", nargs="+", help=f"ways of training; of reviews and definitions {', '.join(WAYS)}")
    parser.add_argument(
        "--texts", type=int, help="texts of the transfer set of reviews and definitions, by default all"
    )
    parser.add_argument("--encoder", choices=ENCODERS, default="e5", help="the teacher of reviews and definitions")
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    comparison, known, default = comparison_of(options)
    names = options.ways or default
    if unknown := set(names) - set(known):
        parser.error(f"--ways must be of {', '.join(known)}, got {', '.join(sorted(unknown))}")
    content = comparison.results(names, options.seeds)
    hardware = hardware_name("cuda" if torch.cuda.is_available() else "cpu")
    content["conditions"] |= {"hardware": hardware, "versions": package_versions()}
    output = options.output or RESULTS / f"quality_trajectories_{options.task}.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(output, json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()

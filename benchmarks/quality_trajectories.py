"""Pro-KD against its baselines: python benchmarks/quality_trajectories.py TASK

Tasks of few_label_tasks.py with a teacher of 12 layers, a student of 2 layers and a transfer set without labels: reviews_e5,
definitions_e5, words_e5, digits_12. The ways of training are those of trajectory_ways.py; only a final stage is on labels.

questions    Questions about newspaper editorials (cloze_questions.py). Teacher all-MiniLM-L6-v2, student its bottom 2
             layers, every run one of examples/run_qa.py, as a user would start it.

All ways of training take equally many steps of the student; annealing_kd and pro_kd spend a third of theirs on labels. Each
has its own best learning rate of the same list, by validation with the first seed; then come the other seeds at that rate
(for questions the list has one). Scores are those of the test split. A run that is finished is not run again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import torch
import transformers
from cloze_questions import cloze_questions
from few_label_tasks import TASKS
from teacher_trajectory import CHECKPOINTS, TeacherTrajectory
from trajectory_ways import DEFAULT_WAYS, WAYS, WayComparison
from transformers import AutoModelForQuestionAnswering, AutoTokenizer
from transformers.trainer_utils import set_seed

from hf_distill import create_student
from hf_distill.files import atomic_write
from hf_distill.fingerprints import package_versions
from hf_distill.hardware import hardware_name
from hf_distill.resources.minilm import minilm_path

RESULTS = Path(__file__).with_name("results")
EXAMPLES = Path(__file__).parents[1] / "examples"
FINAL_SHARE = 1 / 3
STEPS = 1500
DEEP_TASKS = ("reviews_e5", "definitions_e5", "words_e5", "digits_12")
QUESTIONS = "questions"
ARMS = ("fine_tuning", "vanilla_kd", "annealing_kd", "rco", "pro_kd")


class Questions:
    """Extractive question answering by runs of the example script."""

    script, metric = "run_qa.py", "eval_f1"
    teacher_steps, teacher_rate = 400, 1e-4
    steps, rates, batch_size = 200, (3e-4,), 16  # 1e-4 was worse on labels

    def __init__(self, folder: Path, steps: int | None = None):
        self.folder, self.teacher = folder, folder / "teacher"
        self.steps = steps or self.steps
        folder.mkdir(parents=True, exist_ok=True)
        for split, rows in cloze_questions().items():
            (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def data(self) -> list[str]:
        files = ["--train_file", str(self.folder / "train.jsonl")]
        return [*files, "--validation_file", str(self.folder / "validation.jsonl"), "--max_seq_length", "256"]

    def untrained(self) -> list[str]:
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

    def arms(self) -> dict[str, list[str]]:
        last = str(self.teacher / f"checkpoint-{self.teacher_steps}")
        final = round(self.steps * FINAL_SHARE)
        whole = ["--max_steps", str(self.steps)]
        staged = ["--max_steps", str(self.steps - final), "--final_stage_steps", str(final)]
        at_one = ["--recipe", "vanilla_kd", "--general_stage_loss", "forward_kl", "--max_temperature", "1"]
        followed = ["--teacher_checkpoints", str(self.teacher), "--checkpoint_shares", "equal"]
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
        return self.train(
            self.teacher, ["--model_name_or_path", minilm_path()], self.teacher_rate, 0, [*length, "--save_only_model"]
        )

    def arm(self, name: str, seeds: int) -> dict[str, object]:
        def run(rate: float, seed: int) -> dict[str, float]:
            folder = self.folder / f"{name}_{self.steps}_{rate:g}_{seed}"
            scores = self.train(folder, self.untrained(), rate, seed, self.arms()[name])
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=[*DEEP_TASKS, QUESTIONS])
    parser.add_argument("--folder", type=Path, default=Path("outputs/trajectories"), help="where runs are kept")
    parser.add_argument("--output", type=Path, help="the file of results, by default one per task in results/")
    parser.add_argument("--seeds", type=int, default=3, help="seeds per way of training, at least 2")
    parser.add_argument("--steps", type=int, help="steps of a student; by default 1,500, of questions 200")
    parser.add_argument(
        "--ways", nargs="+", help=f"ways of training, of {', '.join(WAYS)}; of questions {', '.join(ARMS)}"
    )
    parser.add_argument("--student", help="kind of student, by default the task's last one; not of questions")
    parser.add_argument(
        "--rates", type=float, nargs="+", default=(5e-4, 1.5e-3), help="learning rates; not of questions"
    )
    options = parser.parse_args()
    asks = options.task == QUESTIONS
    if unknown := set(options.ways or ()) - set(ARMS if asks else WAYS):
        parser.error(f"--ways has unknown {', '.join(sorted(unknown))}")
    transformers.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    folder = options.folder.resolve() / options.task
    folder.mkdir(parents=True, exist_ok=True)
    if asks:
        content = Questions(folder, options.steps).results(options.ways or ARMS, options.seeds)
    else:
        trajectory = TeacherTrajectory(TASKS[options.task](folder))
        kind = options.student or list(trajectory.task.kinds)[-1]
        comparison = WayComparison(trajectory, kind, options.steps or STEPS, options.rates)
        content = comparison.results(options.ways or DEFAULT_WAYS, options.seeds)
    hardware = hardware_name("cuda" if torch.cuda.is_available() else "cpu")
    content["conditions"] |= {"hardware": hardware, "versions": package_versions()}
    output = options.output or RESULTS / f"quality_trajectories_{options.task}.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(output, json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()

r"""The ablations of Pre-trained Distillation (Turc et al. 2019) on your own data: a table, a plot and a JSON file each.

    python examples/ablations.py --question initialization --teacher_model_name_or_path outputs/teacher --dataset_name movie_reviews \
        --students tiny mini --distillation_steps 500 --output_dir outputs/ablations

    initialization    initialization of the student (random, teacher embeddings, teacher layers, pre-training), per size
    transfer_size     number of texts in the transfer set
    transfer_domain   domain of the transfer set
    arms              pre-training and distillation on the same text: D, PD, PD-F, PF, B, TF
    depth_width       deep and narrow against shallow and wide, with equally many parameters in the layers
    reduction         the smallest student not much worse than the teacher, for every initialization: how much smaller it
                      is, and how much faster (measured)

Every cell of a table is a run of pretrained_distillation.py, whose arguments are accepted here too. Finished cells are
not repeated, also not for another question; interrupted ones are resumed. A size is pre-trained once per seed.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure  # a figure without pyplot needs no display and keeps no state
from pretrained_distillation import DISTILLATION, FINE_TUNING, PRETRAINING, Pipeline, PipelineArguments
from rich.console import Console
from rich.table import Table
from transformers.hf_argparser import HfArg

from hf_distill import DistillationTrainingArguments, create_student
from hf_distill.evaluation.latency import measure_latency
from hf_distill.files import atomic_write, replacing
from hf_distill.fingerprints import package_versions
from hf_distill.hardware import hardware_name
from hf_distill.resources.sentiment import DOMAINS
from hf_distill.scripts.arguments import ScriptParser
from hf_distill.scripts.run import parsed_values, run_on_main_process
from hf_distill.scripts.seeds import bars, format_percent, mean_and_sd, seeds_label
from hf_distill.scripts.user_errors import run_main
from hf_distill.scripts.verbosity import set_verbosity
from hf_distill.teachers.column_names import TEACHER_LOGITS

STAGES = (PRETRAINING, DISTILLATION, FINE_TUNING)
QUESTIONS = ("initialization", "transfer_size", "transfer_domain", "arms", "depth_width", "reduction")


@dataclass
class AblationArguments:
    """The question, and the students it is answered for."""

    question: str = HfArg(help=f"One of {', '.join(QUESTIONS)}.")
    students: list[str] = field(
        default_factory=lambda: ["tiny", "mini", "small"],
        metadata={"help": "Sizes of the students: names, or layers/hidden size."},
    )
    initializations: list[str] = field(
        default_factory=lambda: ["random", "embeddings", PRETRAINING],
        metadata={
            "help": f"Initializations to compare: random, embeddings, truncated, width, pretrained (published weights) or "
            f"{PRETRAINING} (by this script)."
        },
    )
    transfer_sizes: list[int] = field(
        default_factory=lambda: [1000, 4000, 16000], metadata={"help": "Sizes of the transfer set, in texts."}
    )
    transfer_sets: list[str] = field(
        default_factory=lambda: list(DOMAINS),
        metadata={
            "help": "Transfer sets to compare: files, folders, datasets, or built-in ones as of --transfer_set. Default: the "
            "sentiment sets."
        },
    )
    arms: list[str] = field(
        default_factory=lambda: ["D", "PD", "PD-F", "PF", "B"], metadata={"help": "Arms to compare."}
    )
    shapes: list[str] = field(
        default_factory=lambda: ["8/128", "2/256"],
        metadata={"help": "Sizes to compare in depth_width, with equal layers · hidden size²."},
    )
    points: float = HfArg(default=2.0, help="Percentage points a student may be behind the teacher, in reduction.")
    seeds: list[int] = field(
        default_factory=lambda: [0, 1, 2], metadata={"help": "Random seeds; every cell is run once per seed."}
    )

    def __post_init__(self) -> None:
        if self.question not in QUESTIONS:
            raise ValueError(f"question must be one of {list(QUESTIONS)}, got {self.question!r}")
        sizes = {int(layers) * int(hidden) ** 2 for layers, hidden in (shape.split("/") for shape in self.shapes)}
        if self.question == "depth_width" and len(sizes) > 1:
            raise ValueError(f"shapes must have equal layers · hidden size², got {sorted(sizes)} for {self.shapes}")


@dataclass(frozen=True)
class Cell:
    """One cell of a table: its row, its column, and the arguments of the pipeline that differ for it."""

    row: str
    column: str
    changes: dict[str, Any]


def cells_of(args: AblationArguments) -> list[Cell]:
    """The cells of the question's table, row by row."""
    if args.question in ("initialization", "reduction"):
        starts = {start: {"arm": "D", "initialization": start} for start in args.initializations}
        starts |= {PRETRAINING: {"arm": "PD", "initialization": "random"}} if PRETRAINING in starts else {}
        return [Cell(start, size, {"student": size} | starts[start]) for start in starts for size in args.students]
    if args.question == "depth_width":
        return [Cell("D", shape, {"student": shape, "arm": "D"}) for shape in args.shapes]
    varied = {
        "transfer_size": {str(size): {"arm": "D", "max_transfer_samples": size} for size in args.transfer_sizes},
        "transfer_domain": {name: {"arm": "D", "transfer_set": name} for name in args.transfer_sets},
        "arms": {arm: {"arm": arm} | ({"initialization": "truncated"} if arm == "TF" else {}) for arm in args.arms},
    }[args.question]
    return [Cell(size, name, {"student": size} | changes) for size in args.students for name, changes in varied.items()]


@dataclass
class Grid:
    """Runs the cells of a question and stores their results."""

    args: AblationArguments
    pipeline: PipelineArguments
    given: dict[str, Any]  # fields of DistillationTrainingArguments

    def __post_init__(self) -> None:
        self.folder = Path(self.given["output_dir"])
        self.pipeline.teacher_answers = self.pipeline.teacher_answers or str(self.folder / "teacher_answers")

    def accuracies(self, cell: Cell) -> list[float]:
        """Accuracy of the trained students on the test split, else on the validation split, one per seed."""
        return [self._accuracy(dataclasses.replace(self.pipeline, **cell.changes), seed) for seed in self.args.seeds]

    def _accuracy(self, arguments: PipelineArguments, seed: int) -> float:
        """Accuracy of one run; questions share cells, and cells share the stages they have in common."""
        transfer = arguments.transfer_set, arguments.max_transfer_samples
        parts = [arguments.student, arguments.initialization, *transfer, seed]
        start = "_".join(str(part).replace("/", "-") for part in parts if part is not None)
        folder = self.folder / "students" / f"{arguments.arm}_{start}"
        result = folder / "result.json"
        if not run_on_main_process(result.exists):
            given = self.given | {"output_dir": str(folder), "seed": seed}
            metrics = Pipeline(arguments, given, self.folder / "stages" / start).run()
            run_on_main_process(lambda: atomic_write(result, json.dumps(metrics)))
        metrics = run_on_main_process(lambda: json.loads(result.read_text()))
        return metrics.get("test_accuracy", metrics.get("eval_accuracy"))

    def measure(self, entries: list[dict[str, Any]]) -> dict[str, Any]:
        """Add size and speed relative to the teacher to the entries; returns the teacher's own entry."""
        pipeline = Pipeline(self.pipeline, self.given)
        split = pipeline.splits["test" if "test" in pipeline.splits else "validation"]
        answers, labels = np.array(split[TEACHER_LOGITS]).argmax(-1), np.array(split["labels"])
        models = {size: create_student(size, pipeline.teacher, "random") for size in {e["column"] for e in entries}}
        latency = run_on_main_process(lambda: measure_latency({"": pipeline.teacher} | models, runs=100))
        teacher = {"accuracy": float((answers == labels).mean()), "parameters": pipeline.teacher.num_parameters()}
        for entry in entries:
            size = entry["column"]
            entry["parameters"] = models[size].num_parameters()
            entry["smaller"] = teacher["parameters"] / entry["parameters"]
            entry["faster"] = latency[""]["median_ms"] / latency[size]["median_ms"]
        return teacher | {"latency": latency[""]}


def smallest_within(points: float, teacher: dict[str, Any], entries: list[dict[str, Any]]) -> dict[str, Any]:
    """For each initialization, the smallest student at most `points` percentage points behind the teacher, if any."""
    found: dict[str, Any] = dict.fromkeys(entry["row"] for entry in entries)
    for entry in sorted(entries, key=lambda entry: -entry["parameters"]):
        if 100 * (teacher["accuracy"] - entry["mean"]) <= points:
            found[entry["row"]] = entry
    return found


def say_reduction(points: float, teacher: dict[str, Any], found: dict[str, Any]) -> None:
    print(f"At most {points:g} points behind the teacher's {100 * teacher['accuracy']:.1f} %:")
    for start, entry in found.items():
        if entry is None:
            print(f"  {start}: none")
            continue
        behind = 100 * (teacher["accuracy"] - entry["mean"])
        ratios = f"{entry['smaller']:.1f} x smaller, {entry['faster']:.1f} x faster"
        print(f"  {start}: {entry['column']}, {behind:.1f} behind, {ratios}")


def conditions_of(
    args: AblationArguments, pipeline: PipelineArguments, training: DistillationTrainingArguments
) -> dict[str, Any]:
    """The settings that all cells share."""
    stages = {
        stage: {name: getattr(pipeline, f"{stage}_{name}") for name in ("steps", "learning_rate")} for stage in STAGES
    }
    data = {name: getattr(pipeline, name) for name in ("dataset_name", "transfer_set", "corpus", "max_seq_length")}
    return {
        "stages": stages,
        "data": data,
        "batch_size": training.per_device_train_batch_size,
        "processes": training.world_size,
        "seeds": args.seeds,
        "hardware": hardware_name(training.device),
        "versions": package_versions(),
    }


def show(question: str, results: list[dict[str, Any]], folder: Path) -> None:
    """Print the table and save the plot."""
    rows, columns = (list(dict.fromkeys(result[key] for result in results)) for key in ("row", "column"))
    found = {(result["row"], result["column"]): result for result in results}
    table = Table("", *columns, title=f"{question}: accuracy %, {seeds_label(len(results[0]['accuracies']))}")
    figure = Figure(figsize=(6, 4), layout="tight")
    axes = figure.subplots()
    for number, row in enumerate(rows):
        places = [place + 0.1 * (number - (len(rows) - 1) / 2) for place in range(len(columns))]
        cells = [found[row, column] for column in columns]
        table.add_row(row, *map(format_percent, cells))
        means, deviations = bars(cells)
        axes.errorbar(places, means, yerr=deviations, marker="o", capsize=3, label=row)
    axes.set_xticks(range(len(columns)), columns)
    axes.set(ylabel="accuracy %", title=question.replace("_", " "))
    if len(rows) > 1:
        axes.legend(frameon=False)
    axes.grid(alpha=0.3)
    with replacing(folder / f"{question}.png") as file:
        figure.savefig(file, format="png", dpi=150)
    Console().print(table)


def main() -> None:
    parser = ScriptParser((AblationArguments, PipelineArguments, DistillationTrainingArguments), description=__doc__)
    args, pipeline, training = parser.parse_args_into_dataclasses()
    set_verbosity(training)
    grid, results = Grid(args, pipeline, parsed_values(parser, DistillationTrainingArguments)), []
    for cell in cells_of(args):
        accuracies = grid.accuracies(cell)
        entry = {"row": cell.row, "column": cell.column} | mean_and_sd(accuracies)
        results.append(entry | {"accuracies": accuracies})
    content = {"conditions": conditions_of(args, pipeline, training), "cells": results}
    if args.question == "reduction":
        teacher = grid.measure(results)
        content |= {"teacher": teacher, "points": args.points}
        content["smallest"] = smallest_within(args.points, teacher, results)
    if training.should_save:
        show(args.question, results, grid.folder)
        if args.question == "reduction":
            say_reduction(args.points, content["teacher"], content["smallest"])
        atomic_write(grid.folder / f"{args.question}.json", json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    run_main(main, trains_several=True)

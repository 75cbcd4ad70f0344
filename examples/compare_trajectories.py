r"""Pro-KD (Rezagholizadeh et al. 2021) compared with its baselines at equal student steps: table, plots and JSON file.

    python examples/train_teacher.py --checkpoints 8 ... --output_dir outputs/teacher
    python examples/compare_trajectories.py --teacher_checkpoints outputs/teacher --dataset_name movie_reviews \
        --students 2/128 4/256 --steps 600 --output_dir outputs/trajectories

    fine_tuning      labels only                        rco              every checkpoint and labels, at τ = 1
    vanilla_kd       the last checkpoint and labels     pro_kd           every checkpoint, then labels
    annealing_kd     the last checkpoint, its logits    best_checkpoint  vanilla KD from each; the best is kept
                     scaled up to 1, then labels        takd             vanilla KD from an assistant, see --assistant

Every arm takes --steps optimizer steps of the student; annealing_kd and pro_kd train for --final_share of them on labels.
Each chooses its learning rate, best_checkpoint also its checkpoint, by validation accuracy with the first seed. Finished
runs are not repeated, interrupted ones are resumed. The data are those of run_glue.py. Accepts all
`ProgressiveTrainingArguments`. With --other_teachers, another plot shows students against the size of their teacher: the
capacity gap.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from accelerate import PartialState
from datasets import Dataset
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table
from run_glue import LABELS_ADVICE, DataTrainingArguments, Encoder, choose_columns, find_labels, load_raw, prepare
from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding, PreTrainedModel
from transformers.hf_argparser import HfArg
from transformers.trainer_utils import set_seed

from hf_distill import FrozenTeacher, ProgressiveTrainingArguments, create_student, label_with_trajectory
from hf_distill.data.class_names import label_names, positions
from hf_distill.distributed.weights import unsharded_loading
from hf_distill.evaluation.metrics import glue_metric
from hf_distill.files import atomic_write, replacing
from hf_distill.fingerprints import package_versions
from hf_distill.hardware import hardware_name
from hf_distill.pretrained.loading import SavedModel
from hf_distill.publishing.run_record import RunRecord
from hf_distill.scripts.arguments import ScriptParser
from hf_distill.scripts.models import TeacherArguments
from hf_distill.scripts.run import checkpoint_to_resume, make_trainer, parsed_values, run_on_main_process
from hf_distill.scripts.seeds import bars, format_percent, mean_and_sd, seeds_label
from hf_distill.scripts.user_errors import run_main
from hf_distill.scripts.verbosity import set_verbosity
from hf_distill.teachers.checkpoints import Checkpoint, find_checkpoints
from hf_distill.teachers.column_names import TEACHER_LOGITS, TEACHER_PROVENANCE, checkpoint_column, precomputed_columns

ARMS = ("fine_tuning", "vanilla_kd", "annealing_kd", "rco", "pro_kd", "best_checkpoint", "takd")
NO_STAGES = {"teacher_checkpoints": None, "final_stage_steps": -1, "final_stage_epochs": 0.0}


@dataclass
class ComparisonArguments:
    """The arms, the students, and the length of their training."""

    students: list[str] = field(
        default_factory=lambda: ["tiny", "mini"],
        metadata={"help": "Sizes of the students: names, or layers/hidden size."},
    )
    arms: list[str] = field(
        default_factory=lambda: list(ARMS), metadata={"help": f"Arms to compare, of {', '.join(ARMS)}."}
    )
    assistant: str | None = HfArg(
        default=None, help="Size of the teacher assistant of takd, between teacher and students."
    )
    initialization: str = HfArg(default="random", help="Initialization of the students; see create_student.")
    steps: int = HfArg(default=600, help="Optimizer steps of the student in every arm.")
    final_share: float = HfArg(default=1 / 3, help="Share of the steps that annealing_kd and pro_kd train on labels.")
    learning_rates: list[float] = field(
        default_factory=lambda: [5e-5, 1e-4, 3e-4], metadata={"help": "Learning rates to choose from."}
    )
    live_teachers: bool = HfArg(
        default=False,
        help="Run the teachers in every step, which terms other than soft labels need. False: precompute their outputs.",
    )
    seeds: list[int] = field(
        default_factory=lambda: [0, 1, 2],
        metadata={"help": "Random seeds, one run each; the first chooses learning rates."},
    )
    other_teachers: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Output folders of teachers of other sizes, trained on the same data. vanilla_kd and pro_kd are also run "
            "with each of them, which shows the capacity gap."
        },
    )

    def __post_init__(self) -> None:
        unknown = set(self.arms) - set(ARMS)
        if unknown:
            raise ValueError(f"arms must be of {list(ARMS)}, got {sorted(unknown)}")
        if "takd" in self.arms and not self.assistant:
            raise ValueError("the arm takd needs --assistant, such as 4/256; or name the other --arms")
        if self.steps < 1 or not 0 <= self.final_share < 1:
            raise ValueError(
                f"steps must be above 0 and final_share in [0, 1), got {self.steps} and {self.final_share}"
            )

    @property
    def final_steps(self) -> int:
        return round(self.steps * self.final_share)


@dataclass(frozen=True)
class Method:
    """A way to train a student: its training arguments, and the teacher if it is not `teacher_checkpoints`."""

    name: str
    arguments: dict[str, Any]
    teacher: Checkpoint | None = None


def whole_model(checkpoint: Checkpoint) -> PreTrainedModel:
    """The model of a checkpoint, with an adapter merged into its base; not sharded, also under ZeRO-3."""
    with unsharded_loading():
        return SavedModel.find(str(checkpoint.folder)).load(AutoModelForSequenceClassification)[0]


def load_splits(data: DataTrainingArguments, tokenizer: Any, teacher: PreTrainedModel) -> dict[str, Dataset]:
    """Model inputs with labels: train, validation, and test if its labels are public.

    Raises:
        ValueError: The data's classes are not the teacher's, or there are no labels.
    """
    raw = choose_columns(load_raw(TeacherArguments(), data), data, teacher.config)
    if "label" not in raw["train"].column_names:
        raise ValueError(
            f"a comparison needs labels, got only the columns {raw['train'].column_names}: {LABELS_ADVICE}"
        )
    own = label_names(teacher.config)
    names, ids = find_labels(raw, teacher.config, teacher.config)
    if positions(names, own) is None:
        raise ValueError(f"the classes of the data must be the teacher's, {own}, got {names or 'numbers'}")
    encode = Encoder(data, tokenizer, ids)
    splits = prepare(raw, "train", data, encode)
    splits["validation"] = next(iter(prepare(raw, "validation", data, encode).values()))
    if not data.task_name and "label" in getattr(raw.get("test"), "column_names", ()):
        splits["test"] = prepare({**raw, "validation": raw["test"]}, "validation", data, encode)["validation"]
    return splits


def with_one_answer(split: Dataset, index: int | None) -> Dataset:
    """The split with the teacher outputs of one checkpoint as the only ones, or with none."""
    recorded = precomputed_columns(split.column_names)
    wanted = {} if index is None else {checkpoint_column(index, of): of for of in (TEACHER_LOGITS, TEACHER_PROVENANCE)}
    return split.remove_columns([name for name in recorded if name not in wanted]).rename_columns(wanted)


class Comparison:
    """Trains students in every arm; `given` are fields of `ProgressiveTrainingArguments`, some of which arms change."""

    def __init__(self, args: ComparisonArguments, data: DataTrainingArguments, given: dict[str, Any]):
        self.args, self.given, self.folder = args, given, Path(given["output_dir"])
        folders = given["teacher_checkpoints"]
        if not folders:
            raise ValueError("--teacher_checkpoints must name the teacher's checkpoints, got none")
        self.checkpoints = find_checkpoints(folders[0] if len(folders) == 1 else folders)
        shortest = args.steps - args.final_steps
        if shortest < len(self.checkpoints):
            raise ValueError(f"{len(self.checkpoints)} checkpoints need as many steps before the final, got {shortest}")
        self.teacher = whole_model(self.checkpoints[-1])
        self.tokenizer = AutoTokenizer.from_pretrained(self.checkpoints[-1].folder, trust_remote_code=False)
        with PartialState().local_main_process_first():
            self.splits = load_splits(data, self.tokenizer, self.teacher)
        if not args.live_teachers:
            self.splits = {name: self._answered(split) for name, split in self.splits.items()}

    def _answered(self, split: Dataset) -> Dataset:
        """The split with the precomputed outputs of every checkpoint."""
        teachers = (FrozenTeacher(whole_model(checkpoint)) for checkpoint in self.checkpoints)
        collator = DataCollatorWithPadding(self.tokenizer)
        return label_with_trajectory(split, teachers, collator, cache_folder=self.folder / "teacher_answers")

    def _splits_for(self, method: Method) -> dict[str, Dataset]:
        """The splits with the precomputed outputs of the checkpoints that a method uses, if any."""
        followed = method.arguments.get("teacher_checkpoints")
        if self.args.live_teachers or followed == self.given["teacher_checkpoints"]:
            return self.splits
        teacher = self.checkpoints[-1] if followed else method.teacher
        index = self.checkpoints.index(teacher) if teacher in self.checkpoints else None
        return {name: with_one_answer(split, index) for name, split in self.splits.items()}

    def methods(self, arm: str) -> list[Method]:
        """The methods from which an arm chooses: one, or one per checkpoint."""
        args, last = self.args, self.checkpoints[-1]
        staged = {"max_steps": args.steps - args.final_steps, "final_stage_steps": args.final_steps, "recipe": None}
        if arm == "fine_tuning":
            labels_only = {"recipe": None, "soft_label_weight": 0.0, "hard_label_weight": 1.0}
            return [Method(arm, NO_STAGES | labels_only)]
        if arm == "annealing_kd":
            return [Method(arm, NO_STAGES | staged | {"teacher_checkpoints": [str(last.folder)]})]
        every = {"teacher_checkpoints": self.given["teacher_checkpoints"]}
        if arm == "pro_kd":
            return [Method(arm, NO_STAGES | staged | every)]
        if arm == "rco":
            at_one = {"recipe": "vanilla_kd", "general_stage_loss": "forward_kl", "max_temperature": 1}
            at_one["checkpoint_shares"] = "equal"
            return [Method(arm, NO_STAGES | every | at_one)]
        vanilla = NO_STAGES | {"recipe": "vanilla_kd"}
        if arm == "takd":
            method, rate = self.choose("vanilla_kd", args.assistant)
            assistant = self._folder(args.assistant, method, rate, args.seeds[0])
            return [Method(arm, vanilla, Checkpoint(assistant, args.steps))]
        taught = self.checkpoints if arm == "best_checkpoint" else [last]
        return [Method(f"kd_from_{checkpoint.step}", vanilla, checkpoint) for checkpoint in taught]

    def choose(self, arm: str, student: str) -> tuple[Method, float]:
        """Choose method and learning rate by validation accuracy with the first seed."""
        tried = [(method, rate) for method in self.methods(arm) for rate in self.args.learning_rates]
        return max(tried, key=lambda pair: self.run(student, *pair, self.args.seeds[0])["validation_accuracy"])

    def entry(self, arm: str, student: str) -> dict[str, Any]:
        """The results of an arm for a student."""
        args = self.args
        method, rate = self.choose(arm, student)
        runs = [self.run(student, method, rate, seed) for seed in args.seeds]
        accuracies = [run["accuracy"] for run in runs]
        extra = {"best_checkpoint": args.steps * (len(self.checkpoints) - 1), "takd": args.steps}
        return {
            "arm": arm,
            "student": student,
            "learning_rate": rate,
            "checkpoint": method.teacher.step if method.teacher and arm != "takd" else None,
            **mean_and_sd(accuracies),
            "accuracies": accuracies,
            "steps": runs[0]["steps"],
            "extra_steps": extra.get(arm, 0),
        }

    def conditions(self, training: ProgressiveTrainingArguments) -> dict[str, Any]:
        """The settings that all arms share."""
        return {
            "initialization": self.args.initialization,
            "learning_rates": self.args.learning_rates,
            "student_steps": self.args.steps,
            "steps_on_labels": self.args.final_steps,
            "batch_size": self.given["per_device_train_batch_size"],
            "processes": training.world_size,
            "seeds": self.args.seeds,
            "train_examples": len(self.splits["train"]),
            "teacher_checkpoints": [checkpoint.step for checkpoint in self.checkpoints],
            "hardware": hardware_name(training.device),
            "versions": package_versions(),
        }

    def search(self, student: str) -> list[dict[str, Any]]:
        """Accuracy of a student distilled from each checkpoint, with the first seed and its best learning rate."""
        first, found = self.args.seeds[0], []
        for method in self.methods("best_checkpoint"):
            runs = [self.run(student, method, rate, first) for rate in self.args.learning_rates]
            best = max(runs, key=lambda run: run["validation_accuracy"])
            found.append({"student": student, "checkpoint": method.teacher.step} | best)
        return found

    def _folder(self, student: str, method: Method, rate: float, seed: int) -> Path:
        return self.folder / f"{student}_{method.name}_{rate:g}_{seed}".replace("/", "-")

    def run(self, student: str, method: Method, rate: float, seed: int) -> dict[str, Any]:
        """Results of a run, which is trained unless it is finished; a run with other settings is refused."""
        folder = self._folder(student, method, rate, seed)
        result = folder / "result.json"
        teacher = method.teacher and str(method.teacher.folder)
        settings = {"max_steps": self.args.steps, "initialization": self.args.initialization, "teacher": teacher}
        settings |= method.arguments
        if not run_on_main_process(result.exists):
            metrics = self._train(student, method, folder, {"learning_rate": rate, "seed": seed})
            run_on_main_process(lambda: atomic_write(result, json.dumps(metrics | {"settings": settings}) + "\n"))
        found = run_on_main_process(lambda: json.loads(result.read_text()))
        was = found.pop("settings")
        if was != settings:
            raise ValueError(f"{folder} holds a run with {was}, not with {settings}; take another --output_dir")
        return found

    def _train(self, student: str, method: Method, folder: Path, changes: dict[str, Any]) -> dict[str, Any]:
        changes |= {"max_steps": self.args.steps, "output_dir": str(folder), "do_train": True}
        splits = self._splits_for(method)
        changes["keep_better_stage"] = "test" in splits  # what is reported must not choose
        training = ProgressiveTrainingArguments(**(self.given | changes | method.arguments))
        set_seed(training.seed)
        trainer = make_trainer(
            create_student(student, self.teacher, self.args.initialization),
            training,
            whole_model(method.teacher) if method.teacher else None,
            train_dataset=splits["train"],
            eval_dataset=splits["validation"],
            data_collator=DataCollatorWithPadding(self.tokenizer),
            processing_class=self.tokenizer,
            compute_metrics=glue_metric(None),
        )
        trainer.train(resume_from_checkpoint=run_on_main_process(lambda: checkpoint_to_resume(training)))
        found = {"validation_accuracy": trainer.evaluate()["eval_accuracy"]}
        reported = trainer.evaluate(splits["test"])["eval_accuracy"] if "test" in splits else None
        trainer.save_model()
        steps = run_on_main_process(lambda: close(folder))
        return found | {"accuracy": found["validation_accuracy"] if reported is None else reported, "steps": steps}


def close(folder: Path) -> int:
    """Remove the checkpoints of a finished run; returns the steps it took."""
    for checkpoint in folder.rglob("checkpoint-*"):
        shutil.rmtree(checkpoint)
    record = RunRecord.load(folder)
    return sum(stage["training"]["steps"] for stage in record.stages) or record.training["steps"]


def across_teachers(comparison: Comparison, data: DataTrainingArguments) -> list[dict[str, Any]]:
    """Results of the students of every teacher, the smallest teacher first."""
    args, given = comparison.args, comparison.given
    comparisons = [comparison]
    for folder in args.other_teachers:
        own = {"teacher_checkpoints": [folder], "output_dir": str(comparison.folder / f"by_{Path(folder).name}")}
        comparisons.append(Comparison(args, data, given | own))
    found = [
        {"teacher_parameters": each.teacher.num_parameters(exclude_embeddings=True)} | each.entry(arm, student)
        for each in comparisons
        for arm in ("vanilla_kd", "pro_kd")
        for student in args.students
    ]
    return sorted(found, key=lambda entry: entry["teacher_parameters"])


def cost_of(entry: dict[str, Any]) -> str:
    """The optimizer steps of a student, and those of other models that it needed."""
    reason = {"best_checkpoint": "searching", "takd": "of the assistant"}.get(entry["arm"], "")
    return f"{entry['steps']}" + (f" + {entry['extra_steps']} {reason}" if reason else "")


def show(results: dict[str, list[dict[str, Any]]], split: str, folder: Path) -> None:
    """Print the table; save plots and numbers."""
    entries = {(entry["arm"], entry["student"]): entry for entry in results["arms"]}
    arms, students = (list(dict.fromkeys(key[position] for key in entries)) for position in (0, 1))
    seeds = len(results["arms"][0]["accuracies"])
    table = Table("", *students, "steps", title=f"accuracy % on {split}, {seeds_label(seeds)}")
    figure = Figure(figsize=(7, 4), layout="tight")
    axes = figure.subplots()
    for number, arm in enumerate(arms):
        found = [entries[arm, student] for student in students]
        means, deviations = bars(found)
        table.add_row(arm, *map(format_percent, found), cost_of(entries[arm, students[0]]))
        places = [position + 0.8 * ((number + 0.5) / len(arms) - 0.5) for position in range(len(students))]
        axes.errorbar(places, means, yerr=deviations, fmt="o", capsize=3, label=arm)
    axes.set_xticks(range(len(students)), students)
    axes.set(ylabel=f"accuracy % on {split}", xlabel="student")
    axes.legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    axes.grid(alpha=0.3)
    with replacing(folder / "arms.png") as file:
        figure.savefig(file, format="png", dpi=150)
    atomic_write(folder / "results.json", json.dumps(results, indent=2) + "\n")
    Console().print(table)


def plot_search(found: list[dict[str, Any]], split: str, path: Path) -> None:
    """Plot the accuracy of students against the checkpoint from which they were distilled."""
    figure = Figure(figsize=(6, 4), layout="tight")
    axes = figure.subplots()
    for student in dict.fromkeys(run["student"] for run in found):
        runs = [run for run in found if run["student"] == student]
        axes.plot([run["checkpoint"] for run in runs], [100 * run["accuracy"] for run in runs], "o-", label=student)
    axes.set(xlabel="teacher's step", ylabel=f"student's accuracy % on {split}")
    axes.legend(frameon=False)
    axes.grid(alpha=0.3)
    with replacing(path) as file:
        figure.savefig(file, format="png", dpi=150)


def plot_capacity(found: list[dict[str, Any]], split: str, path: Path) -> None:
    """Plot the accuracy of students against the size of their teacher."""
    figure = Figure(figsize=(6, 4), layout="tight")
    axes = figure.subplots()
    for arm, student in dict.fromkeys((entry["arm"], entry["student"]) for entry in found):
        entries = [entry for entry in found if (entry["arm"], entry["student"]) == (arm, student)]
        sizes = [entry["teacher_parameters"] / 1e6 for entry in entries]
        means, deviations = bars(entries)
        style = "o-" if arm == "pro_kd" else "s--"
        axes.errorbar(sizes, means, yerr=deviations, fmt=style, capsize=3, label=f"{student} {arm}")
    axes.set(xlabel="teacher's parameters without embeddings, millions", ylabel=f"student's accuracy % on {split}")
    axes.set_xscale("log")
    axes.legend(frameon=False)
    axes.grid(alpha=0.3)
    with replacing(path) as file:
        figure.savefig(file, format="png", dpi=150)


def main() -> None:
    parser = ScriptParser(
        (ComparisonArguments, DataTrainingArguments, ProgressiveTrainingArguments), description=__doc__
    )
    args, data, training = parser.parse_args_into_dataclasses()
    set_verbosity(training)
    comparison = Comparison(args, data, parsed_values(parser, ProgressiveTrainingArguments))
    split = "test" if "test" in comparison.splits else "validation"
    results = {"conditions": comparison.conditions(training)}
    results["arms"] = [comparison.entry(arm, student) for arm in args.arms for student in args.students]
    if "best_checkpoint" in args.arms:
        results["checkpoints"] = [run for student in args.students for run in comparison.search(student)]
    if args.other_teachers:
        results["teachers"] = across_teachers(comparison, data)
    if training.should_save:
        plots = {"checkpoints": (plot_search, "checkpoints.png"), "teachers": (plot_capacity, "capacity_gap.png")}
        for part in plots.keys() & results.keys():
            plot, name = plots[part]
            plot(results[part], split, comparison.folder / name)
        show(results, split, comparison.folder)


if __name__ == "__main__":
    run_main(main, trains_several=True)

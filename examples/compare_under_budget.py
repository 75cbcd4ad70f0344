r"""Compare training methods under one compute budget: the same student, data and cost, with and without a teacher.

    python examples/compare_under_budget.py --teacher_model_name_or_path bert-base-uncased --student 4/256 \
        --dataset_name movie_reviews --max_flops 1e16 --output_dir outputs/budget

The arms:

    no_kd         labels alone; masked language modeling if the stage is masked_lm
    vanilla_kd, tinybert, minilmv2, or any recipe
    untrained     fine-tuning alone, without the stage: the baseline of all others
    pd            masked language modeling for a share of the budget, then soft labels (teacher: a classifier)
    pro_kd        distillation along --teacher_checkpoints
    homodistil    a copy of the teacher that is pruned

The teacher's FLOPs are charged to the same budget (--max_flops, or --max_seconds), and learning rates follow the budget.
The stage is masked_lm, on a corpus, or classification, on the task itself. Fine-tuning follows, equally long for all and
outside of the budget. Regimes: unlimited (the whole corpus, meant to be read once) and limited (a fraction, repeated).

After Bui et al. 2024, arXiv 2404.19319. The training of each arm is in budget_arms.py. Every cell (regime, arm, learning
rate, seed) has a folder; finished cells are not repeated. Results: results.json, a plot of quality over cost, a table,
and a verdict. Accepts the arguments of all trainers.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import shutil
import statistics
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import PartialState
from budget_arms import (
    CLASSIFICATION,
    KINDS,
    LIMITS,
    MASKED_LM,
    NO_KD,
    PD,
    PRO_KD,
    TARGETS,
    UNTRAINED,
    arm_of,
    training_arguments,
)
from datasets import Dataset
from matplotlib.figure import Figure  # a figure without pyplot needs no display and keeps no state
from pretrained_distillation import (
    LABELS_ONLY,
    load_classifier,
    load_labeled,
)
from rich.console import Console
from rich.table import Table
from transformers import AutoTokenizer, DataCollatorWithPadding
from transformers.hf_argparser import HfArg
from transformers.trainer_utils import set_seed

from hf_distill import DistillationTrainer
from hf_distill.data.class_names import ClassIds
from hf_distill.data.corpus import column_of_texts, packed, without_texts_of
from hf_distill.data.sequences import encode_label, label_values
from hf_distill.files import atomic_write, replacing
from hf_distill.fingerprints import package_versions
from hf_distill.hardware import hardware_name
from hf_distill.objectives.reduction import IGNORE_INDEX
from hf_distill.recipes import RECIPES
from hf_distill.resources.built_in import ALL_DOMAINS, TEXTS, UNLABELED_TEXTS
from hf_distill.scripts.arguments import ScriptParser
from hf_distill.scripts.datasets import load_unlabeled_rows
from hf_distill.scripts.run import ScriptTrainingArguments, first_rows, parsed_values, run_on_main_process
from hf_distill.scripts.seeds import bars, format_percent, mean_and_sd, seeds_label
from hf_distill.scripts.user_errors import run_main
from hf_distill.scripts.verbosity import set_verbosity

logger = logging.getLogger("transformers.compare_under_budget")

REGIMES = ("unlimited", "limited")
BUDGET = (*LIMITS, "teacher_labeling_flops")
NO_BUDGET = dict.fromkeys((*BUDGET, "teacher_labeling_seconds"))
RESAMPLES = 9999
# Arguments that make other cells, not another one.
NOT_OF_A_CELL = ("arms", "regimes", "learning_rates", "seeds", "pretraining_share")


@dataclass
class ComparisonArguments:
    """The arms to compare, their student and teacher, and the data."""

    teacher_model_name_or_path: str = HfArg(
        help="Teacher of the stage: a masked language model, or a classifier of the task."
    )
    student: str = HfArg(
        default="mini", help="Size: a name, or layers/hidden size such as 4/256; its weights are random."
    )
    stage: str = HfArg(default=MASKED_LM, help=f"Stage under the budget: {MASKED_LM} or {CLASSIFICATION}.")
    arms: list[str] = field(
        default_factory=lambda: [NO_KD, "vanilla_kd", "tinybert", "minilmv2"],
        metadata={
            "help": f"Arms to compare: {', '.join([NO_KD, 'tinybert', *KINDS])}, or names of recipes (hf-distill recipes)."
        },
    )
    regimes: list[str] = field(
        default_factory=lambda: list(REGIMES), metadata={"help": f"Regimes to compare: {' and '.join(REGIMES)}."}
    )
    limited_fraction: float = HfArg(default=0.1, help="Share of the data in the limited regime, above 0 to 1.")
    corpus: str | None = HfArg(
        default=None,
        help=f"Text for {MASKED_LM} and {PD}: a file, folder or dataset, or built-in {', '.join(UNLABELED_TEXTS)}. "
        f"None: {ALL_DOMAINS}.",
    )
    dataset_name: str | None = HfArg(default=None, help=f"Data of the task: a dataset, or built-in {', '.join(TEXTS)}.")
    train_file: str | None = HfArg(
        default=None, help="In place of --dataset_name: .csv or .json with the columns text and label."
    )
    validation_file: str | None = HfArg(default=None, help="Validation data, which decide on learning rates.")
    test_file: str | None = HfArg(
        default=None, help="Test data, whose results are reported. None: the validation data."
    )
    max_seq_length: int = HfArg(
        default=128, help="Maximum tokens of a text, and tokens of the sequences cut from the corpus."
    )
    points: int = HfArg(default=4, help="Number of measurements of quality, after equal parts of the budget.")
    learning_rates: list[float] = field(
        default_factory=lambda: [1e-3, 5e-4],
        metadata={"help": "Learning rates to choose from, by validation with the first seed, for each arm."},
    )
    fine_tuning_steps: int = HfArg(default=500, help="Optimizer steps on labels after the stage. 0: none.")
    fine_tuning_learning_rate: float = HfArg(default=2e-4, help="Peak learning rate of fine-tuning.")
    seeds: list[int] = field(
        default_factory=lambda: [0, 1, 2], metadata={"help": "Random seeds; every arm is run once per seed."}
    )
    pretraining_share: float = HfArg(
        default=0.5, help=f"Share of the budget of {PD} for masked language modeling, above 0 and below 1."
    )

    def __post_init__(self) -> None:
        for name, allowed in (("stage", (MASKED_LM, CLASSIFICATION)), ("regimes", REGIMES)):
            given = getattr(self, name)
            if not {*([given] if isinstance(given, str) else given)} <= set(allowed):
                raise ValueError(f"{name} must be of {list(allowed)}, got {given!r}")
        known = [NO_KD, UNTRAINED, "tinybert", PD, PRO_KD, *RECIPES]
        unknown = set(self.arms) - set(known)
        if unknown:
            raise ValueError(f"arms must be of {known}, got {sorted(unknown)}")
        if not 0 < self.pretraining_share < 1:
            raise ValueError(f"pretraining_share must be above 0 and below 1, got {self.pretraining_share}")
        if not 0 < self.limited_fraction <= 1:
            raise ValueError(f"limited_fraction must be above 0 and at most 1, got {self.limited_fraction}")
        if self.points < 1 or self.fine_tuning_steps < 0:
            raise ValueError(
                f"points must be at least 1 and fine_tuning_steps 0, got {self.points}, {self.fine_tuning_steps}"
            )
        if not (self.dataset_name or self.train_file):
            raise ValueError("the task must come from dataset_name or train_file, got none of them")


class Comparison:
    """Trains the student in every arm; `given` are fields of `ScriptTrainingArguments`, some of which arms change.

    Attributes:
        arms: The arms, by name.
        splits: The task's rows with labels, as model inputs, by split.
        data: The training data of the stage, by regime.
    """

    def __init__(self, args: ComparisonArguments, given: dict[str, Any]):
        self.args, self.given, self.folder = args, given, Path(given["output_dir"])
        self._require_one_budget()
        self.tokenizer = AutoTokenizer.from_pretrained(args.teacher_model_name_or_path, trust_remote_code=False)
        raw = load_labeled(args)
        self.names = class_names(raw["train"])
        self.labels = {"id2label": dict(enumerate(self.names)), "label2id": {n: i for i, n in enumerate(self.names)}}
        self.arms = {name: arm_of(name, self) for name in args.arms}
        for arm in self.arms.values():
            arm.check()
        with PartialState().local_main_process_first():
            self.splits = {split: self._encoded(rows) for split, rows in raw.items()}
        self.reported = "test" if "test" in raw else "validation"
        self._evaluated = [text for split in ("validation", "test") if split in raw for text in raw[split]["text"]]
        with PartialState().local_main_process_first():
            texts = self._texts if args.stage == MASKED_LM or PD in args.arms else None  # refused before any training
            whole = self._sequences(texts) if args.stage == MASKED_LM else self.splits["train"]
        self.data = {regime: self._part(whole, regime) for regime in args.regimes}

    def _require_one_budget(self) -> None:
        given = self.given
        if (given["max_flops"] is None) == (given["max_seconds"] is None):
            raise ValueError("a comparison has one budget, --max_flops or --max_seconds; got both or none")
        if given["max_steps"] > 0:
            raise ValueError(f"the budget ends every arm, so max_steps must be -1, got {given['max_steps']}")
        sizes = {name: given[name] for name in TARGETS if given[name] is not None}
        if sizes:
            raise ValueError(
                f"--student says what size a student shrinks to, so {', '.join(TARGETS)} must be None, got {sizes}"
            )
        self.limit = "flops" if given["max_flops"] is not None else "seconds"

    def _encoded(self, rows: Dataset) -> Dataset:
        value_of, ids = label_values(rows.features["label"]), ClassIds.of(self.names)
        tokenizer, length = self.tokenizer, self.args.max_seq_length  # all that map has to hash

        def encode(batch: dict[str, list]) -> dict[str, list]:
            inputs = dict(tokenizer(batch["text"], truncation=True, max_length=length))
            return inputs | {"labels": [encode_label(value_of(label), ids) for label in batch["label"]]}

        return rows.map(encode, batched=True, remove_columns=rows.column_names, desc="Tokenizing")

    def _part(self, whole: Dataset, regime: str) -> Dataset:
        """The part of the shuffled rows that belongs to a regime."""
        whole = whole.shuffle(seed=0)
        few = max(1, round(self.args.limited_fraction * len(whole)))
        return first_rows(whole, {"unlimited": None, "limited": few}[regime])

    @cached_property
    def _texts(self) -> Dataset:
        """The corpus without evaluation texts."""
        texts = load_unlabeled_rows(self.args.corpus or ALL_DOMAINS)
        column = column_of_texts(texts, ids=ClassIds.of(self.names))
        logger.warning(f"Texts of the corpus are read from the column {column}")
        return without_texts_of(texts.select_columns([column]).rename_columns({column: "text"}), self._evaluated)[0]

    def _sequences(self, texts: Dataset) -> Dataset:
        return packed(texts, self.tokenizer, self.args.max_seq_length)

    @cached_property
    def unlabeled(self) -> dict[str, tuple[Dataset, Dataset]]:
        """For each regime, the corpus in sequences of equal length, and its single texts."""
        tokenizer, length = self.tokenizer, self.args.max_seq_length

        def encode(batch: dict[str, list]) -> dict[str, list]:
            return dict(tokenizer(batch["text"], truncation=True, max_length=length))

        with PartialState().local_main_process_first():
            sequences = self._sequences(self._texts)
            filled = self._texts.filter(lambda text: bool(text and not text.isspace()), input_columns="text")
            texts = filled.map(encode, batched=True, remove_columns=filled.column_names, desc="Tokenizing")
        return {regime: (self._part(sequences, regime), self._part(texts, regime)) for regime in self.args.regimes}

    def entry(self, regime: str, arm: str) -> dict[str, Any]:
        """The results of an arm."""
        first, rates = self.args.seeds[0], self.arms[arm].learning_rates
        tried = {rate: self.run(regime, arm, rate, first)["validation_accuracy"] for rate in rates}
        rate = max(tried, key=tried.get)
        runs = [self.run(regime, arm, rate, seed) for seed in self.args.seeds]
        points = [[run["points"][index] for run in runs] for index in range(len(runs[0]["points"]))]
        curve = [
            {name: statistics.mean(point[name] for point in same) for name in ("flops", "seconds", "tokens")}
            | mean_and_sd([point["accuracy"] for point in same])
            for same in points
        ]
        return {
            "regime": regime,
            "arm": arm,
            "learning_rate": rate,
            "remarks": runs[0]["remarks"],
            "accuracies": [run["accuracy"] for run in runs],
            "readings": curve[-1]["tokens"] / self.arms[arm].tokens(regime),
            "spent": [run["points"][-1] for run in runs],
            "curve": curve,
            "correct": [run["correct"] for run in runs],
        } | mean_and_sd([run["accuracy"] for run in runs])

    def run(self, regime: str, arm: str, rate: float, seed: int) -> dict[str, Any]:
        """Results of a cell, which is run unless it is finished; a cell with other settings is refused."""
        folder = self.folder / f"{self.args.student}_{regime}_{arm}_{rate:g}_{seed}".replace("/", "-")
        settings, result = self._settings(arm), folder / "result.json"
        if not run_on_main_process(result.exists):
            stage = folder / "stage"
            remarks = self.arms[arm].train(regime, {"learning_rate": rate, "seed": seed, "output_dir": str(stage)})
            points = [self._judged(stage / f"point-{i + 1}", regime, seed) for i in range(self.arms[arm].points)]
            last = points[-1]
            content = {"points": [{k: v for k, v in point.items() if k != "correct"} for point in points]} | {
                name: last[name] for name in ("accuracy", "validation_accuracy", "correct")
            }
            content |= {"remarks": remarks, "settings": settings}
            run_on_main_process(lambda: (atomic_write(result, json.dumps(content) + "\n"), shutil.rmtree(stage)))
        found = run_on_main_process(lambda: json.loads(result.read_text()))
        was = found.pop("settings")
        if was != settings:
            raise ValueError(f"{folder} holds a cell with {was}, not with {settings}; take another --output_dir")
        return found

    def _settings(self, arm: str) -> dict[str, Any]:
        """Settings that identify an arm's cell, without arguments that only other arms use or that were added later."""
        settings = dataclasses.asdict(self.args) | {name: self.given[name] for name in BUDGET}
        for name in NOT_OF_A_CELL:
            del settings[name]
        charged = {name: self.given[name] for name in NO_BUDGET if self.given[name] is not None}
        return settings | charged | self.arms[arm].settings

    def _judged(self, folder: Path, regime: str, seed: int) -> dict[str, Any]:
        """The cost of a student, and its quality after fine-tuning."""
        if not run_on_main_process(folder.exists):
            raise ValueError(f"the budget is too small: a single step took more than 1/{self.args.points} of it")
        set_seed(seed)  # the new head's weights
        student = load_classifier(folder, **self.labels)
        own = {"recipe": None, "max_steps": self.args.fine_tuning_steps or -1, "output_dir": str(folder), "seed": seed}
        own |= {"learning_rate": self.args.fine_tuning_learning_rate, "save_strategy": "no"}
        trainer = DistillationTrainer(
            student,
            training_arguments(self.given, NO_BUDGET | LABELS_ONLY | own),
            DataCollatorWithPadding(self.tokenizer),
            train_dataset=self.splits["train"] if self.args.stage == MASKED_LM else self.data[regime],
            processing_class=self.tokenizer,
        )
        if self.args.fine_tuning_steps:
            trainer.train()
        found = {split: is_right(trainer.predict(self.splits[split])) for split in {"validation", self.reported}}
        return run_on_main_process(lambda: json.loads((folder / "spent.json").read_text())) | {
            "accuracy": statistics.mean(found[self.reported]),
            "validation_accuracy": statistics.mean(found["validation"]),
            "correct": found[self.reported],
        }


def class_names(rows: Dataset) -> list[str]:
    """Class names of the column label, in the order of their indices."""
    found = set(rows["label"]) - {None}
    return getattr(rows.features["label"], "names", None) or sorted(map(str, found))


def is_right(output: Any) -> list[int]:
    """1 for every correctly predicted example, else 0; for examples with a label."""
    is_counted = output.label_ids != IGNORE_INDEX
    return (output.predictions.argmax(axis=-1) == output.label_ids)[is_counted].astype(int).tolist()


def difference(ours: list[list[int]], theirs: list[list[int]]) -> tuple[float, float, float]:
    """Difference in accuracy, and its 95 % interval over examples and seeds.

    A bootstrap that draws rows and columns (the pigeonhole bootstrap, Owen 2007, arXiv 0712.1111); both are paired.

    Args:
        ours: For each seed, 1 for every correctly predicted example, else 0.
        theirs: The same of the other arm, for the same seeds and examples.
    """
    gaps, rng = np.array(ours) - np.array(theirs), np.random.default_rng(0)
    drawn = [gaps[np.ix_(*(rng.integers(n, size=n) for n in gaps.shape))].mean() for _ in range(RESAMPLES)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return gaps.mean(), low, high


def verdict(entries: list[dict[str, Any]], limit: str) -> list[str]:
    """Sentences that compare each arm with training without a teacher, and with fine-tuning alone."""
    said = []
    for regime in dict.fromkeys(entry["regime"] for entry in entries):
        arms = {entry["arm"]: entry for entry in entries if entry["regime"] == regime}
        costs = [spent[limit] for arm, entry in arms.items() if arm != UNTRAINED for spent in entry["spent"]]
        apart = 100 * (max(costs) / min(costs) - 1)
        said.append(f"{regime}: {min(costs):.4g} to {max(costs):.4g} {limit}, {apart:.2f} % apart")
        if apart > (1 if limit == "flops" else 2):
            said.append(
                "  a single step takes too much of this budget for it to be equal: take a larger one, or smaller batches"
            )
        again = {arm: f"{entry['readings']:.1f}" for arm, entry in arms.items() if entry["readings"] > 1}
        if regime == "unlimited" and again:
            said.append(f"  not unlimited: the data were too few to be read once, but were read {again} times")
        for baseline in (each for each in (NO_KD, UNTRAINED) if each in arms):
            for arm, entry in arms.items():
                if arm in (NO_KD, baseline):
                    continue
                gap, low, high = (100 * value for value in difference(entry["correct"], arms[baseline]["correct"]))
                meaning = "better than" if low > 0 else "worse than" if high < 0 else "not shown to differ from"
                said.append(
                    f"  {arm} is {meaning} {baseline}: {gap:+.1f} points, 95 % interval {low:+.1f} to {high:+.1f}"
                )
    said.append(
        "Intervals are over test examples and seeds (paired bootstrap of both); few seeds make them wide. sd is over seeds."
    )
    return said


def show(entries: list[dict[str, Any]], limit: str, split: str, plot: Path) -> None:
    """Print the table and save the curves."""
    regimes = list(dict.fromkeys(entry["regime"] for entry in entries))
    seeds = len(entries[0]["accuracies"])
    title = f"accuracy % on {split}, {seeds_label(seeds)}"
    table = Table("regime", "arm", "accuracy", "learning rate", limit, "readings", title=title)
    figure = Figure(figsize=(5 * len(regimes), 4), layout="tight")
    axes = dict(zip(regimes, figure.subplots(1, len(regimes), sharey=True, squeeze=False)[0], strict=True))
    for entry in entries:
        spent = statistics.mean(each[limit] for each in entry["spent"])
        numbers = (f"{entry['learning_rate']:g}", f"{spent:.3g}", f"{entry['readings']:.2f}")
        table.add_row(entry["regime"], entry["arm"], format_percent(entry), *numbers)
        x, (means, deviations) = [point[limit] for point in entry["curve"]], bars(entry["curve"])
        axes[entry["regime"]].errorbar(x, means, yerr=deviations, marker="o", capsize=3, label=entry["arm"])
    for regime, panel in axes.items():
        panel.set(title=regime, xlabel=f"{limit} spent, teacher included", ylabel=f"accuracy % on {split}")
        panel.grid(alpha=0.3)
    axes[regimes[0]].legend(frameon=False)
    with replacing(plot) as file:
        figure.savefig(file, format="png", dpi=150)
    Console().print(table)


def main() -> None:
    parser = ScriptParser((ComparisonArguments, ScriptTrainingArguments), description=__doc__)
    args, training = parser.parse_args_into_dataclasses()
    set_verbosity(training)
    comparison = Comparison(args, parsed_values(parser, ScriptTrainingArguments))
    entries = [comparison.entry(regime, arm) for regime in args.regimes for arm in args.arms]
    said = verdict(entries, comparison.limit)
    conditions = dataclasses.asdict(args) | {
        "max_flops": training.max_flops,
        "max_seconds": training.max_seconds,
        "batch_size": training.per_device_train_batch_size,
        "processes": training.world_size,
        "hardware": hardware_name(training.device),
        "versions": package_versions(),
    }
    results = {"conditions": conditions, "arms": [{k: v for k, v in e.items() if k != "correct"} for e in entries]}
    if training.should_save:
        atomic_write(comparison.folder / "results.json", json.dumps(results | {"verdict": said}, indent=2) + "\n")
        show(entries, comparison.limit, comparison.reported, comparison.folder / "quality_over_budget.png")
        print(
            "\n".join([*said, *dict.fromkeys(f"Note: {remark}." for entry in entries for remark in entry["remarks"])])
        )


if __name__ == "__main__":
    run_main(main, trains_several=True)

"""The gain per augmented text on movie reviews: python benchmarks/quality_augmentation.py

A teacher (all-MiniLM-L6-v2) is fine-tuned on a few labeled reviews, and labels the transfer set: the texts of these
reviews alone (`original`), or 1 or 4 new texts for each of them too, made by one method of `augment_transfer_set`. As an
upper reference, `real` adds as many unlabeled reviews instead. Students (2/128 with the teacher's embeddings) are
distilled from the same first weights for equally many steps, and for longer. Words are masked and filled by
all-MiniLM-L6-v2 with a head trained on the unlabeled texts of four domains. A cell that is done is not run again.
"""

from __future__ import annotations

import argparse
import json
import statistics
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import datasets
import torch
import transformers
from quality_movie_reviews import arguments, tokenized
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    DataCollatorWithPadding,
    PreTrainedModel,
)
from transformers.trainer_utils import set_seed

from hf_distill import DistillationTrainer, FrozenTeacher, augment_transfer_set, create_student, label_transfer_set
from hf_distill.data.augmentation_methods import AugmentationMethod
from hf_distill.data.corpus import packed
from hf_distill.evaluation.metrics import glue_metric
from hf_distill.files import atomic_write
from hf_distill.fingerprints import package_versions
from hf_distill.hardware import hardware_name
from hf_distill.resources.minilm import minilm_path
from hf_distill.resources.sentiment import LABELS, load_sentiment, load_transfer_set

RESULTS = Path(__file__).with_name("results") / "augmentation_reviews.json"
STUDENT = ("2/128", "embeddings")
ORIGINAL, REAL = "original", "real"
KINDS = (*(method.value for method in AugmentationMethod), REAL)
COPIES = (1, 4)
EVALUATION = ("validation", "test")
NAMES = dict(enumerate(LABELS))


@dataclass
class Experiment:
    """Everything a cell needs; the models are trained unless they are in the folder."""

    options: argparse.Namespace

    def __post_init__(self) -> None:
        self.folder: Path = self.options.folder
        self.tokenizer = AutoTokenizer.from_pretrained(minilm_path())
        self.reviews = load_sentiment()
        self.labeled = self.reviews["train"].select(range(self.options.texts))

    @cached_property
    def teacher(self) -> PreTrainedModel:
        """A classifier fine-tuned on the labeled reviews."""
        folder = self.folder / "teacher"
        if not (folder / "config.json").exists():
            set_seed(0)
            model = AutoModelForSequenceClassification.from_pretrained(
                minilm_path(), id2label=NAMES, label2id={label: index for index, label in NAMES.items()}
            )
            trainer = DistillationTrainer(
                model, arguments(folder, self.options.teacher_steps, 5e-5, seed=0),
                train_dataset=tokenized(self.labeled, self.tokenizer), processing_class=self.tokenizer,
            )  # fmt: skip
            trainer.train()
            trainer.save_model(folder)
        return AutoModelForSequenceClassification.from_pretrained(folder)

    @cached_property
    def splits(self) -> dict[str, datasets.Dataset]:
        """Validation and test split with the teacher's outputs, which are computed once for all students."""
        return {name: self.with_outputs(self.reviews[name]) for name in EVALUATION}

    def with_outputs(self, texts: datasets.Dataset) -> datasets.Dataset:
        """Texts as model inputs with the teacher's outputs."""
        return label_transfer_set(
            tokenized(texts, self.tokenizer), FrozenTeacher(self.teacher), DataCollatorWithPadding(self.tokenizer),
            cache_folder=self.folder / "labeled", disable_tqdm=True,
        )  # fmt: skip

    @cached_property
    def masked_lm(self) -> PreTrainedModel:
        """A masked-language model of the unlabeled texts."""
        folder = self.folder / "masked_lm"
        if not (folder / "config.json").exists():
            set_seed(0)
            trainer = DistillationTrainer(
                AutoModelForMaskedLM.from_pretrained(minilm_path()),
                arguments(folder, self.options.masked_lm_steps, 3e-4, seed=0),
                DataCollatorForLanguageModeling(self.tokenizer),
                train_dataset=packed(load_transfer_set(), self.tokenizer, 64), processing_class=self.tokenizer,
            )  # fmt: skip
            trainer.train()
            trainer.save_model(folder)
        return AutoModelForMaskedLM.from_pretrained(folder)

    def texts(self, kind: str, copies: int) -> datasets.Dataset:
        """A transfer set without labels: original texts, and new ones of a kind."""
        if kind == ORIGINAL:
            return self.labeled.select_columns("text")
        if kind == REAL:
            rows = min(self.options.texts * (1 + copies), len(self.reviews["train"]))
            return self.reviews["train"].select(range(rows)).select_columns("text")
        model = self.masked_lm if kind == AugmentationMethod.MASK_FILL.value else self.teacher
        return augment_transfer_set(
            self.labeled, copies, {kind: 1.0}, model, self.tokenizer, [self.reviews[name] for name in EVALUATION],
            output_dir=self.folder / f"texts_{kind}_{copies}", disable_tqdm=True,
        )  # fmt: skip

    def cell(self, kind: str, copies: int, steps: int, seed: int) -> dict[str, Any]:
        """Metrics of one student; kept, and read when there already."""
        path = self.folder / f"{kind}_{copies}_{steps}_{seed}.json"
        if not path.exists():
            labeled = self.with_outputs(self.texts(kind, copies))
            measured = {"texts": len(labeled)} | self.distilled(labeled, steps, seed)
            print(f"{kind} {copies} steps={steps} seed={seed}: {measured}", flush=True)
            atomic_write(path, json.dumps(measured))
        return json.loads(path.read_text())

    def distilled(self, transfer_set: datasets.Dataset, steps: int, seed: int) -> dict[str, float]:
        """Metrics of a student distilled on a labeled transfer set."""
        set_seed(seed)
        trainer = DistillationTrainer(
            create_student(STUDENT[0], self.teacher, STUDENT[1]),
            arguments(self.folder / "run", steps, self.options.learning_rate, seed),
            train_dataset=transfer_set, processing_class=self.tokenizer, compute_metrics=glue_metric(None),
            teacher_model=self.teacher,
        )  # fmt: skip
        trainer.train()
        validation = trainer.evaluate(self.splits["validation"])
        test = trainer.predict(self.splits["test"]).metrics
        return {
            "validation_accuracy": validation["eval_accuracy"],
            "test_accuracy": test["test_accuracy"],
            "test_agreement": test["test_teacher_agreement"],
            "test_kl": test["test_teacher_kl"],
        }

    def arm(self, kind: str, copies: int, steps: int) -> dict[str, Any]:
        """Mean and standard deviation over seeds."""
        cells = [self.cell(kind, copies, steps, seed) for seed in range(self.options.seeds)]
        summary: dict[str, Any] = {"kind": kind, "copies": copies, "steps": steps, "texts": cells[0]["texts"]}
        for name in ("validation_accuracy", "test_accuracy", "test_agreement", "test_kl"):
            values = [cell[name] for cell in cells]
            summary[name] = {"mean": statistics.mean(values), "sd": statistics.stdev(values), "values": values}
        return summary


def with_gains(arms: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Points of test accuracy above the original transfer set at as many steps, by seed, and per 1,000 extra texts."""
    original = {arm["steps"]: arm for arm in arms if arm["kind"] == ORIGINAL}
    for arm in arms:
        base = original[arm["steps"]]
        pairs = zip(arm["test_accuracy"]["values"], base["test_accuracy"]["values"], strict=True)
        gains = [100 * (value - before) for value, before in pairs]
        extra = arm["texts"] - base["texts"]
        arm["gain"] = {"mean": statistics.mean(gains), "sd": statistics.stdev(gains), "values": gains}
        arm["gain_per_1000_texts"] = 1000 * arm["gain"]["mean"] / extra if extra else None
    return arms


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("outputs/augmentation"), help="where cells are kept")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the file of results")
    parser.add_argument("--texts", type=int, default=1000, help="labeled reviews, whose texts are the transfer set")
    parser.add_argument("--steps", type=int, nargs="+", default=[500, 2000], help="steps of a student, equal for all")
    parser.add_argument("--teacher_steps", type=int, default=150, help="steps of the teacher")
    parser.add_argument("--masked_lm_steps", type=int, default=1500, help="steps of the masked-language model")
    parser.add_argument("--learning_rate", type=float, default=1e-3, help="the students' learning rate")
    parser.add_argument("--seeds", type=int, default=3, help="seeds per arm, at least 2")
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS, help="which new texts")
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    options.folder.mkdir(parents=True, exist_ok=True)
    experiment = Experiment(options)
    sets = [(ORIGINAL, 0), *((kind, copies) for kind in options.kinds for copies in COPIES)]
    arms = with_gains([experiment.arm(*each, steps) for steps in options.steps for each in sets])
    conditions = {name: value for name, value in vars(options).items() if name not in ("folder", "results")}
    conditions |= {"student": "-".join(STUDENT), "test_examples": len(experiment.reviews["test"])}
    conditions |= {"hardware": hardware_name("cuda" if torch.cuda.is_available() else "cpu")}
    content = {"conditions": conditions | {"versions": package_versions()}, "arms": arms}
    options.results.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(options.results, json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()

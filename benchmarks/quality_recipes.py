"""Every recipe at equal steps, on three tasks: python benchmarks/quality_recipes.py {reviews,mlm,digits}

reviews  Movie reviews. Teacher all-MiniLM-L6-v2 (fine-tuned by quality_movie_reviews.py), student its bottom 2 layers.
mlm      Task-agnostic: masked language modeling on the unlabeled texts of four domains, then fine-tuning on the movie
         reviews. Teacher all-MiniLM-L6-v2 with a head trained on its frozen body, student 2/384 with its embeddings.
digits   Handwritten digits. Teacher a ViT of 4 layers of 64, student a ViT of 2 layers of 32, from random weights.

All ways of training take equally many steps from the same first weights. Recipes that teach no labels (the TinyBERT
general stage, MiniLM, MiniLMv2) spend half of the steps of reviews and digits imitating and the rest on labels. Each way
has its own best learning rate of the same list, by validation accuracy with the first seed; then come the other seeds at
that rate. A cell that is done is not run again.
"""

from __future__ import annotations

import argparse
import json
import statistics
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import datasets
import torch
import transformers
from quality_movie_reviews import arguments, prepare
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    PreTrainedModel,
    ViTConfig,
    ViTForImageClassification,
)
from transformers.trainer_utils import set_seed

from hf_distill import DistillationTrainer, create_student
from hf_distill.evaluation.metrics import glue_metric
from hf_distill.fingerprints import package_versions
from hf_distill.hardware import hardware_name
from hf_distill.recipes import RECIPES
from hf_distill.resources.digits import load_digits_dataset
from hf_distill.resources.minilm import minilm_path

RESULTS = Path(__file__).with_name("results")
LABELS = "labels"
WITHOUT_LABELS = ("tinybert_general", "minilm", "minilmv2")
REVIEWS_FOLDER = Path("outputs/quality")


class Experiment(ABC):
    """A task: its models, its data and the ways of training compared."""

    arms = (
        LABELS,
        *(name for name in RECIPES if name not in ("homodistil", "embedding")),
    )  # of students that shrink, or embed
    rates: tuple[float, ...]
    steps: int

    def __init__(self, folder: Path):
        self.folder = folder
        self.conditions: dict[str, Any] = {"steps": self.steps, "learning_rates": self.rates}

    @abstractmethod
    def cell(self, arm: str, rate: float, seed: int) -> dict[str, float]:
        """Metrics of one training, `validation_accuracy` among them."""

    def kept_cell(self, arm: str, rate: float, seed: int) -> dict[str, float]:
        """The same, read where it is there already."""
        path = self.folder / f"{arm}_{rate}_{seed}.json"
        if not path.exists():
            measured = self.cell(arm, rate, seed)
            print(arm, rate, seed, measured, flush=True)
            path.write_text(json.dumps(measured))
        return json.loads(path.read_text())

    def arm(self, arm: str, seeds: int) -> dict[str, Any]:
        """Best learning rate by validation accuracy with seed 0, then all seeds at it."""
        tried = {rate: self.kept_cell(arm, rate, 0)["validation_accuracy"] for rate in self.rates}
        best = max(tried, key=tried.get)
        cells = [self.kept_cell(arm, best, seed) for seed in range(seeds)]
        summary: dict[str, Any] = {"learning_rate": best, "validation_accuracy_by_rate": tried}
        for name in cells[0]:
            values = [cell[name] for cell in cells]
            summary[name] = {"mean": statistics.mean(values), "sd": statistics.stdev(values), "values": values}
        return summary

    def trained(
        self, model: PreTrainedModel, data: Any, arm: str, steps: int, rate: float, seed: int, **more: Any
    ) -> DistillationTrainer:
        """Train a model on labels (`arm` is LABELS) or by a recipe."""
        recipe = {"soft_label_weight": 0.0, "hard_label_weight": 1.0} if arm == LABELS else {"recipe": arm}
        trainer = DistillationTrainer(
            model, arguments(self.folder / f"run-{arm}", steps, rate, seed, **recipe), train_dataset=data, **more
        )
        trainer.train()
        return trainer

    def taught(
        self, model: PreTrainedModel, teacher: PreTrainedModel, data: Any, arm: str, rate: float, seed: int, **more: Any
    ) -> DistillationTrainer:
        """All steps in one way; or half of them imitating and half on labels, for a recipe that teaches no labels."""
        stages = [(arm, self.steps // 2), (LABELS, self.steps // 2)] if arm in WITHOUT_LABELS else [(arm, self.steps)]
        for way, steps in stages:
            trainer = self.trained(model, data, way, steps, rate, seed, teacher_model=teacher, **more)
        return trainer


class Reviews(Experiment):
    steps = 250
    rates = (1e-4, 3e-4)

    def __init__(self, folder: Path):
        super().__init__(folder)
        shared, teacher_metrics = prepare(REVIEWS_FOLDER, epochs=2, seeds=3)
        self.teacher, self.splits = shared.teacher, shared.splits
        self.more = {"processing_class": shared.tokenizer, "compute_metrics": glue_metric(None)}
        self.conditions |= {"student": "2/384-truncated", "batch_size": 32, "teacher": teacher_metrics}

    def cell(self, arm: str, rate: float, seed: int) -> dict[str, float]:
        set_seed(seed)
        student = create_student("2/384", self.teacher, "truncated")
        trainer = self.taught(student, self.teacher, self.splits["train"], arm, rate, seed, **self.more)
        test = trainer.predict(self.splits["test"]).metrics
        return {
            "validation_accuracy": trainer.evaluate(self.splits["validation"])["eval_accuracy"],
            "test_accuracy": test["test_accuracy"],
            "test_agreement": test["test_teacher_agreement"],
        }


class MaskedLanguageModeling(Experiment):
    arms = ("none", LABELS, "vanilla_kd", "distilbert", "tinybert_general", "minilm", "minilmv2")
    steps = 250
    rates = (5e-4,)
    head_steps = 300
    fine_tuning_steps = 150

    def __init__(self, folder: Path):
        super().__init__(folder)
        shared, _ = prepare(REVIEWS_FOLDER, epochs=2, seeds=3)
        self.splits = shared.splits
        tokenizer = AutoTokenizer.from_pretrained(minilm_path())
        self.classifying = {"processing_class": tokenizer, "compute_metrics": glue_metric(None)}
        self.filling = {"processing_class": tokenizer, "data_collator": DataCollatorForLanguageModeling(tokenizer)}
        self.texts = shared.transfer_set.select_columns(["input_ids", "attention_mask"])
        self.held_out = self.splits["validation"].select_columns(["input_ids", "attention_mask"])
        self.teacher = self._teacher_with_head()
        self.conditions |= {
            "student": "2/384-embeddings", "batch_size": 32, "texts": len(self.texts), "head_steps": self.head_steps,
            "teacher_loss": self._loss(self.teacher), "fine_tuning_steps": self.fine_tuning_steps,
            "fine_tuning_rate": 1e-4,
        }  # fmt: skip

    def _teacher_with_head(self) -> PreTrainedModel:
        """The encoder with a masked-word head trained on its frozen body."""
        folder = self.folder / "teacher"
        if not folder.exists():
            set_seed(0)
            model = AutoModelForMaskedLM.from_pretrained(minilm_path())
            model.base_model.requires_grad_(False)
            self.trained(model, self.texts, LABELS, self.head_steps, 1e-3, 0, **self.filling).save_model(folder)
        return AutoModelForMaskedLM.from_pretrained(folder)

    def _loss(self, model: PreTrainedModel) -> float:
        """Cross-entropy of the masked words of held-out sentences, with the same masks every time."""
        set_seed(0)
        labels_only = {"soft_label_weight": 0.0, "hard_label_weight": 1.0}
        args = arguments(self.folder / "run-loss", 1, 1e-4, 0, **labels_only)
        return DistillationTrainer(model, args, **self.filling).evaluate(self.held_out)["eval_loss"]

    def cell(self, arm: str, rate: float, seed: int) -> dict[str, float]:
        set_seed(seed)
        student = create_student("2/384", self.teacher, "embeddings")
        if arm != "none":
            self.trained(student, self.texts, arm, self.steps, rate, seed, teacher_model=self.teacher, **self.filling)
        measured = {"masked_word_loss": self._loss(student)}
        pretrained = self.folder / f"student-{arm}"
        student.save_pretrained(pretrained)
        set_seed(seed)
        classifier = AutoModelForSequenceClassification.from_pretrained(pretrained, num_labels=2)
        trainer = self.trained(
            classifier, self.splits["train"], LABELS, self.fine_tuning_steps, 1e-4, seed, **self.classifying
        )
        measured["validation_accuracy"] = trainer.evaluate(self.splits["validation"])["eval_accuracy"]
        return measured | {"test_accuracy": trainer.predict(self.splits["test"]).metrics["test_accuracy"]}


class Digits(Experiment):
    steps = 600
    rates = (1e-3, 3e-3)

    def __init__(self, folder: Path):
        super().__init__(folder)
        self.splits = {
            name: split.rename_column("label", "labels").with_format("torch")
            for name, split in load_digits_dataset().items()
        }
        self.more = {"compute_metrics": glue_metric(None)}
        self.teacher = self._teacher()
        self.conditions |= {
            "teacher": "4/64",
            "student": "2/32",
            "teacher_test_accuracy": self._accuracy(self.teacher, "test"),
        }

    def _vit(self, layers: int, hidden: int) -> PreTrainedModel:
        config = ViTConfig(
            image_size=8, patch_size=2, num_channels=1, num_labels=10, num_attention_heads=4, hidden_size=hidden,
            intermediate_size=2 * hidden, num_hidden_layers=layers,
        )  # fmt: skip
        return ViTForImageClassification(config)

    def _teacher(self) -> PreTrainedModel:
        folder = self.folder / "teacher"
        if not folder.exists():
            set_seed(0)
            teacher = self._vit(4, 64)
            self.trained(teacher, self.splits["train"], LABELS, 2 * self.steps, 1e-3, 0, **self.more).save_model(folder)
        return ViTForImageClassification.from_pretrained(folder)

    def _accuracy(self, model: PreTrainedModel, split: str) -> float:
        labels_only = {"soft_label_weight": 0.0, "hard_label_weight": 1.0}
        args = arguments(self.folder / "run-accuracy", 1, 1e-4, 0, **labels_only)
        return DistillationTrainer(model, args, **self.more).evaluate(self.splits[split])["eval_accuracy"]

    def cell(self, arm: str, rate: float, seed: int) -> dict[str, float]:
        set_seed(seed)
        student = self._vit(2, 32)
        trainer = self.taught(student, self.teacher, self.splits["train"], arm, rate, seed, **self.more)
        test = trainer.predict(self.splits["test"]).metrics
        return {
            "validation_accuracy": trainer.evaluate(self.splits["validation"])["eval_accuracy"],
            "test_accuracy": test["test_accuracy"],
            "test_agreement": test["test_teacher_agreement"],
        }


EXPERIMENTS = {"reviews": Reviews, "mlm": MaskedLanguageModeling, "digits": Digits}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=list(EXPERIMENTS))
    parser.add_argument("--folder", type=Path, default=Path("outputs/quality_recipes"), help="where cells are kept")
    parser.add_argument("--seeds", type=int, default=3, help="seeds per way of training, at least 3")
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    folder = options.folder / options.task
    folder.mkdir(parents=True, exist_ok=True)
    experiment = EXPERIMENTS[options.task](folder)
    found = {arm: experiment.arm(arm, options.seeds) for arm in experiment.arms}
    hardware = hardware_name("cuda" if torch.cuda.is_available() else "cpu")
    conditions = experiment.conditions | {
        "seeds": options.seeds,
        "hardware": hardware,
        "versions": package_versions(),
    }
    content = {"conditions": conditions, "arms": found}
    (RESULTS / f"quality_recipes_{options.task}.json").write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()

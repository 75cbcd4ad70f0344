"""Rerankers on WordNet: python benchmarks/quality_reranking.py

The query is an example of use, its candidates are the definition that it illustrates and seven others of the same field. The
teacher is all-MiniLM-L6-v2, fine-tuned on 600 queries with labels. Students of 2 layers of 128, which start from the teacher's
embeddings, learn the labels of these queries, or the teacher's recorded scores of 6,000 queries without labels, by mean squared
error, MarginMSE or listwise KL, at temperatures 1 and 0.1, since the teacher's scores are between 0 and 1. All take equally
many steps, labels alone also a fifth of them, of which the better result on validation queries counts. Judged by nDCG@10 and
MRR on queries of the test split. A cell that is done is not run again.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import statistics
from collections import defaultdict
from functools import cached_property
from pathlib import Path

import datasets
from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding, PreTrainedModel
from transformers.trainer_utils import set_seed

from hf_distill import (
    DistillationTrainer,
    DistillationTrainingArguments,
    FrozenTeacher,
    create_student,
    label_transfer_set,
)
from hf_distill.data.candidates import DOCUMENT, QUERY, QUERY_ID, candidate_rows
from hf_distill.evaluation.ranking import ranking_metric
from hf_distill.files import atomic_write
from hf_distill.fingerprints import package_versions
from hf_distill.hardware import hardware_name
from hf_distill.resources.minilm import minilm_path
from hf_distill.resources.wordnet import load_wordnet

RESULTS = Path(__file__).parent / "results" / "quality_reranking.json"
LABELED, TRANSFER, EVALUATION, OTHERS, MAX_LENGTH = 600, 6000, 1000, 7, 64
ON_LABELS = {"soft_label_weight": 0.0, "hard_label_weight": 1.0}
LABELS_ALONE = "labels alone"
ARMS = {
    LABELS_ALONE: ON_LABELS,
    "MSE": {"soft_label_loss": "logit_mse"},
    "MarginMSE": {"soft_label_loss": "margin_mse"},
    "listwise KL": {"soft_label_loss": "listwise_kl"},
    "listwise KL at 0.1": {"soft_label_loss": "listwise_kl", "temperature": 0.1},
}
STUDENT, STUDENT_RATE, TEACHER_RATE = ("2/128", "embeddings"), 1e-3, 1e-4
SCORES = ("ndcg@10", "mrr")


def queries(split: datasets.Dataset, number: int, seed: int = 0) -> datasets.Dataset:
    """One example of each of some definitions, with the definition and others of its field."""
    by_field = defaultdict(list)
    for text, field in zip(split["text"], split["label"], strict=True):
        by_field[field].append(text)
    draw, rows = random.Random(seed), []
    for row in split:
        if not row["examples"]:
            continue
        field = by_field[row["label"]]
        others = [text for text in draw.sample(field, min(OTHERS + 1, len(field))) if text != row["text"]]
        rows.append({"query": row["examples"][0], "positive": row["text"], "negatives": others[:OTHERS]})
        if len(rows) == number:
            break
    return candidate_rows(datasets.Dataset.from_list(rows))


class Comparison:
    """The arms on one set of queries.

    Args:
        folder: The folder of the teacher, its recorded scores and the finished cells.
        steps: Optimizer steps of a student.
        teacher_steps: Optimizer steps of the teacher.
    """

    def __init__(self, folder: Path, steps: int, teacher_steps: int):
        self.folder, self.steps, self.teacher_steps = folder, steps, teacher_steps
        self.tokenizer = AutoTokenizer.from_pretrained(minilm_path())
        splits, sizes = load_wordnet(), {"train": TRANSFER, "validation": EVALUATION, "test": EVALUATION}
        self.queries = {name: self._encoded(queries(splits[name], number)) for name, number in sizes.items()}
        self.labeled = self.queries["train"].filter(lambda row: row[QUERY_ID] < LABELED)

    def _encoded(self, rows: datasets.Dataset) -> datasets.Dataset:
        def encode(batch: dict) -> dict:
            inputs = self.tokenizer(batch[QUERY], batch[DOCUMENT], truncation=True, max_length=MAX_LENGTH)
            return dict(inputs) | {"labels": batch["label"]}

        return rows.map(encode, batched=True, remove_columns=[QUERY, DOCUMENT, "label"])

    @cached_property
    def teacher(self) -> PreTrainedModel:
        """The fine-tuned teacher, trained unless it is in the folder."""
        path = self.folder / "teacher"
        if not path.exists():
            set_seed(0)
            model = AutoModelForSequenceClassification.from_pretrained(minilm_path(), num_labels=1)
            trainer = self._trainer(model, self.labeled, self.teacher_steps, TEACHER_RATE, seed=0, **ON_LABELS)
            trainer.train()
            trainer.model.save_pretrained(path)
        return AutoModelForSequenceClassification.from_pretrained(path)

    @cached_property
    def recorded(self) -> datasets.Dataset:
        """The transfer set with the teacher's scores and without labels."""
        rows = self.queries["train"].remove_columns("labels")
        collator = DataCollatorWithPadding(self.tokenizer)
        return label_transfer_set(
            rows, FrozenTeacher(self.teacher, "float32"), collator, self.folder / "labeled", disable_tqdm=True
        )

    def _trainer(self, model: PreTrainedModel, rows: datasets.Dataset, steps: int, rate: float, seed: int, **more):
        args = DistillationTrainingArguments(
            str(self.folder / "run"), max_steps=steps, learning_rate=rate, seed=seed, query_column=QUERY_ID,
            warmup_steps=0.1, per_device_train_batch_size=32, per_device_eval_batch_size=64, use_cpu=True, report_to="none",
            disable_tqdm=True, save_strategy="no", logging_steps=200, **more,
        )  # fmt: skip
        return DistillationTrainer(model, args, train_dataset=rows, processing_class=self.tokenizer)

    def scores(self, trainer: DistillationTrainer) -> dict[str, dict[str, float]]:
        """nDCG@10 and MRR on the validation and test queries."""
        found = {}
        for split in ("validation", "test"):
            trainer.compute_metrics = ranking_metric(self.queries[split][QUERY_ID])
            metrics = trainer.evaluate(self.queries[split])
            found[split] = {name: metrics[f"eval_{name}"] for name in SCORES}
        return found

    def teacher_scores(self) -> dict[str, dict[str, float]]:
        """Those of the teacher."""
        return self.scores(self._trainer(self.teacher, self.labeled, 1, 1e-4, seed=0, **ON_LABELS))

    def student_scores(self, arm: str, seed: int) -> dict[str, dict[str, float]]:
        """Those of a student trained in one of `ARMS`."""
        lengths = (self.steps, self.steps // 5) if arm == LABELS_ALONE else (self.steps,)
        found = [self._cell(arm, steps, seed) for steps in lengths]
        return max(found, key=lambda each: each["validation"][SCORES[0]])

    def _cell(self, arm: str, steps: int, seed: int) -> dict[str, dict[str, float]]:
        path = self.folder / f"{arm.replace(' ', '_')}_{steps}_{seed}.json"
        if not path.exists():
            set_seed(seed)
            rows = self.labeled if arm == LABELS_ALONE else self.recorded
            trainer = self._trainer(
                create_student(STUDENT[0], self.teacher, STUDENT[1]), rows, steps, STUDENT_RATE, seed, **ARMS[arm]
            )
            trainer.train()
            atomic_write(path, json.dumps(self.scores(trainer)))
        found = json.loads(path.read_text())
        print(arm, steps, seed, found["test"], flush=True)
        return found


def summary(values: list[float]) -> dict[str, float]:
    return {"mean": statistics.mean(values), "sd": statistics.stdev(values) if len(values) > 1 else 0.0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--folder", type=Path, default=Path("outputs/reranking"), help="where teacher and cells are kept"
    )
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each arm")
    parser.add_argument("--steps", type=int, default=1500, help="steps of a student")
    parser.add_argument("--teacher-steps", type=int, default=600, help="steps of the teacher")
    parser.add_argument("--output", type=Path, default=RESULTS, help="the JSON file")
    given = parser.parse_args()
    datasets.disable_progress_bars()
    given.folder.mkdir(parents=True, exist_ok=True)
    comparison = Comparison(given.folder.resolve(), given.steps, given.teacher_steps)
    teacher = comparison.teacher_scores()
    print("teacher", teacher["test"], flush=True)
    found = {arm: [comparison.student_scores(arm, seed)["test"] for seed in range(given.seeds)] for arm in ARMS}
    result = {
        "teacher": teacher["test"] | {"parameters": comparison.teacher.num_parameters()},
        "students": {arm: {name: summary([each[name] for each in cells]) for name in SCORES} for arm, cells in found.items()},
        "conditions": {
            "queries": {"labeled": LABELED, "transfer": TRANSFER, "test": EVALUATION, "candidates": OTHERS + 1},
            "steps": {"teacher": given.teacher_steps, "student": given.steps}, "seeds": given.seeds,
            "student": STUDENT[0], "hardware": hardware_name("cpu"), "versions": package_versions(),
        },
    }  # fmt: skip
    atomic_write(given.output, json.dumps(result, indent=2) + "\n")
    shutil.rmtree(comparison.folder / "run", ignore_errors=True)


if __name__ == "__main__":
    main()

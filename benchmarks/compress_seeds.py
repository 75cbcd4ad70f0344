"""Compressing a teacher of movie reviews with several seeds: python benchmarks/compress_seeds.py

A seed decides which 500 reviews have labels, how multilingual-e5-small is fine-tuned on them, and everything that
`hf-distill compress` does. Validation and test reviews are compared together, as nothing is chosen by either. A seed that is
finished is not run again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
from few_label_tasks import EVALUATION
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)
from transformers.trainer_utils import set_seed

from hf_distill.evaluation.formats import Format
from hf_distill.files import atomic_write
from hf_distill.resources.e5 import e5_path
from hf_distill.resources.sentiment import load_sentiment, load_transfer_set

RESULTS = Path(__file__).with_name("results") / "compress_seeds.json"
LABELED, PREFIX, MAX_LENGTH = 500, "query: ", 128


def rows_of(seed: int) -> datasets.DatasetDict:
    """The reviews with labels, and all held-out ones."""
    raw = load_sentiment()
    held_out = datasets.concatenate_datasets([raw[split] for split in EVALUATION])
    splits = {"train": raw["train"].shuffle(seed=seed).select(range(LABELED)), "test": held_out}
    return datasets.DatasetDict(splits).map(lambda row: {"text": PREFIX + row["text"]})


def train_teacher(folder: Path, labeled: datasets.Dataset, seed: int) -> None:
    """Fine-tune multilingual-e5-small as it is, but for its word embeddings: few of the words have labels."""
    set_seed(seed)
    tokenizer = AutoTokenizer.from_pretrained(e5_path())
    names = labeled.features["label"].names
    model = AutoModelForSequenceClassification.from_pretrained(
        e5_path(), num_labels=len(names), id2label=dict(enumerate(names)), label2id={n: i for i, n in enumerate(names)}
    )
    model.get_input_embeddings().requires_grad_(False)
    args = TrainingArguments(
        str(folder / "run"), max_steps=200, learning_rate=5e-5, warmup_steps=0.1, per_device_train_batch_size=32, seed=seed,
        save_strategy="no", report_to="none", disable_tqdm=True,
    )  # fmt: skip
    rows = labeled.map(lambda batch: tokenizer(batch["text"], truncation=True, max_length=MAX_LENGTH), batched=True)
    collator = DataCollatorWithPadding(tokenizer)
    trainer = Trainer(model, args, collator, train_dataset=rows, processing_class=tokenizer)
    trainer.train()
    trainer.save_model(str(folder))


def evaluation_of(seed: int, folder: Path, target: str) -> dict[str, Any]:
    """What `hf-distill compress` measures of a seed's teacher and student."""
    teacher, rows, texts, output = (folder / name for name in ("teacher", "rows", "texts.txt", f"compressed-{target}"))
    if not texts.exists():
        splits = rows_of(seed)
        train_teacher(teacher, splits["train"], seed)
        splits.save_to_disk(rows)
        texts.write_text("".join(f"{PREFIX}{text}\n" for text in load_transfer_set(["movie_reviews"])["text"]))
    path = output / "evaluation.json"
    if not path.exists():
        command = [sys.executable, "-m", "hf_distill.cli.main", "compress", teacher, "--dataset", rows]
        options = ["--transfer-set", texts, "--target", target, "--output-dir", output, "--max-length", MAX_LENGTH]
        timed = ["--lengths", 32, "--batch-sizes", 1, "--seed", seed]
        subprocess.run([str(part) for part in [*command, *options, *timed]], check=True)
    return json.loads(path.read_text())


def entry(evaluation: dict[str, Any], seed: int) -> dict[str, Any]:
    """Accuracies in percent and differences in points of one seed."""
    teacher, rows = evaluation["rows"][0], evaluation["rows"]
    (student,) = (row for row in rows if row.get("format") == Format.ONNX_INT8.value)
    difference = {
        name: round(100 * value, 2) for name, value in student["against_teacher"].items() if name != "mcnemar_p"
    }
    return {
        "seed": seed,
        "teacher": round(100 * teacher["metrics"]["accuracy"], 2),
        "student": round(100 * student["metrics"]["accuracy"], 2),
        "against_teacher": difference,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("outputs/compress_seeds"), help="where runs are kept")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds, from 0 on")
    parser.add_argument("--target", default="9.5x", help="how many times fewer parameters")
    options = parser.parse_args()
    found = []
    for seed in range(options.seeds):
        evaluation = evaluation_of(seed, options.folder / str(seed), options.target)
        found.append(entry(evaluation, seed))
        print(json.dumps(found[-1]), flush=True)
    differences = [each["against_teacher"]["difference"] for each in found]
    summary = {
        "mean": round(statistics.mean(differences), 2),
        "sd": round(statistics.stdev(differences), 2) if len(found) > 1 else None,
    }
    conditions = evaluation["conditions"] | {"target": options.target, "data": evaluation["data"]}
    atomic_write(
        RESULTS, json.dumps({"difference": summary, "seeds": found, "conditions": conditions}, indent=2) + "\n"
    )


if __name__ == "__main__":
    main()

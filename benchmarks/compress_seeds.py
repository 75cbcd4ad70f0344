"""Compressing a teacher of movie reviews with several seeds: python benchmarks/compress_seeds.py

A seed decides which 500 reviews have labels, how multilingual-e5-small is fine-tuned on them, and everything that
`hf-distill compress` does. Its student starts from layers of the teacher. A second student of the same size learns the same recorded
outputs, but starts from 4 layers that have learned the embeddings of the encoder before it was fine-tuned, once for all seeds, of
reviews and definitions of WordNet. Validation and test reviews are compared together, as nothing is chosen by either. What is
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
from hf_distill.resources.wordnet import load_wordnet

RESULTS = Path(__file__).with_name("results") / "compress_seeds.json"
LABELED, PREFIX, MAX_LENGTH = 500, "query: ", 128
SHAPE, DEFINITIONS = "4/384", 40_000
STARTS = "teacher_layers", "general_student"
GENERAL = (
    f"--pooling mean --student_shape {SHAPE} --trim_vocabulary --max_eval_samples 500 --max_seq_length 64 --num_train_epochs 3 "
    "--per_device_train_batch_size 64 --learning_rate 1e-3 --save_strategy no --report_to none --do_train --do_eval"
)


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


def compress(seed: int, folder: Path, target: str) -> None:
    """Train a seed's teacher, and compress it."""
    teacher, rows, texts, output = (folder / name for name in ("teacher", "rows", "texts.txt", f"compressed-{target}"))
    if not texts.exists():
        splits = rows_of(seed)
        train_teacher(teacher, splits["train"], seed)
        splits.save_to_disk(rows)
        texts.write_text("".join(f"{PREFIX}{text}\n" for text in load_transfer_set(["movie_reviews"])["text"]))
    if not (output / "evaluation.json").exists():
        data = ["--dataset", rows, "--transfer-set", texts, "--max-length", MAX_LENGTH, "--seed", seed]
        timed = ["--lengths", 32, "--batch-sizes", 1]
        command = ["-m", "hf_distill.cli.main", "compress", teacher, *data, *timed]
        run(*command, "--target", target, "--output-dir", output)


def train_general(folder: Path) -> Path:
    """Distill the embeddings of multilingual-e5-small, before it knows a task, into its own layers; the student's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    texts, student = folder / "texts.txt", folder / "student"
    definitions = load_wordnet()["train"].shuffle(seed=0).select(range(DEFINITIONS))["text"]
    texts.write_text("".join(f"{text}\n" for text in [*load_transfer_set(["movie_reviews"])["text"], *definitions]))
    if not (student / "model.safetensors").exists():
        script, teacher = Path(__file__).parents[1] / "examples" / "run_embedding.py", e5_path()
        models = [
            "--teacher_model_name_or_path",
            teacher,
            "--prefix",
            PREFIX,
            "--train_file",
            texts,
            "--output_dir",
            student,
        ]
        run(script, *models, *GENERAL.split())
    return student


def comparison_of(seed: int, folder: Path, target: str, general: Path) -> dict[str, Any]:
    """The comparison of a seed's teacher with both students, in the formats fp32 and int8."""
    names = "teacher", "rows", f"compressed-{target}", "general-4-layers"
    teacher, rows, compressed, student = (folder / name for name in names)
    options = ["--dataset", rows, "--max-length", MAX_LENGTH]
    if not (student / "run.json").exists():
        outputs = ["--teacher-outputs", compressed / "teacher-outputs", "--base-model", general, "--student", SHAPE]
        command = ["-m", "hf_distill.cli.main", "train", *outputs, *options, "--no-labels-alone", "--seed", seed]
        run(*command, "--output-dir", student)
    if not (folder / "comparison" / "evaluation.json").exists():
        formats = ["--formats", f"fp32,{Format.ONNX_INT8.value}", "--lengths", 32, "--batch-sizes", 1]
        models = [compressed / "student", student, "--teacher", teacher]
        command = ["-m", "hf_distill.cli.main", "evaluate", *models, *options, *formats]
        run(*command, "--output-dir", folder / "comparison")
    return json.loads((folder / "comparison" / "evaluation.json").read_text())


def run(*command: Any) -> None:
    """Run Python with these arguments."""
    subprocess.run([sys.executable, *map(str, command)], check=True)


def entry(comparison: dict[str, Any], seed: int) -> dict[str, Any]:
    """Accuracies in percent, differences in points, megabytes and milliseconds of one seed, of the teacher in single precision."""
    teacher, *students = comparison["rows"]
    fp32, int8 = Format.FP32.value, Format.ONNX_INT8.value
    megabytes, milliseconds = teacher["megabytes_by_format"][fp32], milliseconds_of(teacher, fp32)
    found = {"seed": seed, "teacher": round(100 * teacher["metrics"]["accuracy"], 2)}
    found |= {"teacher_megabytes": megabytes, "teacher_milliseconds": milliseconds}
    for start, row in zip(STARTS, students, strict=True):
        against, size = row["against_teacher_by_format"][int8], row["megabytes_by_format"][int8]
        time = milliseconds_of(row, int8)
        found[start] = {
            "fp32": round(100 * row["metrics"]["accuracy"], 2),
            "int8": round(100 * row["metrics_by_format"][int8]["accuracy"], 2),
            **{name: round(100 * against[name], 2) for name in ("difference", "low", "high")},
            "megabytes": size,
            "smaller": round(megabytes / size, 1),
            "milliseconds": time,
            "faster": round(milliseconds / time, 1),
        }
    return found


def milliseconds_of(row: dict[str, Any], number_format: str) -> float:
    """The median latency of a model in a number format."""
    return next(each["median_ms"] for each in row["latency"] if each["format"] == number_format)


def summary_of(differences: list[float]) -> dict[str, float | None]:
    """The mean and the standard deviation over seeds."""
    spread = round(statistics.stdev(differences), 2) if len(differences) > 1 else None
    return {"mean": round(statistics.mean(differences), 2), "sd": spread}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("outputs/compress_seeds"), help="where runs are kept")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds, from 0 on")
    parser.add_argument("--target", default="9.5x", help="how many times fewer parameters")
    options = parser.parse_args()
    found, general = [], train_general(options.folder / "general")
    for seed in range(options.seeds):
        folder = options.folder / str(seed)
        compress(seed, folder, options.target)
        comparison = comparison_of(seed, folder, options.target, general)
        found.append(entry(comparison, seed))
        print(json.dumps(found[-1]), flush=True)
    summary = {start: summary_of([each[start]["difference"] for each in found]) for start in STARTS}
    conditions = comparison["conditions"] | {"target": options.target, "data": comparison["data"]}
    atomic_write(
        RESULTS, json.dumps({"difference": summary, "seeds": found, "conditions": conditions}, indent=2) + "\n"
    )


if __name__ == "__main__":
    main()

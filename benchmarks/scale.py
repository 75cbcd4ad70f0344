"""How cost grows with the data: CPU seconds and peak memory of what a run does with its rows, from 10 thousand on.

    python benchmarks/scale.py [--rows 10000 100000 1000000] [--only first_step matching]

Tiny models, so that what is measured is the work around them, and one process on one CPU. Rows lie on disk, have 3 to 20 tokens,
and are read as they are stored or in the order of a shuffle. Finished cells are not repeated.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import torch
import transformers
from accelerate import skip_first_batches
from tokenizers import Tokenizer, models, pre_tokenizers
from torch.utils.data import DataLoader
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast, Trainer, TrainingArguments

from hf_distill import (
    DistillationTrainer,
    DistillationTrainingArguments,
    label_transfer_set,
    load_teacher_outputs,
)
from hf_distill.data.corpus import packed, without_texts_of
from hf_distill.data.length_bucket_sampler import LengthBucketSampler, example_lengths
from hf_distill.fingerprints import package_versions, rows_sha256, table_sha256
from hf_distill.hardware import hardware_name
from hf_distill.precomputed.input_checks import _others
from hf_distill.precomputed.row_blocks import RowBlocks
from hf_distill.teachers.checkpoints import find_checkpoints
from hf_distill.teachers.column_names import TEACHER_PROVENANCE
from hf_distill.teachers.trajectory import Trajectory

RESULTS = Path(__file__).parent / "results"
WORDS = 1000
Figures = dict[str, dict[str, float]]


def tokenizer() -> PreTrainedTokenizerFast:
    words = {"[PAD]": 0, "[UNK]": 1} | {f"w{index}": index for index in range(2, WORDS)}
    made = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=made, pad_token="[PAD]", unk_token="[UNK]", model_max_length=8192)


def bert(seed: int = 0, labels: int = 2, positions: int = 64) -> BertForSequenceClassification:
    torch.manual_seed(seed)
    sizes = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64)
    config = BertConfig(vocab_size=WORDS, max_position_embeddings=positions, num_labels=labels, **sizes)
    return BertForSequenceClassification(config)


def made_rows(count: int, lengths: tuple[int, int] = (3, 21), labels: int = 2) -> datasets.Dataset:
    generator = np.random.default_rng(7)
    ends = np.concatenate([[0], np.cumsum(generator.integers(*lengths, count))]).astype(np.int32)
    tokens = generator.integers(2, WORDS, ends[-1])
    lists = {"input_ids": tokens, "attention_mask": np.ones_like(tokens)}
    columns = {name: pa.ListArray.from_arrays(pa.array(ends), pa.array(values)) for name, values in lists.items()}
    return datasets.Dataset(pa.table(columns | {"labels": pa.array(np.arange(count) % labels)}))


def on_disk(folder: Path, count: int) -> datasets.Dataset:
    place = folder / f"rows_{count}"
    if not place.exists():
        made_rows(count).save_to_disk(place)
    return datasets.load_from_disk(place)


def memory(name: str) -> float:
    """A figure of /proc/self/status, MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name))


@contextmanager
def measured(figures: Figures, name: str) -> Iterator[None]:
    """CPU seconds of the process, its peak memory and how far that is above what it had, MB."""
    gc.collect()
    pa.default_memory_pool().release_unused()
    ctypes.CDLL(None).malloc_trim(0)  # what earlier cells freed would be taken again without notice
    Path("/proc/self/clear_refs").write_text("5")  # the peak is that from here on
    before, begin = memory("VmRSS"), time.process_time()
    yield
    seconds, peak = time.process_time() - begin, memory("VmHWM")
    figures[name] = {"cpu_s": round(seconds, 3), "peak_mb": round(peak), "added_mb": round(peak - before)}


def arguments(folder: Path, kind: type = DistillationTrainingArguments, **options: Any) -> Any:
    given = dict(output_dir=str(folder / "run"), report_to="none", disable_tqdm=True, use_cpu=True, bf16=False)
    return kind(**(given | dict(max_steps=1, save_strategy="no", logging_steps=1000) | options))


def first_step(folder: Path, rows: int) -> Figures:
    """From the data set to the end of the first step."""
    figures: Figures = {}
    stored = on_disk(folder, rows)
    for name, given in {"stored": stored, "shuffled": stored.shuffle(seed=1)}.items():
        with measured(figures, name):
            trainer = DistillationTrainer(
                bert(), arguments(folder), train_dataset=given, processing_class=tokenizer(), teacher_model=bert(1)
            )
            trainer.train()
    with measured(figures, "plain Trainer"):
        args = arguments(folder, TrainingArguments)
        Trainer(bert(), args, train_dataset=stored, processing_class=tokenizer()).train()
    return figures


def order(folder: Path, rows: int) -> Figures:
    """Lengths, the order of an epoch, and the way to its last batch, as when a run is resumed there."""
    figures: Figures = {}
    stored = on_disk(folder, rows)
    shuffled = stored.shuffle(seed=1)
    with measured(figures, "lengths, stored"):
        lengths = example_lengths(stored)
    with measured(figures, "lengths, shuffled"):
        example_lengths(shuffled)
    sampler = LengthBucketSampler(lengths, 8, 0, lambda: 0)
    with measured(figures, "first index of an epoch"):
        next(iter(sampler))
    loader = DataLoader(range(rows), batch_size=8, sampler=sampler)
    with measured(figures, "last batch of an epoch"):
        next(iter(skip_first_batches(loader, len(loader) - 1)))
    return figures


def matching(folder: Path, rows: int) -> Figures:
    """Whether the teacher read these rows, which is asked before a training with its recorded outputs."""
    figures: Figures = {}
    place = folder / "labeled"
    label_transfer_set(on_disk(folder, 10_000), bert(1), tokenizer(), place, disable_tqdm=True, batch_size=512)
    stored = datasets.concatenate_datasets([load_teacher_outputs(place)] * (rows // 10_000))
    shuffled = stored.shuffle(seed=1)
    for name, given in {"stored": stored, "shuffled": shuffled}.items():
        with measured(figures, name):
            found = _others(given, TEACHER_PROVENANCE)
        assert not len(found)
    return figures


def labeling(folder: Path, rows: int) -> Figures:
    """Labeling to a folder, the same again, and reading."""
    figures: Figures = {}
    place, given = folder / f"labeled_{rows}", on_disk(folder, rows)
    shutil.rmtree(place, ignore_errors=True)
    for name in ("label", "label again, all there"):
        with measured(figures, name):
            label_transfer_set(given, bert(1), tokenizer(), place, disable_tqdm=True, batch_size=512)
    with measured(figures, "load"):
        load_teacher_outputs(place)
    figures["files"] = {"count": len(list(place.glob("shard-*.arrow")))}
    return figures


def hygiene(folder: Path, rows: int) -> Figures:
    """Texts of evaluation sets taken out of a corpus, and hashes of rows."""
    figures: Figures = {}
    texts = datasets.Dataset(pa.table({"text": pa.array([f"W{row % 995} text  number {row}" for row in range(rows)])}))
    evaluated = [f"w5 text number {row}" for row in range(0, 1000)]
    for name, given in {"texts, stored": texts, "texts, shuffled": texts.shuffle(seed=1)}.items():
        with measured(figures, name):
            without_texts_of(given, evaluated)
    stored = on_disk(folder, rows)
    with measured(figures, "hash of the rows"):
        for block in RowBlocks(stored, 4096):
            table_sha256(block.table)
    with measured(figures, "hash of 10,000 evaluated rows"):
        rows_sha256(stored.select(range(10_000)))
    return figures


def evaluation(folder: Path, rows: int) -> Figures:
    """`evaluate`: plain, with a live teacher, and with its recorded outputs."""
    figures: Figures = {}
    given = made_rows(rows)
    common = dict(processing_class=tokenizer(), eval_dataset=given)
    args = dict(per_device_eval_batch_size=64)
    plain = Trainer(bert(), arguments(folder, TrainingArguments, **args), **common)
    taught = DistillationTrainer(bert(), arguments(folder, **args), **common, teacher_model=bert(1))
    for name, trainer in {"plain Trainer": plain, "live teacher": taught}.items():
        with measured(figures, name):
            trainer.evaluate()
    teacher = bert(1).eval()
    batches = [plain.data_collator(given[start : start + 64]) for start in range(0, 6400, 64)]
    with measured(figures, "forward passes of the teacher alone, 6,400 rows"), torch.no_grad():
        for batch in batches:
            teacher(**batch)
    labeled = label_transfer_set(given, bert(1), tokenizer(), disable_tqdm=True, batch_size=512)
    recorded = DistillationTrainer(
        bert(), arguments(folder, **args), train_dataset=labeled, eval_dataset=labeled, processing_class=tokenizer()
    )
    with measured(figures, "recorded outputs"):
        recorded.evaluate()
    return figures


def packing(folder: Path, megabytes: int) -> Figures:
    """A text, cut into sequences of 128 tokens."""
    figures: Figures = {}
    words = [f"w{index}" for index in np.random.default_rng(0).integers(2, WORDS, 250)]
    text = " ".join(words)
    texts = datasets.Dataset(pa.table({"text": pa.array([text] * (megabytes * 1_000_000 // len(text)))}))
    texts.save_to_disk(folder / "texts")
    with measured(figures, "pack"):
        made = packed(datasets.load_from_disk(folder / "texts"), tokenizer(), 128, load_from_cache_file=False)
    figures["sequences"] = {"count": len(made)}
    return figures


def extremes(folder: Path, classes: int) -> Figures:
    """Twenty steps with many classes, and one step of one row of 8,192 tokens."""
    figures: Figures = {}
    for name, rows, sizes, steps in (
        (f"{classes} classes", made_rows(1000, labels=classes), dict(labels=classes), 20),
        ("8,192 tokens", made_rows(4, (8192, 8193)), dict(positions=8192), 1),
    ):
        args = arguments(folder, max_steps=steps, per_device_train_batch_size=1 if steps == 1 else 8)
        with measured(figures, name):
            given = dict(train_dataset=rows, processing_class=tokenizer(), teacher_model=bert(1, **sizes))
            DistillationTrainer(bert(**sizes), args, **given).train()
    return figures


def trajectory(folder: Path, checkpoints: int) -> Figures:
    """A teacher's checkpoints: found and compared, hashed, and loaded one after the other."""
    figures: Figures = {}
    place = folder / "checkpoints"
    shutil.rmtree(place, ignore_errors=True)
    for step in range(1, checkpoints + 1):
        bert(step).save_pretrained(place / f"checkpoint-{step}")
    with measured(figures, "find"):
        found = Trajectory(find_checkpoints(str(place)))
    with measured(figures, "hash"):
        assert found.weights_sha256
    teacher = bert(1)
    with measured(figures, "load each"):
        for index in range(checkpoints):
            found.move_to(index, teacher)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", type=int, default=[10_000, 100_000, 1_000_000], help="multiples of 10,000")
    parser.add_argument("--labeled-rows", nargs="+", type=int, default=[10_000, 100_000])
    parser.add_argument("--evaluated-rows", type=int, default=100_000)
    parser.add_argument("--megabytes", type=int, default=200, help="of text to pack")
    parser.add_argument("--classes", type=int, default=5000)
    parser.add_argument("--checkpoints", type=int, default=200)
    parser.add_argument("--only", nargs="+", help="names of cells")
    parser.add_argument("--folder", type=Path, default=Path("outputs/scale"), help="scratch folder")
    parser.add_argument("--output", type=Path, default=RESULTS / "scale.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    sizes: dict[Callable[[Path, int], Figures], list[int]] = {
        each: options.rows for each in (order, matching, hygiene, first_step)
    }
    sizes |= {labeling: options.labeled_rows, evaluation: [options.evaluated_rows], extremes: [options.classes]}
    sizes |= {trajectory: [options.checkpoints], packing: [options.megabytes]}
    content = {"hardware": hardware_name("cpu"), "versions": package_versions(), "cells": {}}
    if options.output.exists():
        content = json.loads(options.output.read_text())
    for cell, given in sizes.items():
        for size in given:
            name = f"{cell.__name__} {size}"
            if name not in content["cells"] and cell.__name__ in (options.only or [cell.__name__]):
                content["cells"][name] = cell(options.folder, size)
                print(name, json.dumps(content["cells"][name]), flush=True)
                options.output.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()

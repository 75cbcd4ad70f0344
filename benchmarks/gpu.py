"""Everything that a short loan of one H100- or H200-class GPU should answer: python benchmarks/gpu.py [--minutes 8]

Random weights and texts, so that nothing is downloaded. Cells are independent, each in a process of its own, in the order of
their importance. A cell that fails, takes too long or is not possible here is left out, with the reason; so are those that
no time is left for. The JSON is written after every cell. `--miniature` runs all of it small and on the CPU.

masked words    BERT-Base teaches 6 x 768 masked words: tokens/s, and model FLOPs utilization of the published peak (aim 45 %)
classification  a step beside the teacher's forward pass and plain Trainer's step (aim 1.02 x), trainer_overhead.py
attention, relations    a recipe beside its eager implementation (aim 1.5 x, half of the memory), objectives.py
labeling        sentences/s of BERT-Base in bfloat16, and of a loop in single precision
labeling in fp8 the same in 8-bit floating point, with torchao if it is installed, and how far its answers agree
shrinking       pruning beside masking the same units, pruning_speed.py
ZeRO-2          DeepSpeed's ZeRO-2 on one GPU beside none, distributed.py
batches         tokens/s of masked words padded as they come, in buckets of similar length, and packed
compiled        masked words with torch.compile
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import distributed
import numpy as np
import objectives
import pruning_speed
import torch
import transformers
from distributed import RESULTS, StepTimes
from scale import WORDS, made_rows, tokenizer
from torch import Tensor, nn
from trainer_overhead import StepClock, now, quiet, steps_against_floor
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    DataCollatorForLanguageModeling,
    DataCollatorWithPadding,
    PreTrainedTokenizerFast,
)

from hf_distill import (
    DistillationTrainer,
    DistillationTrainingArguments,
    FrozenTeacher,
    PruningDistillTrainer,
    create_student,
    label_transfer_set,
)
from hf_distill.compute.budget import GPU_PEAKS
from hf_distill.compute.peak import measure_peak
from hf_distill.data.corpus import packed
from hf_distill.evaluation.fidelity import fidelity_values
from hf_distill.files import atomic_write
from hf_distill.fingerprints import package_versions
from hf_distill.hardware import hardware_name

WARM_UP = 5  # steps that do not count
MASKED_WORD = "w2"


@dataclass(frozen=True)
class Sizes:
    """What a cell works with.

    Attributes:
        device: Where models run.
        hidden: The hidden size of the teacher and of a student of half of its layers.
        layers: The layers of the teacher.
        vocabulary: The entries of the embeddings.
        batch: Sequences in a batch.
        length: Tokens of the longest sequence.
        steps: Optimizer steps, or batches, of a measurement.
        rounds: Rounds of measurements that take turns.
        rows: Texts to label.
        workers: Processes that load batches.
    """

    device: str = "cuda"
    hidden: int = 768
    layers: int = 12
    vocabulary: int = 30_522
    batch: int = 256
    length: int = 128
    steps: int = 30
    rounds: int = 3
    rows: int = 50_000
    workers: int = 4

    def config(self, layers: int | None = None, **more: Any) -> BertConfig:
        return BertConfig(
            vocab_size=self.vocabulary, hidden_size=self.hidden, num_hidden_layers=layers or self.layers,
            num_attention_heads=self.hidden // 64 or 1, intermediate_size=4 * self.hidden, **more,
        )  # fmt: skip


MINIATURE = Sizes("cpu", 64, 2, WORDS, 4, 32, 16, 1, 64, 0)


def arguments(sizes: Sizes, folder: str, **more: Any) -> DistillationTrainingArguments:
    fixed = dict(
        per_device_train_batch_size=sizes.batch, bf16=True, teacher_dtype="bfloat16", use_cpu=sizes.device == "cpu",
        max_steps=sizes.steps, dataloader_num_workers=sizes.workers,
    )  # fmt: skip
    return DistillationTrainingArguments(**quiet(Path(folder), **(fixed | more)))


def masking_tokenizer() -> PreTrainedTokenizerFast:
    made = tokenizer()
    made.mask_token = MASKED_WORD
    return made


def masked_word_trainer(
    sizes: Sizes, rows: datasets.Dataset, folder: str, callback: Any, **more: Any
) -> DistillationTrainer:
    teacher = BertForMaskedLM(sizes.config()).to(sizes.device)
    student = BertForMaskedLM(sizes.config(sizes.layers // 2)).to(sizes.device)
    words = masking_tokenizer()
    return DistillationTrainer(
        student, arguments(sizes, folder, recipe="vanilla_kd", **more), DataCollatorForLanguageModeling(words),
        train_dataset=rows, teacher_model=teacher, processing_class=words, callbacks=[callback],
    )  # fmt: skip


def equal_rows(sizes: Sizes) -> datasets.Dataset:
    """Sequences of full length, as many as all steps need."""
    shape = (sizes.batch * sizes.steps, sizes.length)
    tokens = np.random.default_rng(0).integers(WARM_UP, WORDS, shape)
    return datasets.Dataset.from_dict({"input_ids": list(tokens)})


def masked_words(sizes: Sizes, **more: Any) -> dict[str, Any]:
    times = StepTimes()
    with tempfile.TemporaryDirectory() as folder:
        trainer = masked_word_trainer(sizes, equal_rows(sizes), folder, times, **more)
        trainer.train()
    flops = trainer.state.total_flos / sizes.steps
    ends = zip(times.ends[WARM_UP:], times.ends[WARM_UP + 1 :], strict=False)
    seconds = statistics.median(later - earlier for earlier, later in ends)
    measured = measure_peak(sizes.device, torch.bfloat16)
    found = {
        "step_ms": 1000 * seconds,
        "tokens_per_second": sizes.batch * sizes.length / seconds,
        "step_flops": flops,
        "measured_peak_flops_per_second": measured,
        "utilization_of_measured_peak": flops / seconds / measured,
    }
    published = published_peak(hardware_name(sizes.device))
    return found | ({} if published is None else {"utilization": flops / seconds / published})


def published_peak(name: str) -> float | None:
    """FLOPs per second in bfloat16 of the GPU of a name such as "NVIDIA H100 PCIe"; None if unknown."""
    found = [gpu for gpu in GPU_PEAKS if all(part in name.replace(" ", "") for part in gpu.split("-"))]
    return GPU_PEAKS[max(found, key=len)] if found else None


def compiled(sizes: Sizes) -> dict[str, Any]:
    return masked_words(sizes, torch_compile=True)


def classifier(sizes: Sizes, layers: int | None = None) -> BertForSequenceClassification:
    torch.manual_seed(0)
    return BertForSequenceClassification(sizes.config(layers, num_labels=2))


def classification(sizes: Sizes) -> dict[str, Any]:
    """Steps of Trainer's usual batches of 32."""
    rows = made_rows(32 * sizes.steps, (sizes.length // 4, sizes.length))
    with tempfile.TemporaryDirectory() as folder:
        teacher = classifier(sizes)
        world = {
            "folder": Path(folder), "teacher": teacher, "train": rows, "collate": DataCollatorWithPadding(tokenizer()),
            "student": lambda: create_student(f"{sizes.layers // 2}/{sizes.hidden}", teacher, "truncated"),
        }  # fmt: skip
        return steps_against_floor(world, sizes.device, sizes.rounds, sizes.steps)


def recipe(name: str) -> Callable[[Sizes], dict[str, Any]]:
    """Of Trainer's step and the eager implementation, time and memory."""

    def cell(sizes: Sizes) -> dict[str, Any]:
        small = sizes == MINIATURE
        batch = dict(rows=2, length=16) if small else dict(rows=32, length=sizes.length)
        return objectives.measure(
            argparse.Namespace(device=sizes.device, rounds=sizes.rounds, small=small, **batch), name
        )

    return cell


def batches_by_length(sizes: Sizes) -> Iterator[dict[str, Tensor]]:
    rows, collate = made_rows(sizes.rows, (sizes.length // 8, sizes.length)), DataCollatorWithPadding(tokenizer())
    order = np.argsort([len(each) for each in rows["input_ids"]])[::-1]
    inputs = rows.remove_columns("labels")
    for start in range(0, min(len(rows), sizes.batch * sizes.steps), sizes.batch):
        batch = collate(inputs.select(order[start : start + sizes.batch]).to_list())
        yield {name: value.to(sizes.device) for name, value in batch.items()}


def rate(model: nn.Module, batches: Sequence[dict[str, Tensor]], device: str) -> tuple[float, Tensor]:
    """Texts per second of forward passes alone, and the logits."""
    found: list[Tensor] = []
    for timed in (False, True):  # a warm-up first
        begin, found = now(device), []
        with torch.inference_mode():
            for batch in batches if timed else batches[:2]:
                found.append(model(**batch).logits.float())
        seconds = now(device) - begin
    logits = torch.cat(found)
    return len(logits) / seconds, logits


def labeling(sizes: Sizes) -> dict[str, Any]:
    rows, teacher = made_rows(sizes.rows, (sizes.length // 8, sizes.length)), classifier(sizes).to(sizes.device).eval()
    collate, naive = (
        DataCollatorWithPadding(tokenizer()),
        made_rows(sizes.rows // 10 or 1, (sizes.length // 8, sizes.length)),
    )
    half, options = FrozenTeacher(teacher, "bfloat16"), dict(batch_size=sizes.batch, disable_tqdm=True)
    label_transfer_set(naive, half, collate, **options)  # a warm-up
    begin = now(sizes.device)
    label_transfer_set(rows, half, collate, **options)
    ours, begin = now(sizes.device) - begin, now(sizes.device)
    with torch.no_grad():
        for start in range(0, len(naive), 32):
            batch = collate(naive.select(range(start, min(start + 32, len(naive)))).to_list())
            teacher(**batch.to(sizes.device)).logits.cpu()
    theirs = now(sizes.device) - begin
    found = {"label_transfer_set in bfloat16": len(rows) / ours, "naive loop": len(naive) / theirs}
    return {"rows_per_second": found, "speedup": found["label_transfer_set in bfloat16"] / found["naive loop"]}


def labeling_in_fp8(sizes: Sizes) -> dict[str, Any]:
    from torchao.quantization import Float8DynamicActivationFloat8WeightConfig, PerRow, quantize_

    batches, teacher = list(batches_by_length(sizes)), classifier(sizes).to(sizes.device).eval()
    exact = rate(teacher, batches, sizes.device)[1]
    half = teacher.to(torch.bfloat16)
    found = {"bfloat16": rate(half, batches, sizes.device)}
    quantize_(half.bert.encoder, Float8DynamicActivationFloat8WeightConfig(granularity=PerRow()))
    found["fp8"] = rate(half, batches, sizes.device)
    report = {}
    for name, (speed, logits) in found.items():
        values = fidelity_values(logits, exact, "single_label_classification")
        report[name] = {"rows_per_second": speed} | {each: float(value.mean()) for each, value in values.items()}
    return report


def shrinking(sizes: Sizes) -> dict[str, Any]:
    """A student that loses half of its width."""
    rows, width = made_rows(32 * sizes.steps, (sizes.length // 4, sizes.length)), sizes.hidden // 2
    words, found = tokenizer(), {}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(2):  # the first is a warm-up
            for name, kind in {"shrinking": PruningDistillTrainer, "masking": pruning_speed.MaskingTwin}.items():
                splits = {"train": rows, "test": rows.select(range(32))}
                given = kind, classifier(sizes), words, splits, Path(folder), sizes.steps, 0, width
                found[name] = pruning_speed.train(*given)[1]
    return found | {"time_ratio": found["shrinking"]["seconds"] / found["masking"]["seconds"]}


def zero_2(sizes: Sizes) -> dict[str, Any]:
    rounds = [
        {name: distributed.measured(name, 1, sizes.device) for name in ("one process", "ZeRO-2")}
        for _ in range(sizes.rounds)
    ]
    ratios = {
        figure: statistics.median(each["ZeRO-2"][figure] / each["one process"][figure] for each in rounds)
        for figure in rounds[0]["ZeRO-2"]
    }
    return {"ratios": ratios, "rounds": rounds}


def batches(sizes: Sizes) -> dict[str, Any]:
    """Tokens that are no padding, per second of an epoch."""
    generator = np.random.default_rng(0)
    lengths = generator.integers(sizes.length // 16, sizes.length, sizes.batch * sizes.steps)
    texts = [" ".join(f"w{number}" for number in generator.integers(WARM_UP, WORDS, count)) for count in lengths]
    corpus, words = datasets.Dataset.from_dict({"text": texts}), masking_tokenizer()
    apart = corpus.map(lambda rows: words(rows["text"]), batched=True, remove_columns="text")
    ways = {
        "as they come": (apart, False),
        "bucketed": (apart, True),
        "packed": (packed(corpus, words, sizes.length), False),
    }
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(sizes.rounds + 1):
        for name, (rows, bucketed) in ways.items():
            clock, options = StepClock(sizes.device), dict(max_steps=-1, num_train_epochs=1, length_bucketing=bucketed)
            with tempfile.TemporaryDirectory() as folder:
                masked_word_trainer(sizes, rows.select_columns("input_ids"), folder, clock, **options).train()
            speeds[name].append(sum(map(len, rows["input_ids"])) / clock.seconds)
            if turn == 0:
                speeds[name].clear()  # warm-up
    pairs = zip(speeds["packed"], speeds["bucketed"], strict=True)
    return {"tokens_per_second": speeds, "packed_to_bucketed": statistics.median(one / other for one, other in pairs)}


CELLS: dict[str, Callable[[Sizes], dict[str, Any]]] = {
    "masked words": masked_words,
    "classification": classification,
    "attention": recipe("tinybert_general"),
    "relations": recipe("minilmv2"),
    "labeling": labeling,
    "labeling in fp8": labeling_in_fp8,
    "shrinking": shrinking,
    "ZeRO-2": zero_2,
    "batches": batches,
    "compiled": compiled,
}  # the most important first


def attempt(command: Sequence[str], seconds: float) -> dict[str, Any]:
    """What a cell reports from a process of its own, or why it does not, with the seconds it took."""
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        environment = os.environ | {"GPU_REPORT": str(report)}
        pipes = dict(stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True)
        process = subprocess.Popen(command, env=environment, **pipes)
        try:
            errors = process.communicate(timeout=seconds)[1].strip().splitlines()
            reason = errors[-1] if errors else f"exit status {process.returncode}"
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # with the processes that it started
            process.communicate()
            reason = f"not finished after {seconds:.0f} seconds"
        found = json.loads(report.read_text()) if report.exists() else {"left_out": reason[-500:]}
    return found | {"wall_seconds": round(time.monotonic() - begin, 1)}


def work(cell: str, sizes: Sizes) -> None:
    """Run one cell and write its report."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    if sizes.device == "cpu":
        torch.set_num_threads(1)
    report = CELLS[cell](sizes)
    atomic_write(Path(os.environ["GPU_REPORT"]), json.dumps(report))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=8, help="of all cells; those without time are left out")
    parser.add_argument("--cell-seconds", type=float, default=100, help="of one cell")
    parser.add_argument("--miniature", action="store_true", help="everything small, on the CPU")
    parser.add_argument("--only", nargs="+", choices=CELLS, default=list(CELLS), help="cells")
    parser.add_argument("--output", type=Path, default=RESULTS / "gpu.json")
    parser.add_argument("--work", choices=CELLS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    sizes = MINIATURE if options.miniature else Sizes()
    if options.work:
        return work(options.work, sizes)
    if sizes.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no GPU here; --miniature runs on the CPU")
    until = time.monotonic() + 60 * options.minutes
    content = {
        "hardware": hardware_name(sizes.device),
        "versions": package_versions(),
        "sizes": vars(sizes),
        "cells": {},
    }
    for cell in options.only:
        left = until - time.monotonic()
        command = [sys.executable, __file__, "--work", cell, *(["--miniature"] if options.miniature else [])]
        found = attempt(command, min(left, options.cell_seconds)) if left > 0 else {"left_out": "no time was left"}
        content["cells"][cell] = found
        print(cell, json.dumps(found), flush=True)
        atomic_write(options.output, json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()

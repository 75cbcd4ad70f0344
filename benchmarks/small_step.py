"""What a small student's step consists of, beside plain Trainer's: python benchmarks/small_step.py [--shape 2/128 3/384]

Students distilled on recorded outputs of all-MiniLM-L6-v2 for movie reviews, on one thread of a CPU, with batches of 32 that are
the same for all: plain Trainer on labels with TrainingArguments' defaults, the recipe of transformers' documentation with its
live teacher, and DistillationTrainer in single precision, in bfloat16 autocast, and so with a student whose vocabulary is trimmed to
the reviews. Medians of the CPU seconds of a step, so that other processes do not count, in rounds that take turns; the logits
after all steps beside those in single precision; and, of torch.profiler, the shares of a step.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import datasets
import torch
import transformers
from torch import Tensor
from torch.profiler import ProfilerActivity, profile, record_function
from trainer_overhead import BATCH_SIZE, RESULTS, DocumentationRecipe, fresh, quiet
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainerCallback,
)
from transformers import TrainingArguments as Arguments
from transformers.trainer_utils import set_seed

from hf_distill import (
    DistillationTrainer,
    DistillationTrainingArguments,
    FrozenTeacher,
    create_student,
    label_transfer_set,
)
from hf_distill.fingerprints import package_versions
from hf_distill.hardware import hardware_name
from hf_distill.pruning import trim_vocabulary
from hf_distill.pruning.vocabulary import vocabulary_map
from hf_distill.resources.minilm import minilm_path
from hf_distill.resources.sentiment import load_sentiment

WARM_UP = 3  # steps that are not profiled
SINGLE = "recorded outputs, single precision"
OPERATORS = {
    "matrix products": ("aten::mm", "aten::addmm", "aten::bmm"),
    "random numbers of dropout": ("aten::bernoulli_",),
}  # by their own time
PARTS = {
    "gradient of the embeddings": "aten::embedding_dense_backward",
    "clipping gradients": "clipping",
    "optimizer": "Optimizer.step",
    "loading batches": "enumerate(DataLoader)",
}  # with what they call


class CpuClock(TrainerCallback):
    """CPU seconds of the process at the end of every step."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, args, state, control, **kwargs):
        self.ends.append(time.process_time())

    @property
    def step_ms(self) -> float:
        steps = zip(self.ends, self.ends[1:], strict=False)
        return 1000 * statistics.median(later - earlier for earlier, later in steps)


class World:
    """A student and its rows, once with the whole vocabulary and once with that of the reviews alone."""

    def __init__(self, shape: str, steps: int, folder: Path):
        tokenizer = AutoTokenizer.from_pretrained(minilm_path())
        set_seed(0)
        self.folder, self.steps = folder, steps
        self.teacher = AutoModelForSequenceClassification.from_pretrained(minilm_path()).eval()
        initialization = "truncated" if shape.endswith(f"/{self.teacher.config.hidden_size}") else "embeddings"
        whole, reviews = create_student(shape, self.teacher, initialization), load_sentiment()
        trimmed, its_tokenizer = trim_vocabulary(whole, tokenizer, reviews["train"]["text"][:])
        rows = (
            reviews["train"].select(range(BATCH_SIZE * steps)).remove_columns("rating").rename_column("label", "labels")
        )
        self.students, words = {"whole": whole, "trimmed": trimmed}, {"whole": tokenizer, "trimmed": its_tokenizer}
        self.collators = {name: DataCollatorWithPadding(each) for name, each in words.items()}
        self.rows = {name: self._labeled(rows, words[name], tokenizer) for name in words}
        self.labels = self.rows["whole"].select_columns(["input_ids", "attention_mask", "token_type_ids", "labels"])

    def _labeled(self, rows: datasets.Dataset, words: Any, tokenizer: Any) -> datasets.Dataset:
        """The rows in the ids of a tokenizer, with the outputs of the teacher, which has the ids of another."""
        encoded = rows.map(
            lambda each: words(each["text"], truncation=True, max_length=128), batched=True, remove_columns="text"
        )
        teacher = FrozenTeacher(self.teacher, "float32", token_ids=vocabulary_map(words, tokenizer))
        return label_transfer_set(encoded, teacher, DataCollatorWithPadding(words), disable_tqdm=True)

    def trainer(self, kind: type, vocabulary: str = "whole", **options: Any) -> Trainer:
        ours = kind is DistillationTrainer
        given = dict(max_steps=self.steps, warmup_steps=0, train_sampling_strategy="sequential", use_cpu=True) | options
        given |= dict(length_bucketing=False) if ours else {}
        args = (DistillationTrainingArguments if ours else Arguments)(**quiet(self.folder, **given))
        student, more = self.students[vocabulary], {"teacher": self.teacher} if kind is DocumentationRecipe else {}
        model = fresh(lambda: copy.deepcopy(student), "cpu")
        rows = self.rows[vocabulary] if ours else self.labels
        return kind(
            model, args, train_dataset=rows, data_collator=self.collators[vocabulary], callbacks=[CpuClock()], **more
        )


def ways_of(world: World) -> dict[str, Callable[[], Trainer]]:
    return {
        "plain Trainer on labels": lambda: world.trainer(Trainer),
        "documentation's recipe, live teacher": lambda: world.trainer(DocumentationRecipe),
        SINGLE: lambda: world.trainer(DistillationTrainer, bf16=False),
        "recorded outputs, bfloat16": lambda: world.trainer(DistillationTrainer, bf16=True),
        "recorded outputs, bfloat16, optimizer not fused": lambda: world.trainer(
            DistillationTrainer, bf16=True, optim="adamw_torch"
        ),
        "recorded outputs, bfloat16, trimmed vocabulary": lambda: world.trainer(
            DistillationTrainer, "trimmed", bf16=True
        ),
    }


def logits_after(trainer: Trainer) -> Tensor:
    """The logits of the first rows, in single precision."""
    inputs = trainer.train_dataset.select(range(BATCH_SIZE)).select_columns(["input_ids", "attention_mask"])
    model = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False).eval()
    with torch.inference_mode():
        return model(**trainer.data_collator(inputs.to_list())).logits


def step_times(world: World, rounds: int) -> dict[str, Any]:
    times: dict[str, list[float]] = {name: [] for name in ways_of(world)}
    logits: dict[str, Tensor] = {}
    for turn in range(rounds + 1):
        for name, make in ways_of(world).items():
            trainer = make()
            trainer.train()
            clock = next(each for each in trainer.callback_handler.callbacks if isinstance(each, CpuClock))
            times[name].append(clock.step_ms)
            logits[name] = logits_after(trainer)
            if turn == 0:
                times[name].clear()  # warm-up
    plain = next(iter(times.values()))
    found = {}
    for name, own in times.items():
        ratios = [mine / its for mine, its in zip(own, plain, strict=True)]
        found[name] = {"step_ms": own, "ratio_to_plain": {"median": statistics.median(ratios), "rounds": ratios}}
        if name.startswith("recorded"):
            found[name]["largest_difference_of_logits"] = float((logits[name] - logits[SINGLE]).abs().max())
        print(name, json.dumps(found[name]), flush=True)
    found["spread of the logits"] = float(logits[SINGLE].std())
    return found


class ProfiledSteps(TrainerCallback):
    """Profiles all steps but the first ones."""

    def __init__(self) -> None:
        self.profiler, self._open = profile(activities=[ProfilerActivity.CPU]), ExitStack()

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == WARM_UP:
            self._open.enter_context(self.profiler)
            self._open.enter_context(record_function("all"))

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == state.max_steps:
            self._open.close()


def shares(trainer: Trainer) -> dict[str, float]:
    """What a step consists of, as shares of the steps' time; the rest is other operators."""
    clip, profiled = trainer.accelerator.clip_grad_norm_, ProfiledSteps()

    def recorded(*given: Any, **more: Any) -> Any:
        with record_function("clipping"):
            return clip(*given, **more)

    trainer.accelerator.clip_grad_norm_ = recorded
    trainer.add_callback(profiled)
    trainer.train()
    events = profiled.profiler.key_averages()
    whole = next(each.cpu_time_total for each in events if each.key == "all")
    own = {each.key: each.self_cpu_time_total for each in events}
    found = {name: sum(own.get(key, 0) for key in keys) for name, keys in OPERATORS.items()}
    found |= {
        name: sum(each.cpu_time_total for each in events if each.key.startswith(key)) for name, key in PARTS.items()
    }
    found["Python"] = own["all"]
    found["other operators"] = whole - sum(found.values())
    return {name: round(value / whole, 4) for name, value in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", nargs="+", default=["2/128", "3/384"], help="students, layers/hidden size")
    parser.add_argument("--steps", type=int, default=24, help="optimizer steps of a measurement")
    parser.add_argument("--rounds", type=int, default=3, help="rounds after a warm-up")
    parser.add_argument("--folder", type=Path, default=Path("outputs/small_step"), help="scratch folder")
    parser.add_argument("--output", type=Path, default=RESULTS / "small_step_cpu.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    content: dict[str, Any] = {"hardware": hardware_name("cpu"), "versions": package_versions(), "steps": options.steps}
    for shape in options.shape:
        world = World(shape, options.steps, options.folder)
        vocabularies = {name: student.config.vocab_size for name, student in world.students.items()}
        content[shape] = {"vocabularies": vocabularies, "times": step_times(world, options.rounds)}
        content[shape]["shares"] = {name: shares(make()) for name, make in ways_of(world).items()}
        print(shape, json.dumps(content[shape]["shares"], indent=2), flush=True)
        options.output.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()

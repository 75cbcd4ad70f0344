"""What each recipe costs beside the models it runs: python benchmarks/objectives.py [--small] [--device cuda]

A masked-language-model teacher and student (12 and 6 layers of 768, sequences of 128; --small: 4 and 2 of 256), fixed
batches. Per recipe three ways of making forward, loss and backward, in turn, round after round, in one process:
`ours` is DistillationTrainer's compute_loss; `floor` the teacher's forward and the student's forward and backward
without head or objective; `eager` the common way, eager attention with `output_attentions`, all hidden states and the
logits of the full vocabulary at every position. Peak memory is measured in a process of its own for each.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import datasets
import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional
from transformers import BertConfig, BertForMaskedLM, DefaultDataCollator

from hf_distill import DistillationTrainer, DistillationTrainingArguments
from hf_distill.fingerprints import package_versions
from hf_distill.hardware import hardware_name
from hf_distill.recipes import RECIPES

RESULTS = Path(__file__).with_name("results") / "objectives.json"
MASKED = 0.15
WAYS = ("ours", "floor", "eager")
OF_HEADS = [name for name in RECIPES if name != "embedding"]


def sizes(small: bool) -> dict[str, int]:
    """Hidden size, layers of teacher and student, and vocabulary."""
    return {"hidden": 256, "teacher": 4, "student": 2} if small else {"hidden": 768, "teacher": 12, "student": 6}


def model_of(hidden: int, layers: int, attention: str, device: str, dtype: torch.dtype) -> BertForMaskedLM:
    torch.manual_seed(layers)
    config = BertConfig(
        hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=hidden // 64, intermediate_size=4 * hidden,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, attn_implementation=attention,
    )  # fmt: skip
    return BertForMaskedLM(config).to(device, dtype)


def batch_of(rows: int, length: int, device: str) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(1000, 30_000, (rows, length), generator=generator)
    masked = torch.rand(rows, length, generator=generator) < MASKED
    lengths = torch.randint(length // 2, length + 1, (rows, 1), generator=generator)
    valid = torch.arange(length) < lengths
    labels = torch.where(masked & valid, ids, -100)
    batch = {"input_ids": ids, "attention_mask": valid.long(), "labels": labels}
    return {name: tensor.to(device) for name, tensor in batch.items()}


class Bench:
    """Teacher, student and one batch, and the three ways of working with them."""

    def __init__(self, options: argparse.Namespace, recipe: str, way: str):
        self.device, self.recipe = options.device, recipe
        shape = sizes(options.small)
        dtype = torch.bfloat16 if options.device == "cuda" else torch.float32
        attention = "eager" if way == "eager" else "sdpa"
        self.teacher = model_of(shape["hidden"], shape["teacher"], attention, self.device, dtype).eval()
        self.student = model_of(shape["hidden"], shape["student"], attention, self.device, dtype).train()
        self.batch = batch_of(options.rows, options.length, self.device)
        self.step: Callable[[], Tensor] = getattr(self, way)
        if way == "ours":
            self.trainer = self._trainer()
        elif way == "eager":
            self.captured = {name: self._capture(model) for name, model in self._models().items()}

    def once(self) -> float:
        """Seconds of one forward, loss and backward."""
        synchronize(self.device)
        begin = time.perf_counter()
        self.step().backward()
        synchronize(self.device)
        seconds = time.perf_counter() - begin
        self.student.zero_grad()
        return seconds

    def ours(self) -> Tensor:
        return self.trainer.compute_loss(self.student, self.batch)

    def floor(self) -> Tensor:
        inputs = {name: value for name, value in self.batch.items() if name != "labels"}
        with torch.inference_mode():
            self.teacher.bert(**inputs)
        return self.student.bert(**inputs).last_hidden_state.float().square().mean()

    def eager(self) -> Tensor:
        labels = self.batch["labels"]
        inputs = {name: value for name, value in self.batch.items() if name != "labels"}
        asked = dict(output_attentions=True, output_hidden_states=True)
        with torch.no_grad():
            teacher = self.teacher(**inputs, **asked)
        student = self.student(**inputs, **asked)
        arguments = RECIPES[self.recipe].arguments
        loss = 0 * student.logits.float().mean()
        counted = labels != -100
        if arguments["soft_label_weight"]:
            both = (functional.log_softmax(side.logits.float(), dim=-1) for side in (student, teacher))
            divergence = functional.kl_div(*both, reduction="none", log_target=True).sum(-1)
            loss = loss + arguments["soft_label_weight"] * divergence[counted].mean()
        if arguments["hard_label_weight"]:
            hard = functional.cross_entropy(student.logits.float().flatten(0, 1), labels.flatten())
            loss = loss + arguments["hard_label_weight"] * hard
        every = len(teacher.attentions) // len(student.attentions)
        if arguments.get("hidden_state_weight"):
            pairs = zip(student.hidden_states[1:], teacher.hidden_states[every::every], strict=True)
            loss = loss + sum(functional.mse_loss(s.float(), t.float()) for s, t in pairs)
        if arguments.get("embedding_weight"):
            loss = loss + functional.mse_loss(student.hidden_states[0].float(), teacher.hidden_states[0].float())
        if arguments.get("attention_weight"):
            pairs = zip(student.attentions, teacher.attentions[every - 1 :: every], strict=True)
            loss = loss + sum(functional.mse_loss(s.float(), t.float()) for s, t in pairs)
        if arguments.get("relation_weight"):
            loss = loss + self._eager_relations(arguments["relations"].split(","))
        return loss

    def _eager_relations(self, names: list[str]) -> Tensor:
        heads, total = self.teacher.config.num_attention_heads, 0
        for name in names:
            logs = []
            for model in ("student", "teacher"):
                vectors = self.captured[model][name].float().unflatten(-1, (heads, -1)).transpose(1, 2)
                logs.append(functional.log_softmax(vectors @ vectors.mT / vectors.shape[-1] ** 0.5, dim=-1))
            total = total + functional.kl_div(*logs, reduction="none", log_target=True).sum(-1).mean()
        return total

    def _capture(self, model: nn.Module) -> dict[str, Tensor]:
        """What the last layer's query, key and value projections gave, as forward hooks see it."""
        found = {}
        attention = model.bert.encoder.layer[-1].attention.self
        for name, module in (("queries", attention.query), ("keys", attention.key), ("values", attention.value)):
            module.register_forward_hook(lambda module, args, output, name=name: found.update({name: output}))
        return found

    def _models(self) -> dict[str, nn.Module]:
        return {"student": self.student, "teacher": self.teacher}

    def _trainer(self) -> DistillationTrainer:
        rows = datasets.Dataset.from_dict({name: tensor.tolist() for name, tensor in self.batch.items()})
        args = DistillationTrainingArguments(
            tempfile.mkdtemp(), recipe=self.recipe, report_to="none", use_cpu=self.device == "cpu", bf16=False,
            teacher_dtype="bfloat16" if self.device == "cuda" else "float32",
        )  # fmt: skip
        return DistillationTrainer(
            self.student, args, DefaultDataCollator(), train_dataset=rows, teacher_model=self.teacher
        )


def synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def peak_memory(options: argparse.Namespace, recipe: str, way: str) -> None:
    """Print, as JSON, the bytes by which the peak of three steps exceeds what the models need at rest."""
    bench = Bench(options, recipe, way)
    if options.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        at_rest = torch.cuda.memory_allocated()
    else:
        Path("/proc/self/clear_refs").write_text("5")  # Linux: forget the peak so far
        at_rest = resident_bytes("VmRSS")
    for _ in range(3):
        bench.once()
    peak = torch.cuda.max_memory_allocated() if options.device == "cuda" else resident_bytes("VmHWM")
    print(json.dumps(peak - at_rest))


def resident_bytes(name: str) -> int:
    """VmRSS, what this process holds now, or VmHWM, the most it held."""
    status = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in status if line.startswith(f"{name}:")).split()[1])


def measured_memory(options: argparse.Namespace, recipe: str, way: str) -> int:
    given = ["--device", options.device, "--rows", str(options.rows), "--length", str(options.length)]
    given += ["--small"] if options.small else []
    command = [sys.executable, __file__, *given, "--memory_of", recipe, way]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def measure(options: argparse.Namespace, recipe: str) -> dict[str, float]:
    """Medians of time per step and of the rounds' ratios, and peak memory, for the three ways."""
    benches = {way: Bench(options, recipe, way) for way in WAYS}
    for bench in benches.values():
        bench.once()
    rounds = [{way: bench.once() for way, bench in benches.items()} for _ in range(options.rounds)]
    memory = {way: measured_memory(options, recipe, way) for way in WAYS}
    found = {f"{way}_ms": 1000 * statistics.median(each[way] for each in rounds) for way in WAYS}
    found |= {f"{way}_peak_mb": memory[way] / 1e6 for way in WAYS}
    found["ratio_to_floor"] = statistics.median(each["ours"] / each["floor"] for each in rounds)
    found["faster_than_eager"] = statistics.median(each["eager"] / each["ours"] for each in rounds)
    found["memory_ratio_to_eager"] = memory["ours"] / max(memory["eager"], 1)
    return {name: round(value, 3) for name, value in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="4 and 2 layers of 256")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="cuda: everything in bfloat16")
    parser.add_argument("--rows", type=int, default=8, help="sequences in the batch")
    parser.add_argument("--length", type=int, default=128, help="tokens of the longest sequence")
    parser.add_argument("--rounds", type=int, default=5, help="steps of each way, in turn")
    parser.add_argument("--recipes", nargs="+", default=OF_HEADS, choices=OF_HEADS, help="which recipes")
    parser.add_argument("--memory_of", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    if options.memory_of:
        peak_memory(options, *options.memory_of)
        return
    found = {}
    for recipe in options.recipes:
        found[recipe] = measure(options, recipe)
        print(recipe, found[recipe], flush=True)
    conditions = {
        **sizes(options.small), "rows": options.rows, "length": options.length, "rounds": options.rounds,
        "masked": MASKED, "dtype": "bfloat16" if options.device == "cuda" else "float32",
        "hardware": hardware_name(options.device), "versions": package_versions(),
    }  # fmt: skip
    path = RESULTS.with_stem(f"objectives_{options.device}{'_small' if options.small else ''}")
    path.write_text(json.dumps({"conditions": conditions, "recipes": found}, indent=2) + "\n")


if __name__ == "__main__":
    main()

"""What a DistillationTrainer step costs beyond its floor, and what an epoch costs beside other ways to write it.

    python benchmarks/trainer_overhead.py [--device cuda] [--shape 2/128]

1. Floor. On the same padded batches, in the same precision: a step of DistillationTrainer against the teacher's forward
   pass alone plus a step of plain Trainer on labels. Rounds alternate; the ratio of the round medians is reported.
2. The same work written with the 30-line compute_loss recipe of transformers' documentation, and with TextBrewer 0.2.1
   (pip install textbrewer tensorboardX), when that is installed.
3. One epoch as a user gets it: DistillationTrainingArguments' defaults against the recipe with TrainingArguments'
   defaults, same examples, batch 32, live teacher; seconds, padding and quality.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import torch
import transformers
from torch import nn
from torch.nn import functional
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainerCallback,
)
from transformers import TrainingArguments as Arguments
from transformers.trainer_utils import set_seed

from hf_distill import DistillationTrainer, DistillationTrainingArguments, create_student
from hf_distill.compute.precision import fast_bfloat16
from hf_distill.evaluation.metrics import glue_metric
from hf_distill.fingerprints import package_versions
from hf_distill.hardware import hardware_name
from hf_distill.resources.minilm import minilm_path
from hf_distill.resources.sentiment import load_sentiment

RESULTS = Path(__file__).with_name("results")
BATCH_SIZE = 32


class DocumentationRecipe(Trainer):
    """The shape of the recipe in transformers' documentation: teacher in no_grad, KL plus the labels' loss."""

    def __init__(self, *args: Any, teacher: nn.Module, temperature: float = 1.0, weight: float = 1.0, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.teacher = teacher.to(self.args.device).eval()
        self.temperature, self.weight = temperature, weight

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        outputs = model(**inputs)
        with torch.no_grad():
            teacher_outputs = self.teacher(**inputs)
        soft_teacher = functional.softmax(teacher_outputs.logits / self.temperature, dim=-1)
        soft_student = functional.log_softmax(outputs.logits / self.temperature, dim=-1)
        soft = functional.kl_div(soft_student, soft_teacher, reduction="batchmean") * self.temperature**2
        loss = (1.0 - self.weight) * outputs.loss + self.weight * soft
        return (loss, outputs) if return_outputs else loss


class StepClock(TrainerCallback):
    """Seconds from the first step's beginning to the last step's end: what precedes and follows training is left out."""

    def __init__(self, device: str):
        self._device, self._begin, self.seconds = device, None, 0.0

    def on_step_begin(self, args, state, control, **kwargs):
        if self._begin is None:
            self._begin = now(self._device)

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == state.max_steps:
            self.seconds = now(self._device) - self._begin


def now(device: str) -> float:
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter()


def quiet(folder: Path, **more: Any) -> dict[str, Any]:
    fixed = dict(output_dir=str(folder), per_device_train_batch_size=BATCH_SIZE, learning_rate=5e-4, report_to="none")
    return fixed | dict(disable_tqdm=True, save_strategy="no", dataloader_pin_memory=False, logging_steps=1000) | more


def fresh(student: nn.Module, device: str) -> nn.Module:
    set_seed(0)
    return student().to(device)


def steps_against_floor(world: dict[str, Any], device: str, rounds: int, steps: int) -> dict[str, Any]:
    """Milliseconds per step of each way to do the same work on the same batches, in turn."""
    teacher, collate = world["teacher"].to(device), world["collate"]
    rows = world["train"].select(range(BATCH_SIZE * steps))
    bf16 = fast_bfloat16(device)
    dtype = "bfloat16" if bf16 else "float32"
    in_order = dict(max_steps=steps, bf16=bf16, train_sampling_strategy="sequential", use_cpu=device == "cpu")
    teacher_alone = teacher.to(torch.bfloat16) if bf16 else teacher
    batches = [
        {name: value.to(device) for name, value in collate(rows[i : i + BATCH_SIZE]).items() if name != "labels"}
        for i in range(0, len(rows), BATCH_SIZE)
    ]

    def teacher_forward() -> float:
        begin = now(device)
        with torch.inference_mode():
            for batch in batches:
                teacher_alone(**batch)
        return now(device) - begin

    def seconds_of(make: Callable[..., Trainer], arguments: Arguments, **more: Any) -> float:
        clock = StepClock(device)
        model = fresh(world["student"], device)
        make(model, arguments, train_dataset=rows, data_collator=collate, callbacks=[clock], **more).train()
        return clock.seconds

    plain, folder = Arguments(**quiet(world["folder"], **in_order)), world["folder"]
    ours = DistillationTrainingArguments(**quiet(folder, teacher_dtype=dtype, **in_order))
    ways: dict[str, Callable[[], float]] = {
        "teacher_forward": teacher_forward,
        "plain_trainer": lambda: seconds_of(Trainer, plain),
        "distillation_trainer": lambda: seconds_of(DistillationTrainer, ours, teacher_model=teacher_alone),
        "documentation_recipe": lambda: seconds_of(DocumentationRecipe, plain, teacher=teacher_alone),
    }
    if textbrewer_available():
        ways["textbrewer"] = lambda: textbrewer_steps(
            fresh(world["student"], device), teacher_alone, batches, folder, device
        )
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, run in ways.items():
            seconds[name].append(run())
            if turn == 0:
                seconds[name].clear()  # warm-up
    milliseconds = {name: 1000 * statistics.median(found) / steps for name, found in seconds.items()}
    ratios = [
        ours / (alone + plain)
        for ours, alone, plain in zip(
            seconds["distillation_trainer"], seconds["teacher_forward"], seconds["plain_trainer"], strict=True
        )
    ]
    return {
        "milliseconds_per_step": milliseconds,
        "ratio_to_floor": {"median": statistics.median(ratios), "rounds": ratios},
        "precision": dtype,
        "steps": steps,
    }


def textbrewer_available() -> bool:
    try:
        import textbrewer  # noqa: F401 -- only asked whether it is there
    except ImportError:
        return False
    return True


def textbrewer_steps(student: nn.Module, teacher: nn.Module, batches: list[dict], folder: Path, device: str) -> float:
    """Seconds of as many steps with TextBrewer's GeneralDistiller, soft labels only."""
    import textbrewer

    distiller = textbrewer.GeneralDistiller(
        train_config=textbrewer.TrainingConfig(
            device=str(next(student.parameters()).device),
            log_dir=None, output_dir=str(folder / "textbrewer"), ckpt_frequency=0, ckpt_epoch_frequency=1000,
        ),
        distill_config=textbrewer.DistillationConfig(temperature=1.0, hard_label_weight=0, kd_loss_type="ce"),
        model_T=teacher, model_S=student,
        adaptor_T=lambda batch, outputs: {"logits": outputs.logits},
        adaptor_S=lambda batch, outputs: {"logits": outputs.logits},
    )  # fmt: skip
    half = fast_bfloat16(device)
    with distiller, torch.autocast(device, torch.bfloat16, enabled=half):
        optimizer = torch.optim.AdamW(student.parameters(), lr=5e-4, fused=True)
        begin = now(device)
        distiller.train(
            optimizer, batches, num_epochs=1, max_grad_norm=1.0, callback=None, batch_postprocessor=lambda batch: batch
        )
        return now(device) - begin


def epoch_as_a_user_gets_it(world: dict[str, Any], device: str, epochs: int, seeds: int) -> dict[str, Any]:
    """Seconds and quality of whole epochs with each way's own defaults."""
    on_cpu = dict(use_cpu=device == "cpu", num_train_epochs=epochs, per_device_eval_batch_size=128, warmup_steps=0.1)
    common = dict(train_dataset=world["train"], data_collator=world["collate"], compute_metrics=glue_metric(None))
    teacher, found = world["teacher"].float(), {"hf_distill_defaults": [], "documentation_recipe": []}
    for seed in range(seeds):
        for name, results in found.items():
            set_seed(seed)
            model = world["student"]()
            if name == "hf_distill_defaults":
                args = DistillationTrainingArguments(**quiet(world["folder"], seed=seed, **on_cpu))
                trainer = DistillationTrainer(model, args, teacher_model=teacher, **common)
            else:
                args = Arguments(**quiet(world["folder"], seed=seed, **on_cpu))
                trainer = DocumentationRecipe(model, args, teacher=teacher, **common)
            begin = now(device)
            trainer.train()
            seconds = (now(device) - begin) / epochs
            # Plain Trainer evaluates both, so that both are asked the same.
            judge = Trainer(trainer.model, Arguments(**quiet(world["folder"], **on_cpu)), **common)
            accuracy = judge.evaluate(world["test"])["eval_accuracy"]
            results.append({"seconds_per_epoch": seconds, "test_accuracy": accuracy})
            print(name, seed, results[-1], flush=True)
    pairs = zip(found["documentation_recipe"], found["hf_distill_defaults"], strict=True)
    speedups = [theirs["seconds_per_epoch"] / ours["seconds_per_epoch"] for theirs, ours in pairs]
    return {"epochs": epochs, **found, "speedup": {"median": statistics.median(speedups), "seeds": speedups}}


def make_world(folder: Path, teacher_path: Path, shape: str) -> dict[str, Any]:
    tokenizer = AutoTokenizer.from_pretrained(minilm_path())

    def tokenized(dataset: datasets.Dataset) -> datasets.Dataset:
        encoded = dataset.map(lambda rows: tokenizer(rows["text"], truncation=True, max_length=128), batched=True)
        return encoded.rename_column("label", "labels").remove_columns(["text", "rating"])

    splits = {name: tokenized(split) for name, split in load_sentiment().items()}
    teacher = AutoModelForSequenceClassification.from_pretrained(teacher_path)
    initialization = "truncated" if shape.endswith(f"/{teacher.config.hidden_size}") else "embeddings"
    return {
        "folder": folder,
        "teacher": teacher,
        "student": lambda: create_student(shape, teacher, initialization),
        "collate": DataCollatorWithPadding(tokenizer),
        "train": splits["train"].shuffle(seed=0),
        "test": splits["test"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="where both models run")
    parser.add_argument("--shape", nargs="+", default=["2/128", "3/384"], help="students, layers/hidden size")
    parser.add_argument("--teacher", type=Path, default=minilm_path(), help="fine-tuned teacher; an untrained head "
                        "costs the same time but makes the quality columns meaningless")  # fmt: skip
    parser.add_argument("--rounds", type=int, default=7, help="rounds of the floor comparison, after one warm-up")
    parser.add_argument("--steps", type=int, default=40, help="steps a round")
    parser.add_argument("--epochs", type=int, default=1, help="epochs of the comparison as a user gets it; 0 skips it")
    parser.add_argument("--seeds", type=int, default=3, help="seeds of that comparison")
    parser.add_argument("--folder", type=Path, default=Path("outputs/overhead"), help="scratch folder")
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    content: dict[str, Any] = {"hardware": hardware_name(options.device), "versions": package_versions()}
    for shape in options.shape:
        world = make_world(options.folder, options.teacher, shape)
        content[shape] = {"floor": steps_against_floor(world, options.device, options.rounds, options.steps)}
        print(shape, json.dumps(content[shape]["floor"], indent=2), flush=True)
        if options.epochs:
            world = make_world(options.folder, options.teacher, shape)
            content[shape]["epoch"] = epoch_as_a_user_gets_it(world, options.device, options.epochs, options.seeds)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"trainer_overhead_{options.device}.json").write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()

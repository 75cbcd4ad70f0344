r"""Fine-tune a text classifier and keep its training trajectory: the teacher checkpoints of `ProgressiveTrainer`.

Accepts run_glue.py's arguments and data, and the number and spacing of checkpoints, of all weights or of LoRA adapters:

    python examples/train_teacher.py --model_name_or_path google-bert/bert-base-uncased --task_name sst2 \
        --checkpoints 8 --spacing loss --save_only_model --do_train --do_eval --output_dir outputs/teacher

    python examples/run_glue.py --model_name_or_path google/bert_uncased_L-4_H-256_A-4 --task_name sst2 \
        --teacher_checkpoints outputs/teacher --learning_rate 2e-4 --do_train --do_eval --output_dir outputs/student

With --lora_rank, the adapters need output_dir/base in its place. With --save_only_model, a run cannot be resumed.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from statistics import mean
from typing import Any

import run_glue as glue
from transformers import AutoModelForSequenceClassification, DataCollatorWithPadding, PreTrainedModel, TrainerCallback
from transformers.hf_argparser import HfArg

from hf_distill import DistillationTrainer, DistillationTrainingArguments
from hf_distill.distributed.weights import gathered_copy
from hf_distill.evaluation.metrics import glue_metric
from hf_distill.scripts.models import require_training_labels
from hf_distill.scripts.output_folder import OutputFolderArguments
from hf_distill.scripts.reporting import report_training
from hf_distill.scripts.run import (
    parse_arguments,
    prepare_run,
    require_splits,
    run,
    run_on_main_process,
)
from hf_distill.scripts.user_errors import run_main

STEPS, LOSS = "steps", "loss"
CANDIDATES = 4  # per checkpoint kept, where the loss decides
QUERIES_AND_VALUES = ["query", "value", "query_proj", "value_proj", "q_lin", "v_lin", "q_proj", "v_proj"]


@dataclass
class TeacherTrainingArguments(OutputFolderArguments, DistillationTrainingArguments):
    """The arguments of the trainer and of the output folder."""


@dataclass
class TrajectoryArguments:
    """The checkpoints that are kept, and the weights they contain."""

    checkpoints: int = HfArg(default=8, help="Number of checkpoints to keep; the last one is the finished model.")
    spacing: str = HfArg(
        default=STEPS,
        help=f"{STEPS}: evenly spaced in optimizer steps. {LOSS}: evenly spaced in the smoothed training loss, so denser "
        f"where it falls fastest; chosen among {CANDIDATES} times as many, which need more disk space.",
    )
    lora_rank: int = HfArg(
        default=0, help="Rank of LoRA adapters on queries and values, trained with the head. 0: train all weights."
    )

    def __post_init__(self) -> None:
        if self.checkpoints < 1:
            raise ValueError(f"checkpoints must be at least 1, got {self.checkpoints}")
        if self.spacing not in (STEPS, LOSS):
            raise ValueError(f"spacing must be {STEPS} or {LOSS}, got {self.spacing!r}")
        if self.lora_rank < 0:
            raise ValueError(f"lora_rank must be at least 0, got {self.lora_rank}")


def steps_to_save(total_steps: int, count: int) -> list[int]:
    """Evenly spaced steps up to the last; every step, if there are fewer than `count`."""
    count = min(count, total_steps)
    return [total_steps * number // count for number in range(1, count + 1)]


def evenly_falling(losses: Sequence[float], count: int) -> list[int]:
    """The candidates whose losses are most evenly spaced: the choice with the smallest sum of squared decreases.

    Args:
        losses: Loss at the start of training, then at each candidate; each counts as the lowest loss so far.
        count: Number of candidates to choose, at most all.

    Returns:
        Positions in `losses`, ascending, from 1; the last candidate is among them.
    """
    levels = list(accumulate(losses, min))
    chosen: dict[int, tuple[float, list[int]]] = {0: (0.0, [])}  # the best choice that ends at each point
    for number in range(1, count + 1):
        ends = range(number, len(levels) - (count - number))
        chosen = {
            end: min(
                (cost + (levels[begin] - levels[end]) ** 2, [*path, end])
                for begin, (cost, path) in chosen.items()
                if begin < end
            )
            for end in ends
        }
    return chosen[len(levels) - 1][1]


def smoothed(log_history: list[dict[str, Any]], steps: Sequence[int]) -> list[float]:
    """The logged loss at each step, averaged over the logs within one interval between such steps."""
    width = steps[-1] / (len(steps) - 1)
    logged = [(entry["step"], entry["loss"]) for entry in log_history if "loss" in entry]
    return [mean(loss for at, loss in logged if abs(at - step) <= max(width, 1)) for step in steps]


class LeaveTrajectory(TrainerCallback):
    """Saves and logs at the candidate steps; at the end deletes the candidates that were not chosen."""

    def __init__(self, args: TrajectoryArguments):
        self._args = args
        self._due: list[int] = []

    def on_train_begin(self, args, state, control, **kwargs):
        if state.max_steps < self._args.checkpoints:
            raise ValueError(f"{self._args.checkpoints} checkpoints need as many steps, got only {state.max_steps}")
        factor = CANDIDATES if self._args.spacing == LOSS else 1
        self._due = steps_to_save(state.max_steps, factor * self._args.checkpoints)

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step in self._due:
            control.should_save = control.should_log = True

    def on_train_end(self, args, state, control, **kwargs):
        folders = {step: Path(args.output_dir, f"checkpoint-{step}") for step in self._due}
        saved = [step for step, folder in folders.items() if folder.exists()]
        if len(saved) > self._args.checkpoints and state.is_world_process_zero:
            chosen = evenly_falling(smoothed(state.log_history, [0, *saved]), self._args.checkpoints)
            for step in set(saved) - {saved[position - 1] for position in chosen}:
                shutil.rmtree(folders[step])


def take_over_saving(args: DistillationTrainingArguments, teacher: str | None) -> None:
    """Let `LeaveTrajectory` decide which checkpoints are saved.

    Raises:
        ValueError: Another argument decides on checkpoints, or there is a teacher.
    """
    if teacher is not None:
        raise ValueError("this script trains on labels alone; to learn from a teacher use run_glue.py")
    if args.save_total_limit is not None or args.load_best_model_at_end:
        raise ValueError("save_total_limit and load_best_model_at_end would delete or choose among the checkpoints")
    args.save_strategy, args.logging_first_step = "no", True


def with_adapters(model: PreTrainedModel, tokenizer: Any, rank: int, folder: Path) -> Any:
    """The model with LoRA adapters; its base is saved with its labels, because adapters only name their base."""
    from peft import LoraConfig, TaskType, get_peft_model

    model = gathered_copy(model)
    run_on_main_process(lambda: [part.save_pretrained(folder) for part in (model, tokenizer)])
    base = AutoModelForSequenceClassification.from_pretrained(folder.resolve(), trust_remote_code=False)
    heads = [name for name, part in base.named_children() if name != base.base_model_prefix and list(part.parameters())]
    targets = {"target_modules": QUERIES_AND_VALUES, "modules_to_save": heads}
    return get_peft_model(base, LoraConfig(TaskType.SEQ_CLS, r=rank, lora_alpha=2 * rank, **targets))


def train(trainer: DistillationTrainer, checkpoint: str | None) -> None:
    """Train the trajectory, and save the finished model as a stock model."""
    if checkpoint is None:  # those of an earlier training are no part of this one
        run_on_main_process(
            lambda: [shutil.rmtree(folder) for folder in Path(trainer.args.output_dir).glob("checkpoint-*")]
        )
    metrics = trainer.train(resume_from_checkpoint=checkpoint).metrics
    trainer.save_model()
    report_training(trainer, metrics)


def main() -> None:
    groups = (glue.ModelArguments, glue.DataTrainingArguments, TrajectoryArguments, TeacherTrainingArguments)
    model_args, data_args, trajectory, args = parse_arguments(*groups, description=__doc__)
    take_over_saving(args, model_args.teacher_model_name_or_path)
    checkpoint = prepare_run(args, model_args)
    raw = glue.load_raw(model_args, data_args)
    matched = "_matched" if data_args.task_name == "mnli" else ""
    require_splits(raw, args, do_train="train", do_eval="validation" + matched, do_predict="test" + matched)
    raw = glue.choose_columns(raw, data_args, model_args.config())
    require_training_labels(args, None, raw, "label", glue.LABELS_ADVICE)
    model, tokenizer, names, ids = glue.load_model(model_args, raw, None)
    encode = glue.Encoder(data_args, tokenizer, ids)
    stages = [stage for stage, (flag, _, _) in glue.STAGES.items() if getattr(args, flag)]
    with args.main_process_first(desc="tokenizing"):
        data = {stage: glue.prepare(raw, stage, data_args, encode) for stage in stages}
    if args.do_train and trajectory.lora_rank > 0:
        args.merge_adapters = True
        model = with_adapters(model, tokenizer, trajectory.lora_rank, Path(args.output_dir, "base"))
    trainer = DistillationTrainer(
        model,
        args,
        train_dataset=data["train"]["train"] if args.do_train else None,
        eval_dataset=next(iter(data["validation"].values())) if args.do_eval else None,
        data_collator=DataCollatorWithPadding(tokenizer),
        processing_class=tokenizer,
        compute_metrics=glue_metric(data_args.task_name),
        callbacks=[LeaveTrajectory(trajectory)],
    )
    if args.do_train:
        train(trainer, checkpoint)
    args.do_train = False
    judge = {"evaluate": lambda trainer: glue.evaluate(trainer, data["validation"])}
    judge["predict"] = lambda trainer: glue.predict(trainer, data["test"], data_args.task_name, names)
    run(trainer, None, "text-classification", **judge)


if __name__ == "__main__":
    run_main(main)

"""The trainings that every engine has to bring to the same end, and the engines; imported by worker processes too."""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from accelerate.state import PartialState
from accelerate.utils import DistributedType, gather_object
from torch.distributed.fsdp import FSDPModule
from transformers import AutoModelForMaskedLM, Trainer
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from hf_distill import (
    DistillationTrainer,
    DistillationTrainingArguments,
    ProgressiveTrainer,
    ProgressiveTrainingArguments,
    PruningDistillTrainer,
    PruningDistillTrainingArguments,
)
from hf_distill.distributed.weights import full_state_dict, is_sharded, unsharded_loading
from hf_distill.fingerprints import weights_sha256
from hf_distill.tasks import unwrapped
from tests.tiny_architectures import tiny_model
from tests.tiny_models import FixedMasks, encoded_sentences, tiny_bert, tiny_tokenizer

ROWS = 29  # With batches of 8 the fourth step of every epoch holds 5
STEPS = 12
WHOLE_BATCH = 8
TEACHER_IN_PARTS = {("ddp", "masked_words"), ("zero3", "projections"), ("fsdp2", "logits")}  # besides the replica
FSDP = {"version": 2, "state_dict_type": "FULL_STATE_DICT"}


def zero(stage: int, **more: Any) -> dict[str, Any]:
    """A DeepSpeed configuration as examples/launch has it, without what a CPU cannot do."""
    sizes = ("train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "train_batch_size", "gradient_clipping")
    partition = {"stage": stage, "overlap_comm": False}
    if stage == 3:
        partition |= {"stage3_gather_16bit_weights_on_model_save": True, "stage3_param_persistence_threshold": 0}
    return dict.fromkeys(sizes, "auto") | {"zero_optimization": partition | more}


ENGINES: dict[str, dict[str, Any]] = {
    "ddp": {},
    "zero0": {"deepspeed": zero(0)},
    "zero1": {"deepspeed": zero(1)},
    "zero2": {"deepspeed": zero(2)},
    "zero3": {"deepspeed": zero(3)},
    # With torch's AdamW: DeepSpeed would compile one of its own, for some minutes.
    "zero2_offload": {
        "deepspeed": zero(2, offload_optimizer={"device": "cpu"}) | {"zero_force_ds_cpu_optimizer": False}
    },
    "fsdp2": {"fsdp": True, "fsdp_config": FSDP},
}
SCENARIOS = ("logits", "projections", "masked_words", "progressive", "shrinking", "adapters")
ADAPTED = ("ddp", "zero2", "zero3", "fsdp2")
FEW = {
    "zero0": ("logits", "shrinking"),
    "zero1": ("logits", "shrinking"),
    "zero2_offload": ("logits",),
}  # the rest would show nothing new
RUNS = [
    (name, scenario)
    for name in ENGINES
    for scenario in FEW.get(name, SCENARIOS)
    if scenario != "adapters" or name in ADAPTED
]
EVALUATED_FIRST = ("ddp", "zero2", "zero3", "fsdp2")
REFUSED = {("zero3", "shrinking"), ("fsdp2", "shrinking")}


@contextmanager
def engine(name: str) -> Iterator[dict[str, Any]]:
    """Arguments of an engine; afterwards nothing is left of it for the next one in this process."""
    before = set(os.environ)
    try:
        yield ENGINES[name]
    finally:
        unset_hf_deepspeed_config()
        for variable in set(os.environ) - before:
            if variable.startswith(("ACCELERATE_", "FSDP_")):
                del os.environ[variable]
        gc.collect()


def trainer(scenario: str, folder: Path, batch_size: int, accumulation: int, **overrides: Any) -> Trainer:
    """One of `SCENARIOS`, for `STEPS` steps in single precision."""
    kinds = {"progressive": ProgressiveTrainingArguments, "shrinking": PruningDistillTrainingArguments}
    special = {
        "logits": dict(hard_label_weight=0.5, temperature=2.0),
        "adapters": dict(recipe="tinybert_task", relation_weight=1.0, soft_label_weight=1.0),
        "projections": dict(recipe="tinybert_task", relation_weight=1.0),
        "masked_words": dict(hard_label_weight=0.5),
        "progressive": dict(
            teacher_checkpoints=[str(folder / "teacher")], max_steps=STEPS // 2, final_stage_steps=STEPS // 2
        ),
        "shrinking": dict(recipe="homodistil", target_hidden_size=16, pruning_events=4, learning_rate=1e-4),
    }[scenario]
    defaults = dict(
        report_to="none", disable_tqdm=True, use_cpu=True, bf16=False, save_strategy="no", logging_steps=1,
        per_device_train_batch_size=batch_size, gradient_accumulation_steps=accumulation, max_steps=STEPS,
        learning_rate=1e-3, per_device_eval_batch_size=4,
    )  # fmt: skip
    args = kinds.get(scenario, DistillationTrainingArguments)(
        str(folder / "output"), **(defaults | special | overrides)
    )
    if "fsdp" in overrides:  # accelerate knows FSDP for GPUs only; on a CPU it would be DDP without a word
        PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
    shared = dict(train_dataset=encoded_sentences(ROWS), processing_class=tiny_tokenizer())
    teacher = tiny_bert(hidden_size=32, layers=2, seed=1)
    if scenario == "masked_words":  # loaded after the arguments, so that ZeRO-3 cuts up both
        shared |= dict(train_dataset=encoded_sentences(ROWS, labels=None), data_collator=FixedMasks())
        student = AutoModelForMaskedLM.from_pretrained(folder / "masked_words_student")
        teacher = AutoModelForMaskedLM.from_pretrained(folder / "masked_words_teacher")
        return DistillationTrainer(student, args, teacher_model=teacher, **shared)
    if scenario == "progressive":
        return ProgressiveTrainer(tiny_bert(), args, **shared)
    if scenario == "shrinking":
        return PruningDistillTrainer(None, args, teacher_model=teacher, **shared)
    student = tiny_bert()
    if scenario == "adapters":
        from tests.trainers.test_adapters import with_adapter

        student = with_adapter(student)
    return DistillationTrainer(student, args, teacher_model=teacher, **shared)


def outcome(trainer: Trainer) -> dict[str, Any]:
    """Train, and say what came of it: losses of all steps, metrics over 101 examples, and the engine that it was."""
    trainer.train()
    student, wrapper = unwrapped(trainer.model), trainer.model_wrapped
    metrics = trainer.evaluate(encoded_sentences(101))
    record = Path(trainer.args.output_dir, "run.json")
    came = dict(
        engine=type(wrapper).__name__,
        zero_stage=wrapper.zero_optimization_stage() if trainer.is_deepspeed_enabled else None,
        offloaded=trainer.is_deepspeed_enabled and wrapper.zero_cpu_offload(),
        world_size=trainer.args.world_size,
        student_in_parts=is_sharded(student),
        units=[name for name, part in student.named_modules() if isinstance(part, FSDPModule)],
        teacher_in_parts=is_sharded(trainer.teacher.model),
        losses=losses_of(trainer),
        metrics={name: value for name, value in metrics.items() if "loss" in name or "teacher" in name},
        weights={name: tensor.clone() for name, tensor in full_state_dict(student).items()},
        recorded=json.loads(record.read_text())["student"]["weights_sha256"],
        on_each_process=gather_object([weights_sha256(student)]),
        teacher=weights_sha256(trainer.teacher.model),
    )
    if hasattr(trainer.model, "peft_config"):
        came["saved"], came["merged"] = saved_adapters(trainer)
    trainer.accelerator.free_memory()
    return came


def saved_adapters(trainer: Trainer) -> tuple[dict[str, Any], dict[str, Any]]:
    """The weights of a base with the adapters that a trainer saves, and of the model that it saves merged."""
    from peft import PeftModel

    adapters, merged = (Path(trainer.args.output_dir, name) for name in ("adapters", "merged"))
    trainer.save_model(str(adapters))
    trainer.args.merge_adapters = True
    trainer.save_model(str(merged))
    trainer.accelerator.wait_for_everyone()
    assert not (adapters / "model.safetensors").exists()
    with unsharded_loading():
        adapted = unwrapped(PeftModel.from_pretrained(tiny_bert(), adapters))
        return adapted.state_dict(), type(adapted).from_pretrained(merged).state_dict()


def losses_of(trainer: Trainer) -> list[float]:
    """Of all steps, also those before it was resumed."""
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def save_models(folder: Path) -> None:
    """What the scenarios read from disk: a trajectory of three checkpoints, and two masked-word models."""
    for index, step in enumerate((10, 20, 40)):
        tiny_bert(hidden_size=32, layers=2, seed=10 + index).save_pretrained(folder / "teacher" / f"checkpoint-{step}")
    tiny_model("bert").save_pretrained(folder / "masked_words_student")
    tiny_model("bert", seed=1).save_pretrained(folder / "masked_words_teacher")

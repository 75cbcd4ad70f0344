"""Callbacks of the trainers: the run record, and the check that the objective is computed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hf_distill.distributed.weights import is_sharded
from hf_distill.hardware import hardware_name
from hf_distill.publishing.card_results import is_result
from hf_distill.publishing.card_tables import optimizer_text
from hf_distill.publishing.run_origin import changed_arguments, command_line, git_state
from hf_distill.publishing.run_record import RunRecord, describe_model
from hf_distill.tasks import unwrapped
from hf_distill.teachers.base import Teacher
from hf_distill.text.privacy import public_name
from hf_distill.trainers.objective_builder import has_trained_head

# Fields of datasets.DatasetInfo, by their names in the record.
_INFO = {"name": "dataset_name", "description": "description", "data_license": "license", "citation": "citation"}
# Fields of a configuration about a model's inputs and classes.
_OF_CONFIG = {"problem_type": str, "num_channels": int, "image_size": int}
PROGRESS = ("step", "loss", "hidden_size", "parameters", "step_gflops", "step_ms")


class RunRecordCallback(TrainerCallback):
    """Writes `run.json` into the output folder when training ends, and adds later evaluations to it.

    Args:
        trainer: The `DistillationTrainer`, or a subclass, that the record describes.

    Attributes:
        record: The record written last, to which evaluations are added. None: none was written yet.
    """

    def __init__(self, trainer: Any):
        self._trainer = trainer
        self.record: RunRecord | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Discard the record of an earlier training."""
        self.record = None

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Write the record."""
        teacher = self._trainer.teacher
        members = () if teacher is None else teacher.members
        models = [unwrapped(self._trainer.model), *(member.model for member in members)]
        if not (args.should_save or any(is_sharded(model) for model in models)):
            return
        record = self._record_of(args, state)  # on every process, where each holds a shard of the weights
        if args.should_save:
            self.record = record
            self.record.save(str(args.output_dir))

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Add the metrics of an evaluation after training to the record."""
        if self.record is not None and metrics:
            self.record.metrics = metrics
            self.record.save(str(args.output_dir))

    def _record_of(self, args: TrainingArguments, state: TrainerState) -> RunRecord:
        trainer = self._trainer
        teacher = _describe_teacher(trainer.teacher) if trainer.training_objective.needs_teacher else None
        evaluations = [entry for entry in state.log_history if "eval_loss" in entry]
        return RunRecord(
            trainer=type(trainer).__name__,
            student=describe_model(unwrapped(trainer.model))
            | {"saved_as": Path(str(args.output_dir)).resolve().name}
            | _describe_use(trainer),
            teacher=teacher,
            objective=[
                {"name": term.name, "weight": term.weight, **term.settings} for term in trainer.training_objective.terms
            ],
            arguments=changed_arguments(args),
            data=_describe_data(train=trainer.train_dataset, eval=trainer.eval_dataset)
            | ({"text_pairs": True} if reads_pairs(trainer.processing_class, trainer.train_dataset) else {}),
            command=command_line(),
            git=git_state(),
            training={
                "steps": state.global_step,
                "epochs": state.epoch,
                "seconds": round(trainer.cost_tracker.stage_seconds, 1),
                "seed": args.seed,
                "data_seed": args.data_seed,
                "hardware": hardware_name(args.device),
                "processes": args.world_size,
                "spent": trainer.cost(),
                "settings": _settings(trainer),
                **_bfloat16_speedup(args),
                "log": short_log(state.log_history),
                **trainer.training_notes(),
                **_emissions(trainer),
            },
            metrics=evaluations[-1] if evaluations else {},
            progress=[
                {name: entry[name] for name in PROGRESS if name in entry}
                for entry in state.log_history
                if "hidden_size" in entry
            ],
        )


class ObjectiveCheckCallback(TrainerCallback):
    """Refuses a subclass whose own `compute_loss` never computes the objective, which run records would report.

    Args:
        trainer: The `DistillationTrainer`.
    """

    def __init__(self, trainer: Any):
        self._trainer = trainer

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Check that the first step has computed the objective.

        Args:
            args: The training arguments.
            state: The state of the training.
            control: The control of the training.
            **kwargs: Models, optimizer and data, as Trainer passes them.

        Raises:
            ValueError: `compute_loss` has not computed the objective; names the ways to add to it.
        """
        trainer = self._trainer
        if trainer.teacher is not None and not trainer.has_computed_objective:
            raise ValueError(
                f"{type(trainer).__name__}.compute_loss never called DistillationTrainer's, so that the student learned nothing "
                f"of {[term.name for term in trainer.training_objective.terms]}: for a loss of your own on the labels pass "
                "compute_loss_func with hard_label_weight above 0, for further terms add to super().compute_loss(...) or "
                "override training_objective, or pass no teacher"
            )


def _describe_use(trainer: Any) -> dict[str, Any]:
    """What is needed to use a student: its problem type, its inputs, whether it predicts, and the adapter it was saved as."""
    model, found = unwrapped(trainer.model), {}
    config = getattr(model, "config", None)
    for name, kind in _OF_CONFIG.items():
        if isinstance(value := getattr(config, name, None), kind):
            found[name] = value
    if isinstance(mask := getattr(trainer.processing_class, "mask_token", None), str):
        found["mask_token"] = mask
    if not has_trained_head(trainer):
        found["has_trained_head"] = False
    adapters = getattr(model, "peft_config", None)
    if adapters and not trainer.args.merge_adapters:
        adapter = next(iter(adapters.values()))
        base = adapter.base_model_name_or_path
        found["adapter"] = {
            "type": getattr(adapter.peft_type, "value", None) or "PEFT",
            "base": base and public_name(base),
        }
    return found


def _settings(trainer: Any) -> dict[str, Any]:
    """Batch sizes, optimizer and schedule of the training, including defaults."""
    args, optimizer = trainer.args, trainer.optimizer
    while hasattr(optimizer, "optimizer"):
        optimizer = optimizer.optimizer
    defaults, groups = getattr(optimizer, "defaults", {}), getattr(optimizer, "param_groups", None) or [{}]
    is_ours = trainer.lr_scheduler is None or getattr(trainer, "_created_lr_scheduler", True)
    schedule = getattr(args.lr_scheduler_type, "value", args.lr_scheduler_type)
    named = {}
    if optimizer is not None:  # a run that was finished before makes none
        named["optimizer"] = optimizer_text(type(optimizer).__name__, defaults.get("betas"), defaults.get("eps"))
    return named | {
        "learning_rate": float(groups[0].get("initial_lr", args.learning_rate)),
        "per_device_train_batch_size": args.per_device_train_batch_size,
        "gradient_accumulation_steps": args.gradient_accumulation_steps,
        "train_batch_size": args.train_batch_size * args.gradient_accumulation_steps * args.world_size,
        "lr_scheduler_type": schedule if is_ours else type(trainer.lr_scheduler).__name__,
        "precision": _precision(trainer),
    }


def _precision(trainer: Any) -> str:
    """The precision of the training in words."""
    weights = str(next(trainer.model.parameters()).dtype).removeprefix("torch.")
    names = {"bf16": "bfloat16 autocast", "fp16": "float16 autocast", "fp8": "float8"}
    mixed = names.get(trainer.accelerator.mixed_precision)
    found = weights if mixed is None else f"{mixed}, weights in {weights}"
    quantization = trainer.args.quantization
    return found if quantization is None else f"{found}, fake {quantization.value} in linear layers and embeddings"


def _bfloat16_speedup(args: TrainingArguments) -> dict[str, float]:
    """The measurement by which the precision was chosen, where it was."""
    found = getattr(args, "bfloat16_speedup", None)
    return {} if found is None else {"bfloat16_speedup": found}


def short_log(history: list[dict[str, Any]], most: int = 10) -> list[dict[str, float]]:
    """A short log of losses and evaluations, for the model card.

    Args:
        history: The `log_history` of a TrainerState.
        most: Maximum number of entries.

    Returns:
        Entries in the order of steps, evenly spaced, with the last one: `step`, and those of `loss`, `eval_loss` and the
        scores of the first evaluation set that were logged there. With several evaluations their steps alone are chosen.
    """
    by_step: dict[int, dict[str, float]] = {}
    for entry in history:
        kept = {name: value for name, value in entry.items() if _is_logged(name) and isinstance(value, (int, float))}
        if kept and "step" in entry:
            by_step.setdefault(entry["step"], {}).update(kept)
    steps = sorted(by_step)
    evaluated = [step for step in steps if "eval_loss" in by_step[step]]
    chosen = evaluated if len(evaluated) > 1 else steps
    if len(chosen) > most:
        chosen = [chosen[round(index * (len(chosen) - 1) / (most - 1))] for index in range(most)]
    return [{"step": step, **by_step[step]} for step in chosen]


def _is_logged(name: str) -> bool:
    is_score = name.startswith("eval_") and is_result(name) and not name.endswith("_loss")
    return name in ("loss", "eval_loss") or is_score


def _describe_teacher(teacher: Teacher | None) -> dict[str, Any] | None:
    """A teacher's description; for an ensemble that of the first, with the parameters of all; None if unknown."""
    if teacher is None:
        return None
    if teacher.description:
        return dict(teacher.description)
    members = [describe_model(member.model) | {"dtype": str(member.dtype)} for member in teacher.members]
    if len(members) < 2:
        return members[0] if members else None
    together = {
        "name": f"the mean of {len(members)} teachers",
        "parameters": sum(member["parameters"] for member in members),
        "members": members,
        "member_weights": teacher.member_weights,
    }
    return members[0] | together


def _describe_data(**splits: Any) -> dict[str, Any]:
    """Number of examples and fingerprint of every split; of several evaluation sets those of the first."""
    found = {}
    for split, dataset in splits.items():
        dataset = next(iter(dataset.values()), None) if isinstance(dataset, dict) else dataset
        if dataset is not None:
            found[f"{split}_examples"] = len(dataset) if hasattr(dataset, "__len__") else None
            found[f"{split}_fingerprint"] = getattr(dataset, "_fingerprint", None)
            info = getattr(dataset, "info", None)
            for name, of_info in _INFO.items():
                value = getattr(info, of_info, None)
                if value and value != getattr(info, "builder_name", None):  # "csv" is no name of a data set
                    found.setdefault(name, value)
    return found


def reads_pairs(tokenizer: Any, examples: Any) -> bool:
    """Whether the first example is a pair of texts, by its token type ids or its special tokens."""
    columns = examples.column_names if isinstance(examples, Dataset) and len(examples) else []
    if "input_ids" not in columns or not hasattr(tokenizer, "num_special_tokens_to_add"):
        return False
    row = examples.with_format(None)[0]
    alone, paired = (tokenizer.num_special_tokens_to_add(pair=pair) for pair in (False, True))
    ends = {tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id}
    by_tokens = alone != paired and sum(token in ends for token in row["input_ids"]) == paired
    return by_tokens or 1 in (row.get("token_type_ids") or ())


def _emissions(trainer: Any) -> dict[str, float]:
    """Emissions in grams of CO2 equivalent, measured by transformers' CodeCarbonCallback, which runs first."""
    for callback in trainer.callback_handler.callbacks:
        kilograms = getattr(getattr(callback, "tracker", None), "final_emissions", None)
        if kilograms is not None:
            return {"co2_eq_grams": 1000 * kilograms}
    return {}

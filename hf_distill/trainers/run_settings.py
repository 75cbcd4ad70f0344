"""The settings that identify a run, saved in its checkpoints, so that none of them is resumed as another run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import fields
from enum import Enum
from typing import Any

import datasets
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState

from hf_distill.fingerprints import table_sha256
from hf_distill.objectives.objective import Objective
from hf_distill.text.plain import without_address
from hf_distill.trainers.callback_state import saved_attributes

_LENGTHS = ("max_steps", "num_train_epochs")
_OF_TRAINER = [
    "learning_rate",
    "lr_scheduler_type",
    "lr_scheduler_kwargs",
    "warmup_steps",
    "weight_decay",
    "optim",
    "optim_args",
    "adam_beta1",
    "adam_beta2",
    "adam_epsilon",
    "max_grad_norm",
    "label_smoothing_factor",
    "seed",
    "data_seed",
    "train_sampling_strategy",
]
# Arguments of this library that may differ between machines or calls, or that repeat what other arguments say.
_FREE = {
    *("teacher_dtype", "teacher_sharding", "teacher_revision", "teacher_model_init_kwargs", "teacher_checkpoints"),
    *("skip_unreadable_checkpoints", "merge_adapters", "recipe", "max_flops", "max_seconds", "max_tokens"),
    *("teacher_labeling_flops", "teacher_labeling_seconds", "overwrite_output_dir"),
}  # fmt: skip
_SAMPLED_ROWS = 64


class RunSettingsCallback(TrainerCallback, ExportableState):
    """Saves the settings of a run in its checkpoints.

    Attributes:
        settings: The settings of the run, see `settings_of`.
        passes: Number of passes over the training set that were started.
        extensions: The points at which the run was extended: the `step`, the length `from` and the length `to`.
    """

    def __init__(self) -> None:
        self.settings: dict[str, Any] = {}
        self.passes = 0
        self.extensions: list[dict[str, Any]] = []

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Count a pass."""
        self.passes += 1

    def state(self) -> dict[str, Any]:
        """The content of `trainer_state.json`."""
        kept = {"settings": self.settings, "passes": self.passes, "extensions": self.extensions}
        return {"args": {}, "attributes": kept}


def settings_of(args: TrainingArguments, objective: Objective, dataset: Any, total_batch: int) -> dict[str, Any]:
    """The settings that identify a run, as JSON values; `add_teacher_identity` adds the teacher.

    Args:
        args: The training arguments at the start of the training.
        objective: The training objective.
        dataset: The training set.
        total_batch: Number of examples in an optimizer step.

    Returns:
        The objective, data, arguments, length and batch, by name.
    """
    plain = {each.name for each in fields(TrainingArguments)}
    own = [each.name for each in fields(args) if each.init and each.name not in plain | _FREE]
    settings = {
        "objective": [{"name": term.name, "weight": term.weight, **term.settings} for term in objective.terms],
        "data": _described_data(dataset),
        "arguments": {name: _plain(getattr(args, name)) for name in (*_OF_TRAINER, *own)},
        "length": {name: getattr(args, name) for name in _LENGTHS},
        "random_states": 0 if args.save_only_model else args.world_size,
        "total_batch": total_batch,
    }
    return json.loads(json.dumps(settings, default=without_address))


def settings_of_trainer(trainer: Any) -> dict[str, Any]:
    """The settings of a `DistillationTrainer`, see `settings_of`."""
    args = trainer.args
    total = trainer._train_batch_size * args.gradient_accumulation_steps * args.world_size
    return settings_of(args, trainer.training_objective, trainer.train_dataset, total)


def add_run_settings(trainer: Any) -> None:
    """Add the callbacks that save the settings of a `DistillationTrainer` in its checkpoints."""
    trainer.add_callback(RunSettingsCallback())
    trainer.add_callback(_NoteSettings(trainer))


def add_teacher_identity(trainer: Any) -> None:
    """Add the teacher's identity, which hashes its weights; called on every process before a checkpoint is saved."""
    for kept in _kept_settings(trainer):
        if "teacher" not in kept.settings:
            kept.settings["teacher"] = trainer.teacher_identity()


def _kept_settings(trainer: Any) -> list[RunSettingsCallback]:
    """The callbacks that hold settings, of which a resumed checkpoint may have replaced the object."""
    return [each for each in trainer.callback_handler.callbacks if isinstance(each, RunSettingsCallback)]


class _NoteSettings(TrainerCallback):
    def __init__(self, trainer: Any):
        self._trainer = trainer

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        for kept in _kept_settings(self._trainer):
            kept.settings, kept.passes = settings_of_trainer(self._trainer), 0
            kept.extensions = self._trainer.extensions


def settings_in(state: TrainerState) -> dict[str, Any]:
    """The settings in a checkpoint's state; empty where it has none."""
    return saved_attributes(state, RunSettingsCallback).get("settings", {})


def passes_in(state: TrainerState) -> int:
    """Number of passes over the training set that were started when a checkpoint was written; 0: unknown."""
    return saved_attributes(state, RunSettingsCallback).get("passes", 0)


def require_same_settings(
    there: Mapping[str, Any], now: Mapping[str, Any], place: str, may_be_longer: bool = True
) -> None:
    """Refuse to resume a run with other settings; a run that is only extended is the same.

    Args:
        there: The settings of the run in the checkpoint.
        now: The settings of the run that resumes.
        place: The checkpoint's folder, for the error message.
        may_be_longer: Whether the run that resumes may have more steps or epochs.

    Raises:
        ValueError: The settings differ; names every difference, with both values.
    """
    if not there:
        return
    found = list(_differences(there, now, ("objective", "teacher", "data", "arguments")))
    if not (may_be_longer and is_extended(there, now)):
        found += _differences(there, now, ("length",))
    if found:
        raise ValueError(
            f"{place} belongs to another run: {'; '.join(found)}. Resume it with its settings, choose another output_dir, start "
            "over (--overwrite_output_dir true, in Python resume_from_checkpoint=False), or begin a new run from the weights "
            "there (as model, or --model_name_or_path)."
        )


def is_extended(there: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether a run is extended: it has more steps, or, without a number of steps, more epochs."""
    if not there:
        return False
    (steps, epochs), (more_steps, more_epochs) = ([of["length"][name] for name in _LENGTHS] for of in (there, now))
    if steps > 0 or more_steps > 0:
        return steps > 0 and more_steps > steps
    return more_epochs > epochs


def extensions_in(state: TrainerState) -> list[dict[str, Any]]:
    """The points at which a run was extended before its checkpoint was written, see `RunSettingsCallback`."""
    return list(saved_attributes(state, RunSettingsCallback).get("extensions", ()))


def _differences(there: Mapping[str, Any], now: Mapping[str, Any], parts: tuple[str, ...]) -> Iterator[str]:
    for part in parts:
        old, new = there.get(part), now.get(part)
        if not (isinstance(old, dict) and isinstance(new, dict)):
            old, new = {part: old}, {part: new}
        for name in sorted(old.keys() | new.keys()):
            if old.get(name) != new.get(name):
                yield f"{name} is {old.get(name)!r} there and {new.get(name)!r} now"


def _described_data(dataset: Any) -> dict[str, Any]:
    """Number of rows, and SHA-256 of a sample of them, read without transforms; None: unknown."""
    known = isinstance(dataset, datasets.Dataset) and len(dataset) > 0
    sample = None
    if known:
        step = max(len(dataset) // _SAMPLED_ROWS, 1)
        sample = table_sha256(dataset.with_format("arrow")[range(0, len(dataset), step)])
    return {"rows": len(dataset) if hasattr(dataset, "__len__") else None, "sample of rows": sample}


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else value

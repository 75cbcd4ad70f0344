"""The one JSON file a run leaves: who taught whom what, with which arguments, on what machine, and how it went."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import MISSING, asdict, dataclass, field, fields
from enum import Enum
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torch import nn
from transformers import TrainingArguments

from hf_distill.fingerprints import weights_sha256
from hf_distill.projections import PROJECTIONS
from hf_distill.whole_weights import num_elements

SCHEMA_VERSION = 1
RUN_RECORD_NAME = "run.json"

_PACKAGES = ("hf_distill", "torch", "transformers", "accelerate", "datasets")
# Where the run wrote and with which secrets: nobody else's business, and wrong on any other machine.
_PRIVATE_ARGUMENTS = {
    "output_dir",
    "hub_token",
    "hub_model_id",
    "run_name",
    "deepspeed",
    "fsdp_config",
    "local_rank",
    "resume_from_checkpoint",
    "teacher_model_init_kwargs",
    "disable_tqdm",
}


@dataclass
class RunRecord:
    """What a run was and what came of it.

    Attributes:
        trainer: Class of the trainer.
        student: See `describe_model`; plus `initialisation` where the caller knows it.
        teacher: See `describe_model`; plus `dtype`. None for a run on labels alone.
        objective: One entry per term of the loss: name, weight, and for soft labels loss and temperature.
        arguments: Training arguments that differ from the defaults of transformers.TrainingArguments.
        data: Examples per split, and dataset fingerprints.
        training: Steps, epochs, seconds, seed, hardware.
        metrics: The last evaluation's metrics.
        versions: Versions of Python and the packages that decide results.
        stages: What came before and this, in order, where a student went through several trainings: name, objective,
            arguments, data, training and metrics of each.
        progress: How a student that shrinks changed, one entry per log: step, loss, hidden_size, parameters, step_gflops
            (billions of operations of both models' passes in a step, of one process) and step_ms (wall time since the
            log before, per step).
        comparison: Rows of the results table (teacher, student, baselines), filled by whoever compares.
        schema_version: Of this layout.
    """

    trainer: str
    student: dict[str, Any]
    teacher: dict[str, Any] | None
    objective: list[dict[str, Any]]
    arguments: dict[str, Any]
    data: dict[str, Any]
    training: dict[str, Any]
    metrics: dict[str, float] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=lambda: package_versions())
    stages: list[dict[str, Any]] = field(default_factory=list)
    progress: list[dict[str, float]] = field(default_factory=list)
    comparison: list[dict[str, Any]] = field(default_factory=list)
    schema_version: int = SCHEMA_VERSION

    def save(self, folder: str | os.PathLike) -> Path:
        """Write `run.json` into a folder, whole or not at all."""
        path = Path(folder) / RUN_RECORD_NAME
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".json.partial")
        partial.write_text(json.dumps(asdict(self), indent=2, sort_keys=True, default=str) + "\n", encoding="utf-8")
        partial.replace(path)
        return path

    @classmethod
    def load(cls, folder: str | os.PathLike) -> RunRecord:
        """Read the `run.json` of a folder.

        Raises:
            FileNotFoundError: There is none.
            ValueError: It is of another schema version.
        """
        content = json.loads((Path(folder) / RUN_RECORD_NAME).read_text(encoding="utf-8"))
        if content.get("schema_version") != SCHEMA_VERSION:
            raise ValueError(
                f"{RUN_RECORD_NAME} has schema version {content.get('schema_version')}; this package reads {SCHEMA_VERSION}"
            )
        return cls(**content)


def describe_model(model: nn.Module) -> dict[str, Any]:
    """Name, shape and size of a model.

    Returns:
        `name` (its origin, local folders by their last part alone), `architecture`, `parameters`, `weights_sha256`,
        and the configuration's `hidden_size`, `num_hidden_layers`, `num_attention_heads`, `intermediate_size`,
        `vocab_size` and `labels` as far as it has them.
    """
    config = getattr(model, "config", None)
    sizes = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size")
    return {
        "name": public_name(getattr(config, "_name_or_path", "") or type(model).__name__),
        "architecture": type(model).__name__,
        "parameters": sum(num_elements(p) for name, p in model.named_parameters() if PROJECTIONS not in name),
        "weights_sha256": weights_sha256(model),
        **{size: getattr(config, size) for size in sizes if hasattr(config, size)},
        "labels": [str(label) for label in getattr(config, "id2label", {}).values()],
    }


def public_name(name: str | os.PathLike) -> str:
    """A Hub id as it is; of a local folder the last part alone, so that no path of this machine gets out."""
    path = Path(name)
    return path.name if path.is_absolute() or path.exists() or str(name).startswith(".") else str(name)


def changed_arguments(args: TrainingArguments) -> dict[str, Any]:
    """The arguments that differ from their class's defaults, without paths and secrets."""
    changed = {}
    for argument in fields(args):
        if argument.name in _PRIVATE_ARGUMENTS or argument.name.startswith("_") or not argument.init:
            continue
        value = getattr(args, argument.name, None)
        default = argument.default if argument.default_factory is MISSING else argument.default_factory()
        default = getattr(args, "MEANING_OF_NONE", {}).get(argument.name, default)
        if value != default and (value or default) and isinstance(value, (str, int, float, bool, list, dict)):
            changed[argument.name] = value.value if isinstance(value, Enum) else value
    return changed


def package_versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide results."""
    return {"python": platform.python_version(), **{package: version(package) for package in _PACKAGES}}

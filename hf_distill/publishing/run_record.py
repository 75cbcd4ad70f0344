"""The run record, a JSON file that describes a training run: models, objective, data, arguments, hardware and results."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from torch import nn
from transformers import PretrainedConfig

from hf_distill.data.class_names import label_names
from hf_distill.distributed.weights import num_elements
from hf_distill.features.projections import PROJECTIONS
from hf_distill.files import atomic_write, read_json
from hf_distill.files.json_schema import first_violation
from hf_distill.fingerprints import package_versions, weights_sha256
from hf_distill.pretrained.origin import initialization_of
from hf_distill.sentence_encoder import DEFAULT_PROMPT, NORMALIZE, POOLING, PROMPTS
from hf_distill.tasks import Task, class_of, task_of
from hf_distill.text.hub_ids import is_hub_id
from hf_distill.text.plain import without_address
from hf_distill.text.privacy import public, public_name

SCHEMA_VERSION = 2
RUN_RECORD_NAME = "run.json"
_SHOWN = 100  # the largest number of characters of a value in a message


@dataclass
class RunRecord:
    """The description of a training run and its results; `run_record.schema.json` in this folder defines the fields.

    Attributes:
        trainer: The class name of the trainer.
        student: The description of the student, see `describe_model`.
        teacher: The description of the teacher, see `describe_model`, with its `dtype`. None without a teacher.
        objective: One entry per term of the loss: name, weight, and for soft labels loss and temperature.
        arguments: The training arguments that differ from the defaults of transformers.TrainingArguments.
        data: The examples and fingerprint of each split, and the caller's name, language, license and text of the data.
        training: The steps, epochs, seconds, seeds, hardware and compute cost of the training.
        command: The command that started the run, see `command_line`.
        git: The commit of the script's repository, see `git_state`.
        metrics: The metrics of the last evaluation.
        evaluation: The comparison with other models, see `hf_distill.evaluation.comparison`; None if there is none.
        exports: The student's exports, see `hf_distill.export_student`; None if there are none.
        made_from: The trained student that this one was made from without training, such as by trimming; None if it is that.
        card: The metadata of the model card that the caller gave, see `DistillationTrainer.create_model_card`.
        versions: The versions of Python and of the packages that affect results.
        stages: The trainings of a student that was trained in several stages, in order, this one included: name,
            objective, arguments, data, training and metrics of each.
        progress: The sizes of a student that is pruned in training, one entry per log: step, loss, hidden_size,
            parameters, step_gflops (GFLOPs of both models in a step of one process) and step_ms (milliseconds of wall
            time per step since the previous log).
        schema_version: The version of the record's schema.
    """

    trainer: str
    student: dict[str, Any]
    teacher: dict[str, Any] | None
    objective: list[dict[str, Any]]
    arguments: dict[str, Any]
    data: dict[str, Any]
    training: dict[str, Any]
    command: str | None = None
    git: dict[str, Any] | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    evaluation: dict[str, Any] | None = None
    exports: dict[str, Any] | None = None
    made_from: dict[str, Any] | None = None
    card: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=lambda: package_versions())
    stages: list[dict[str, Any]] = field(default_factory=list)
    progress: list[dict[str, float]] = field(default_factory=list)
    schema_version: int = SCHEMA_VERSION

    @property
    def is_distilled(self) -> bool:
        """Whether the objective uses a teacher, not labels alone."""
        return self.teacher is not None or any(term["name"] != "hard_label" for term in self.objective)

    @property
    def has_external_teacher(self) -> bool:
        """Whether the teacher's outputs come from elsewhere, and no model of it is known."""
        return (self.teacher or {}).get("kind") == "external"

    def public_content(self) -> dict[str, Any]:
        """The record without private values (see `public`), with consistent names of the comparison's metric."""
        content = public(asdict(self))
        if self.evaluation is not None:
            before, after = self.evaluation["metric"], content["evaluation"]["metric"]
            for row in content["evaluation"]["rows"]:
                for metrics in (row["metrics"], *(row.get("metrics_by_format") or {}).values()):
                    if before != after and before in metrics:
                        metrics[after] = metrics.pop(before)
        return content

    def save(self, folder: str | os.PathLike) -> Path:
        """Write `run.json` into a folder, atomically and without private values (see `public`).

        Local folders that were given as data sets or base model of the card are left out.

        Args:
            folder: The folder to write into; it is created if it does not exist.

        Returns:
            The path of the file.

        Raises:
            ValueError: The card's metadata do not conform to the schema.
        """
        if error := _error(json.loads(json.dumps(self.card, default=without_address)), "card"):
            raise ValueError(f"the record does not conform to the schema: {error}")
        path = Path(folder) / RUN_RECORD_NAME
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = self.public_content() | {"card": public(_with_hub_ids(self.card))}
        content = json.dumps(kept, indent=2, sort_keys=True, default=without_address)
        atomic_write(path, content + "\n")
        return path

    @classmethod
    def load(cls, folder: str | os.PathLike) -> RunRecord:
        """Read the `run.json` of a folder.

        Args:
            folder: The folder of a student.

        Returns:
            The record.

        Raises:
            FileNotFoundError: The folder has no `run.json`.
            ValueError: The file is no JSON, has another schema version, or does not conform to the schema.
        """
        path = Path(folder) / RUN_RECORD_NAME
        content = read_json(path, kind=Any, finite=False)  # losses may be NaN or infinite
        found = content.get("schema_version") if isinstance(content, dict) else None
        if found == 1:  # version 1 had another form of the comparison
            content.pop("comparison", None)
            content["schema_version"] = found = SCHEMA_VERSION
        if found != SCHEMA_VERSION:
            raise ValueError(f"{path} has schema version {repr(found)[:_SHOWN]}; this package reads {SCHEMA_VERSION}")
        if error := _error(content):
            raise ValueError(f"{path} does not conform to the schema: {error}")
        if fault := _fault_of(content.get("evaluation")):
            raise ValueError(f"{path} contradicts itself: {fault}")
        return cls(**content)


def _with_hub_ids(card: dict[str, Any]) -> dict[str, Any]:
    """Remove data sets and a base model that are local paths: `public` would shorten them to what looks like a Hub id."""
    found = dict(card)
    for field_name in ("datasets", "base_model"):
        given = card.get(field_name)
        if isinstance(given, str) and not _may_be_hub_id(given):
            del found[field_name]
        elif isinstance(given, (list, tuple)):
            found[field_name] = [each for each in given if _may_be_hub_id(each)]
    return found


def _may_be_hub_id(name: Any) -> bool:
    return isinstance(name, str) and is_hub_id(name) and not Path(name).exists()


def _error(content: Any, part: str | None = None) -> str | None:
    """Where and how a record, or a part of it, violates the schema; None if it conforms."""
    whole = schema()
    rules = whole if part is None else {"$defs": whole["$defs"], "properties": {part: whole["properties"][part]}}
    error = first_violation(content if part is None else {part: content}, rules)
    if error is None:
        return None
    place, got = error.json_path, repr(error.instance)
    got = got if len(got) <= _SHOWN else f"{got[:_SHOWN]}…"
    if error.keyword == "enum" and len(error.expected) > 10:
        return f"{place} must be one of those that {RUN_RECORD_NAME}'s schema lists, got {got}"
    return f"{place}: {error.message if len(error.message) < 10 * _SHOWN else got + ' is not taken'}"


def _fault_of(evaluation: dict[str, Any] | None) -> str | None:
    """Check what the schema cannot express: that the comparison has the student's row, and its metric in all rows."""
    if evaluation is None:
        return None
    rows, metric = evaluation["rows"], evaluation["metric"]
    if evaluation.get("this", 0) >= len(rows):
        return f"evaluation.this must be below the number of rows, {len(rows)}, got {evaluation['this']}"
    lacking = [row["name"] for row in rows if metric not in row["metrics"]]
    return f"evaluation.metric is {metric!r}, which the row of {lacking[0]!r} lacks" if lacking else None


def schema() -> dict[str, Any]:
    """The JSON schema of `run.json`."""
    text = resources.files("hf_distill.publishing").joinpath("run_record.schema.json").read_text(encoding="utf-8")
    return json.loads(text)


def describe_model(model: nn.Module) -> dict[str, Any]:
    """Describe the origin, the architecture and the size of a model.

    Args:
        model: The model, gathered or sharded.

    Returns:
        `name` (Hub id, or last part of a local folder), `revision` (the commit of a model from the Hub), `initialization`
        (the argument of `create_student`; "pretrained" for a loaded model; None: unknown), `lineage` (for a folder with a
        `run.json`: the model it was trained `from`, `teacher`, `trainer` and `steps`), `architecture`, `parameters`,
        `weights_sha256`, `labels`, and of the configuration, if it has them, `model_type`, `hidden_size`,
        `num_hidden_layers`, `num_attention_heads`, `intermediate_size` and `vocab_size`; of a sentence encoder `pooling`,
        `normalized`, and `prompts` by name and the name of the `default_prompt` if it has some.
    """
    config: Any = getattr(model, "config", None)
    task = task_of(model)
    sizes = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size")
    origin = getattr(config, "_name_or_path", "")
    return {
        "name": public_name(origin or class_of(model).__name__),
        "revision": getattr(config, "_commit_hash", None) if origin else None,
        "initialization": initialization_of(model) or ("pretrained" if origin else None),
        "lineage": _lineage(origin),
        "architecture": class_of(model).__name__,
        "parameters": sum(num_elements(p) for name, p in model.named_parameters() if PROJECTIONS not in name),
        "weights_sha256": weights_sha256(model),
        **{size: getattr(config, size) for size in ("model_type", *sizes) if hasattr(config, size)},
        **(_of_sentence_encoder(config) if task is Task.SENTENCE_EMBEDDING else {}),
        "labels": label_names(config)
        if getattr(config, "id2label", None) and (task is None or task.has_labels)
        else [],
    }


def _of_sentence_encoder(config: PretrainedConfig) -> dict[str, Any]:
    prompts = {"prompts": getattr(config, PROMPTS, None), "default_prompt": getattr(config, DEFAULT_PROMPT, None)}
    pooled = {"pooling": getattr(config, POOLING), "normalized": getattr(config, NORMALIZE)}
    return pooled | {name: value for name, value in prompts.items() if value}


def _lineage(origin: str) -> dict[str, Any] | None:
    """The origin of a model in a local folder, according to the `run.json` there; None if there is none."""
    try:
        record = RunRecord.load(origin) if origin else None
    except (OSError, ValueError):
        return None
    if record is None:
        return None
    teacher = record.teacher and record.teacher["name"]
    is_new = record.student["name"] == record.student["architecture"]  # made of a configuration
    base = record.card.get("base_model") or ("random weights" if is_new else record.student["name"])
    return {"from": base, "teacher": teacher, "trainer": record.trainer, "steps": record.training["steps"]}

"""Comparison of students and their teacher on one data set: quality, fidelity, size and latency, in one run."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import Any, cast

import torch
from datasets import Dataset
from torch import Tensor
from transformers import PreTrainedModel

from hf_distill.data.class_names import label_names
from hf_distill.evaluation.against_teacher import against_teacher, paired_difference
from hf_distill.evaluation.formats import Format, FormatRunner, in_format
from hf_distill.evaluation.latency import machine_load, measure_latency, random_pixels, random_tokens
from hf_distill.evaluation.predictions import Predictions, Predictor
from hf_distill.evaluation.single_texts import require_comparable_texts
from hf_distill.extras import require_extra
from hf_distill.fingerprints import rows_sha256, weights_sha256
from hf_distill.hardware import hardware_name
from hf_distill.tasks import Task, task_of

TEACHER, DISTILLED, LABELS_ONLY, OTHER = "teacher", "distilled", "labels only", "other"
_ENOUGH_MILLISECONDS = 5000.0  # limit of the time for all passes of one measurement
_FEWEST_RUNS = 5


@dataclass(frozen=True)
class EvaluatedModel:
    """A model of a comparison.

    Attributes:
        name: The name that tables and plots show, unique in the comparison.
        role: The way it was trained: "teacher", "distilled", "labels only", or "other" if that is not known.
        model: The model in single precision.
        processing_class: The model's tokenizer or image processor.
    """

    name: str
    role: str
    model: PreTrainedModel
    processing_class: Any


@dataclass(frozen=True)
class LatencySettings:
    """The settings of latency measurements.

    Attributes:
        batch_sizes: The numbers of sequences per forward pass.
        lengths: The numbers of tokens per sequence; those that some model cannot process are left out. Images have the
            model's image size.
        formats: The number formats, see `in_format`; single precision is always included, and first.
        runs: The largest number of timed passes per model. Fewer (at least five) are timed if all passes of one
            measurement would take longer than five seconds.
        warm_up: The largest number of passes before the first timed ones, besides two that estimate the time of a pass.
        teacher_in_formats: Whether a teacher, too, is compared in the other formats, not in single precision alone.
    """

    batch_sizes: tuple[int, ...] = (1, 32)
    lengths: tuple[int, ...] = (32, 128)
    formats: tuple[str, ...] = (Format.FP32.value,)
    runs: int = 50
    warm_up: int = 5
    teacher_in_formats: bool = True


def compare(
    evaluated_models: Sequence[EvaluatedModel],
    rows: Dataset,
    name: str,
    split: str,
    latency: LatencySettings | None = LatencySettings(),
    batch_size: int = 32,
    max_length: int = 128,
    device: torch.device | str = "cpu",
    progress: Callable[[str], None] = lambda doing: None,
    kept: dict[str, Predictions] | None = None,
) -> dict[str, Any]:
    """Evaluate models on the same labeled rows.

    Args:
        evaluated_models: The models, the teacher first if there is one; all of the same task and classes.
        rows: The raw rows, see `Predictor.predict`.
        name: The name of the data set.
        split: The split of the data set that the rows are.
        latency: The settings of latency measurements. None: latency is not measured.
        batch_size: The number of examples per forward pass for predictions.
        max_length: The maximum number of tokens; longer inputs are truncated.
        device: The device to run on.
        progress: A function that is called with a description of each step.
        kept: A dictionary that gets each model's predictions in fp32 by its name. None: they are not kept.

    Returns:
        The section `evaluation` of a run record, JSON-serializable; `run_record.schema.json` describes its fields.

    Raises:
        ValueError: There are no models or rows, names are not unique, tasks or classes differ, or columns or a teacher are missing.
    """
    _require_comparable(evaluated_models, rows, name, split)
    formats = list(dict.fromkeys([Format.FP32.value, *(latency.formats if latency else ())]))
    names = label_names(evaluated_models[0].model.config)
    make = partial(Predictor, names=names, batch_size=batch_size, max_length=max_length, device=device)
    reference: Predictions | None = None
    found, runners, by_model = [], {}, {} if kept is None else kept
    for evaluated in evaluated_models:
        predictions: dict[str, Predictions] = {}
        is_in_all = latency is None or latency.teacher_in_formats or evaluated.role != TEACHER
        for each in formats if is_in_all else formats[:1]:
            progress(f"{evaluated.name}: predictions in {each}")
            example = example_inputs(evaluated.model, 2, 16, device)
            run = runners[evaluated.name, each] = in_format(evaluated.model, each, example, device)
            theirs = reference or predictions.get(formats[0])
            predictions[each] = make(evaluated.model, evaluated.processing_class, run, reference=theirs).predict(rows)
        found.append(_row(evaluated, predictions, reference, runners))
        main = by_model[evaluated.name] = predictions[Format.FP32.value]
        reference = main if evaluated.role == TEACHER else reference
    if latency is not None:
        measure = partial(_latencies, evaluated_models, runners, settings=latency, device=device)
        _add_latencies(found, formats, measure, progress)
    return {
        "task": cast(Task, task_of(evaluated_models[0].model)).value,  # `Predictor.predict` raises for other models
        "data": {"name": name, "split": split} | _counts(rows, main),
        "metric": main.main_metric,
        "conditions": conditions_of(device, max_length) | (machine_load() if latency else {}),
        "rows": found,
    }


def _counts(rows: Dataset, predictions: Predictions) -> dict[str, Any]:
    """The number of rows, the number of those with a label, and the fingerprint of all."""
    return {"examples": len(rows), "scored": predictions.num_examples, "fingerprint": rows_sha256(rows)}


def example_inputs(
    model: PreTrainedModel, batch_size: int, length: int, device: torch.device | str
) -> dict[str, Tensor]:
    """Random model inputs of the kind that a model accepts, without padding."""
    if task_of(model) is Task.IMAGE_CLASSIFICATION:
        return random_pixels(model.config, batch_size, device)
    return random_tokens(model.config.vocab_size, batch_size, length, device)


def _require_comparable(evaluated_models: Sequence[EvaluatedModel], rows: Dataset, data: str, split: str) -> None:
    require_extra("sklearn", "eval", "a comparison of models")
    if not len(rows):
        raise ValueError(f"the split {split} of {data} holds 0 examples; a comparison needs at least 1")
    names = [evaluated.name for evaluated in evaluated_models]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"models to compare need names, each its own, got {names}")
    tasks = {evaluated.name: task_of(evaluated.model) for evaluated in evaluated_models}
    if len(set(tasks.values())) > 1:
        shown = {name: task and task.value for name, task in tasks.items()}
        raise ValueError(f"models to compare must be for one task, got {shown}")
    if Task.SENTENCE_EMBEDDING in tasks.values():
        require_comparable_texts(rows, evaluated_models[0].role == TEACHER)


def _row(
    evaluated: EvaluatedModel,
    predictions: Mapping[str, Predictions],
    reference: Predictions | None,
    runners: Mapping[tuple[str, str], FormatRunner],
) -> dict[str, Any]:
    """A model's row of the comparison, without latency; predictions are given by format, fp32 first.

    Runners are given by model name and format.
    """
    model, (main, *_) = evaluated.model, predictions.values()
    tensors = list(model.parameters())
    row = {
        "name": evaluated.name,
        "role": evaluated.role,
        "parameters": model.num_parameters(),
        "megabytes": round(sum(each.numel() * each.element_size() for each in tensors) / 1e6, 1),
        "megabytes_by_format": {each: runners[evaluated.name, each].megabytes for each in predictions},
        "weights_sha256": weights_sha256(model),
        "metrics": main.metrics,
    }
    if main.by_class:
        row["by_class"] = main.by_class
    if len(predictions) > 1:
        others = dict(list(predictions.items())[1:])
        row["metrics_by_format"] = {each: found.metrics for each, found in others.items()}
        if reference is not None and main.has_interval:
            row["against_teacher_by_format"] = {
                each: paired_difference(reference, found) for each, found in others.items()
            }
    return row if reference is None else row | against_teacher(reference, main, task_of(model))


def _latencies(
    evaluated_models: Sequence[EvaluatedModel],
    runners: Mapping[tuple[str, str], FormatRunner],
    number_format: str,
    *,
    settings: LatencySettings,
    device: torch.device | str,
) -> list[list[dict[str, Any]]]:
    """The latencies of each model in a number format, one entry per batch size and length; none of a model without it.

    Models of the same structure, which take the same time, are measured as one. Runners are given by model name and format.
    """
    names = [evaluated.name for evaluated in evaluated_models]
    structures = {evaluated.name: _structure(evaluated.model) for evaluated in evaluated_models}
    measured = {structures[name]: name for name in reversed(names) if (name, number_format) in runners}
    of_format = {name: runners[name, number_format] for name in names if name in measured.values()}
    model = min(
        (evaluated.model for evaluated in evaluated_models), key=lambda each: getattr(each.config, "vocab_size", 0)
    )
    measure = partial(
        measure_latency,
        of_format,
        device=device,
        inputs=lambda size, length: example_inputs(model, size, length, device),
    )
    found = affordable_latencies(measure, timed_lengths(evaluated_models, settings), settings)
    return [
        [times[measured[structures[name]]] for times in found] if (name, number_format) in runners else []
        for name in names
    ]


def _structure(model: PreTrainedModel) -> tuple[Any, ...]:
    """What the latency of a model depends on: its modules, the shapes of its weights, and how it attends."""
    shapes = tuple((name, parameter.shape) for name, parameter in model.named_parameters())
    attention = tuple(getattr(model.config, name, None) for name in ("num_attention_heads", "_attn_implementation"))
    return tuple(type(module) for module in model.modules()), shapes, attention


def timed_lengths(evaluated_models: Sequence[EvaluatedModel], settings: LatencySettings) -> Sequence[int]:
    """The lengths of the settings that all models can process, the longest possible one if none; (0,) for images."""
    if task_of(evaluated_models[0].model) is Task.IMAGE_CLASSIFICATION:
        return (0,)
    limit = min(getattr(evaluated.processing_class, "model_max_length", 10**9) for evaluated in evaluated_models)
    limit = min(limit, *(getattr(each.model.config, "max_position_embeddings", limit) for each in evaluated_models))
    return [length for length in settings.lengths if length <= limit] or [limit]


def affordable_latencies(
    measure: Callable[..., dict[str, dict[str, Any]]], lengths: Sequence[int], settings: LatencySettings
) -> list[dict[str, dict[str, Any]]]:
    """Measure every batch size and length, with as many passes as five seconds allow.

    Args:
        measure: The function `measure_latency` with all arguments but sizes and passes.
        lengths: The numbers of tokens per sequence.
        settings: The batch sizes, and the largest numbers of passes.

    Returns:
        What `measure` returns, for every batch size and length.
    """
    found = []
    for size in settings.batch_sizes:
        for length in lengths:
            trial = measure(size, length, runs=1, warm_up=1)
            affordable = int(_ENOUGH_MILLISECONDS / max(each["median_ms"] for each in trial.values()))
            runs, warm_up = min(max(affordable, _FEWEST_RUNS), settings.runs), min(affordable // 5, settings.warm_up)
            found.append(measure(size, length, runs=runs, warm_up=warm_up))
    return found


def _add_latencies(
    rows: Sequence[dict[str, Any]],
    formats: Sequence[str],
    measure: Callable[[str], list[list[dict[str, Any]]]],
    progress: Callable[[str], None],
) -> None:
    """Append the latencies of all models, measured in one number format after the other, to their rows of the comparison."""
    for each in formats:
        progress(f"latency in {each}")
        for row, times in zip(rows, measure(each), strict=True):
            row.setdefault("latency", []).extend({"format": each} | time for time in times)


def conditions_of(
    device: torch.device | str, max_length: int, packages: Sequence[str] = ("torch", "transformers")
) -> dict[str, Any]:
    """The hardware, the longest input (tokens) and the versions of Python and of packages."""
    versions = {"python": platform.python_version()} | {package: version(package) for package in packages}
    return {"hardware": hardware_name(device), "max_length": max_length, "versions": versions}

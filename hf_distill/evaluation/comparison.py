"""Students beside their teacher on one data set: quality, fidelity, size and speed, measured in one run."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from transformers import PreTrainedModel

from hf_distill.data.class_names import label_names
from hf_distill.evaluation.fidelity import fidelity_values
from hf_distill.evaluation.formats import Format, in_format
from hf_distill.evaluation.latency import measure_latency, random_pixels, random_tokens
from hf_distill.evaluation.predictions import Predictions, Predictor
from hf_distill.evaluation.significance import difference_interval, mcnemar
from hf_distill.extras import require_extra
from hf_distill.fingerprints import rows_sha256, weights_sha256
from hf_distill.hardware import hardware_name
from hf_distill.tasks import Task, task_of

TEACHER, DISTILLED, LABELS_ONLY, OTHER = "teacher", "distilled", "labels only", "other"
_ENOUGH_MILLISECONDS = 5000.0  # spent on all passes of one measurement, where that takes fewer than all runs
_FEWEST_RUNS = 5


@dataclass(frozen=True)
class EvaluatedModel:
    """A model of a comparison.

    Attributes:
        name: As shown.
        role: "teacher", "distilled", "labels only", or "other" where it is not known how it was trained.
        model: In single precision.
        processing_class: Its tokenizer or image processor.
    """

    name: str
    role: str
    model: PreTrainedModel
    processing_class: Any


@dataclass(frozen=True)
class LatencySettings:
    """What is timed.

    Attributes:
        batch_sizes: Sequences per pass.
        lengths: Tokens per sequence, as far as all models can read them; images have the size the model reads.
        formats: See `in_format`; single precision comes first in any case.
        runs: Timed passes of each, at most; fewer, but five or more, where they take longer than five seconds together.
        warm_up: Passes before, not timed, beside two that tell how long one takes.
    """

    batch_sizes: tuple[int, ...] = (1, 32)
    lengths: tuple[int, ...] = (32, 128)
    formats: tuple[str, ...] = (Format.FP32.value,)
    runs: int = 50
    warm_up: int = 5


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
) -> dict[str, Any]:
    """Measure models on the same labeled rows.

    Args:
        contestants: The teacher first, if there is one; all for one task, with the same classes.
        rows: Raw rows: texts and `label`, words and their labels, questions with contexts and answers, or images.
        name: Of the data set.
        split: Which part of it the rows are.
        latency: What to time. None: nothing.
        batch_size: Examples per pass when they are asked about the rows.
        max_length: Longer inputs are cut to so many tokens.
        device: Where to run.
        progress: Told what is being done.

    Returns:
        The section `evaluation` of a run record, JSON-ready; `run_record.schema.json` says it field by field. Differences
        from the teacher come with a 95 % paired bootstrap interval and, where items are right or wrong, the exact McNemar
        test; the fidelity of classifiers with the Kullback-Leibler divergence in nats.

    Raises:
        ValueError: No model, two of the same name, different tasks or classes, or no rows or rows that lack what they need.
    """
    _require_comparable(evaluated_models, rows, name, split)
    formats = list(dict.fromkeys([Format.FP32.value, *(latency.formats if latency else ())]))
    names = label_names(evaluated_models[0].model.config)
    settings = {"names": names, "batch_size": batch_size, "max_length": max_length, "device": device}
    reference: Predictions | None = None
    found, runners = [], {}
    for evaluated in evaluated_models:
        answers = {}
        for each in formats:
            progress(f"{evaluated.name}: answers in {each}")
            example = example_inputs(evaluated.model, 2, 16, device)
            run = runners[evaluated.name, each] = in_format(evaluated.model, each, example, device)
            answers[each] = Predictor(evaluated.model, evaluated.processing_class, run, **settings).ask(rows)
        found.append(_row(evaluated, answers, reference))
        if evaluated.role == TEACHER:
            reference = answers[Format.FP32.value]
    for each in formats if latency is not None else ():
        progress(f"latency in {each}")
        of_format = {evaluated.name: runners[evaluated.name, each] for evaluated in evaluated_models}
        for row, times in zip(found, _latencies(evaluated_models, of_format, latency, device), strict=True):
            row.setdefault("latency", []).extend({"format": each} | time for time in times)
    return {
        "task": task_of(evaluated_models[0].model).value,
        "data": {"name": name, "split": split} | _sizes(rows, answers[Format.FP32.value]),
        "metric": answers[Format.FP32.value].main_metric,
        "conditions": _conditions(device, max_length),
        "rows": found,
    }


def _sizes(rows: Dataset, answers: Predictions) -> dict[str, Any]:
    """How many rows there are, how many of them count, and which they are."""
    return {"examples": len(rows), "scored": answers.num_examples, "fingerprint": rows_sha256(rows)}


def example_inputs(
    model: PreTrainedModel, batch_size: int, length: int, device: torch.device | str
) -> dict[str, Tensor]:
    """Random inputs of the kind a model reads, none of them padding."""
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


def _row(
    evaluated: EvaluatedModel, answers: Mapping[str, Predictions], reference: Predictions | None
) -> dict[str, Any]:
    """What is known of a model before it is timed."""
    model, (main, *_) = evaluated.model, answers.values()
    tensors = list(model.parameters())
    row = {
        "name": evaluated.name,
        "role": evaluated.role,
        "parameters": model.num_parameters(),
        "megabytes": round(sum(each.numel() * each.element_size() for each in tensors) / 1e6, 1),
        "weights_sha256": weights_sha256(model),
        "metrics": main.metrics,
    }
    if len(answers) > 1:
        row["metrics_by_format"] = {each: answer.metrics for each, answer in list(answers.items())[1:]}
    return row if reference is None else row | _against(reference, main)


def _against(teacher: Predictions, student: Predictions) -> dict[str, Any]:
    """Fidelity, and by how much the student is better or worse."""
    if len(teacher.predictions) != len(student.predictions):
        raise ValueError(
            f"teacher and student must read the same items, got {len(teacher.predictions)} and "
            f"{len(student.predictions)}: their tokenizers cut the texts at different places; pass a larger max_length (--max-length)"
        )
    fidelity = {}
    if student.logits is not None:
        kind = "regression" if student.is_right is None else "single_label_classification"
        both = torch.from_numpy(student.logits), torch.from_numpy(teacher.logits)
        fidelity = {key: float(value.mean()) for key, value in fidelity_values(*both, kind).items()}
    else:
        fidelity["teacher_agreement"] = float((student.predictions == teacher.predictions).mean())
    main, count = student.main_metric, teacher.num_examples
    low, high = difference_interval(lambda chosen: student.score(chosen) - teacher.score(chosen), count)
    difference = {"difference": student.metrics[main] - teacher.metrics[main], "low": low, "high": high}
    if student.is_right is not None:
        difference["mcnemar_p"] = mcnemar(student.is_right, teacher.is_right)
    return {"fidelity": fidelity, "against_teacher": difference}


def _latencies(
    evaluated_models: Sequence[EvaluatedModel],
    runners: Mapping[str, Callable],
    settings: LatencySettings,
    device: torch.device | str,
) -> list[list[dict[str, Any]]]:
    """Of every model one entry per batch size and length."""
    model = min(
        (evaluated.model for evaluated in evaluated_models), key=lambda each: getattr(each.config, "vocab_size", 0)
    )
    limit = min(getattr(evaluated.processing_class, "model_max_length", 10**9) for evaluated in evaluated_models)
    limit = min(limit, *(getattr(each.model.config, "max_position_embeddings", limit) for each in evaluated_models))
    lengths = [length for length in settings.lengths if length <= limit] or [limit]
    has_length = task_of(model) is not Task.IMAGE_CLASSIFICATION
    found = []
    for size in settings.batch_sizes:
        for length in lengths if has_length else (0,):
            shape = {"batch_size": size, "sequence_length": length, "device": device}
            inputs = {"inputs": lambda size, length: example_inputs(model, size, length, device)}
            trial = measure_latency(runners, **shape, runs=1, warm_up=1, **inputs)
            affordable = int(_ENOUGH_MILLISECONDS / max(each["median_ms"] for each in trial.values()))
            runs, warm_up = min(max(affordable, _FEWEST_RUNS), settings.runs), min(affordable // 5, settings.warm_up)
            found.append(measure_latency(runners, **shape, runs=runs, warm_up=warm_up, **inputs))
    return [[times[evaluated.name] for times in found] for evaluated in evaluated_models]


def _conditions(device: torch.device | str, max_length: int) -> dict[str, Any]:
    packages = ("torch", "transformers")
    versions = {"python": platform.python_version()} | {package: version(package) for package in packages}
    return {"hardware": hardware_name(device), "max_length": max_length, "versions": versions}

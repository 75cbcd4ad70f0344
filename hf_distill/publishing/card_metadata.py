"""The metadata of a student's model card, which the Hub reads."""

from __future__ import annotations

from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from hf_distill.publishing.card_results import LANGUAGE_MODELS, scores_of
from hf_distill.publishing.run_record import RunRecord
from hf_distill.publishing.usage import is_adapter, is_sentence_encoder, library_of, pipeline_of, widget
from hf_distill.text.hub_ids import is_hub_id

# The Hub's names of metrics, by the names in run records (without eval_ or test_).
_HUB_METRICS = {
    "accuracy": "accuracy",
    "f1": "f1",
    "f1_macro": "f1",
    "exact_match": "exact_match",
    "matthews_correlation": "matthews_correlation",
    "precision": "precision",
    "recall": "recall",
    "pearson": "pearsonr",
    "spearmanr": "spearmanr",
    "mse": "mse",
}
# Those that the Hub's search and its embedding servers look for.
_EMBEDDER_TAGS = ["sentence-transformers", "feature-extraction", "sentence-similarity"]


def metadata_of(record: RunRecord, title: str) -> ModelCardData:
    """Build the metadata of a student's model card; names that are not valid Hub ids are left out.

    Args:
        record: The run record of the student.
        title: The title of the card, written as `model_name`.

    Returns:
        The metadata.
    """
    card, data, adapter = record.card, record.data, record.student.get("adapter")
    tag = card.get("pipeline_tag") or pipeline_of(record.student)
    measured, measured_on = _measured(record)
    base = base_model_of(record)
    kind = (
        "knowledge-distillation" if record.is_distilled else "pre-training" if tag in LANGUAGE_MODELS else "fine-tuning"
    )
    found_by = _EMBEDDER_TAGS if is_sentence_encoder(record.student) else [adapter["type"].lower()] if adapter else []
    tags = ["hf_distill", kind, *found_by, *_listed(card.get("tags"))]
    extra: dict[str, Any] = {}
    if base and (relation := _relation(record)):
        extra["base_model_relation"] = relation
    if examples := widget(record.student, data):
        extra["widget"] = examples
    return ModelCardData(
        language=card.get("language") or data.get("language"),
        license=card.get("license") or data.get("license"),
        library_name=library_of(record.student),
        pipeline_tag=tag,
        tags=list(dict.fromkeys(tags)),
        base_model=base,
        datasets=_as_given(card.get("datasets"), datasets_of(record)),
        metrics=list(dict.fromkeys(_HUB_METRICS[name] for name in measured)) or None,
        model_name=title,
        eval_results=_results(measured, measured_on, tag or "other", datasets_of(record)) or None,
        **extra,
        **_emissions(record),
    )


def datasets_of(record: RunRecord) -> list[str]:
    """The Hub ids of the data sets, as far as the caller gave them."""
    return [name for name in _listed(record.card.get("datasets")) if is_hub_id(name)]


def base_model_of(record: RunRecord) -> str | None:
    """The Hub id of the base model: the one the caller gave, else the model the student was loaded from, else its teacher.

    A student with random initial weights is not derived from its teacher.

    Args:
        record: The run record of the student.

    Returns:
        The Hub id; None if there is none.
    """
    is_derived = record.student.get("initialization") != "random" and starts_from_teacher(record)
    teacher = record.teacher or {} if is_derived else {}
    known = [model["name"] for model in (record.student, teacher) if model.get("revision")]
    return next((name for name in [record.card.get("base_model"), *known] if name and is_hub_id(name)), None)


def starts_from_teacher(record: RunRecord) -> bool:
    """Whether weights of the student that are not random are the teacher's, and not those of an encoder named beside it."""
    is_prompted = "templates" in (record.teacher or {})
    return not (record.has_external_teacher or is_prompted or record.student.get("base_model"))


def _relation(record: RunRecord) -> str | None:
    if is_adapter(record.student):
        return "adapter"
    return None if record.student.get("initialization") == "random" else "finetune"


def _as_given(given: Any, ids: list[str]) -> Any:
    """The ids as a string if they were given as one, else as a list; None if there are none."""
    return (ids[0] if isinstance(given, str) else ids) if ids else None


def _listed(value: Any) -> list[Any]:
    return [value] if isinstance(value, str) else list(value or ())


def _emissions(record: RunRecord) -> dict[str, Any]:
    grams = record.training.get("co2_eq_grams")
    if grams is None:
        return {}
    source = {"emissions": grams, "source": "codecarbon", "training_type": "fine-tuning"}
    return {"co2_eq_emissions": source | {"hardware_used": record.training["hardware"]}}


def _measured(record: RunRecord) -> tuple[dict[str, float], dict[str, Any]]:
    """The student's metrics that the Hub has names for, and the name and the split of the data they were measured on."""
    evaluation = record.evaluation
    if evaluation and "this" in evaluation:
        measured, data = evaluation["rows"][evaluation["this"]]["metrics"], evaluation["data"]
    else:
        scores = scores_of(record)
        split = next(
            (split for split in ("test", "validation") if any(split in each for each in scores.values())), None
        )
        measured = {name: values[split] for name, values in scores.items() if split in values}
        data = {"name": record.data.get("eval_name") or record.data.get("name") or "unnamed", "split": split}
    return {name: value for name, value in measured.items() if name in _HUB_METRICS}, data


def _results(measured: dict[str, float], data: dict[str, Any], task: str, datasets: list[str]) -> list[EvalResult]:
    """Evaluation results in the Hub's format, which requires the data set's id; empty without one."""
    return [
        EvalResult(
            task_type=task,
            dataset_type=datasets[0],
            dataset_name=data["name"],
            dataset_split=data["split"],
            metric_type=_HUB_METRICS[name],
            metric_name=name,
            metric_value=round(value, 4),
        )
        for name, value in measured.items()
        if datasets
    ]

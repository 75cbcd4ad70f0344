"""A model card rendered from a run record alone."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from hf_distill.evaluation.report import shrinking_plot
from hf_distill.publishing.run_record import RunRecord
from hf_distill.recipes import RECIPES

_TEMPLATE = "student_card.md.jinja"
_SPLITS = {"eval": "validation", "test": "test"}  # by the prefix of their metrics
_PIPELINE_TAGS = {
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
    "ForQuestionAnswering": "question-answering",
    "ForMaskedLM": "fill-mask",
    "ForCausalLM": "text-generation",
    "ForImageClassification": "image-classification",
}


def render_model_card(record: RunRecord) -> ModelCard:
    """The card of the student a run made.

    Args:
        record: What the run left. `comparison`, where it is filled, becomes the results table, and the row marked
            `this` the results in the metadata.

    Returns:
        Card with valid metadata; `save` writes it.
    """
    with resources.as_file(resources.files("hf_distill.publishing") / "templates" / _TEMPLATE) as template:
        metadata = _metadata(record)
        return ModelCard.from_template(
            metadata,
            template_path=str(template),
            record=record,
            scores=(scores := _scores(record)),
            splits=[split for split in _SPLITS.values() if any(split in values for values in scores.values())],
            task=metadata.pipeline_tag,
            recipe=RECIPES.get(record.arguments.get("recipe")),
        )


def write_model_card(folder: str | os.PathLike) -> Path:
    """Render the `run.json` of a student folder into its README.md, and the plot of a student that shrank.

    Raises:
        FileNotFoundError: The folder has no `run.json`.
    """
    path, record = Path(folder) / "README.md", RunRecord.load(folder)
    render_model_card(record).save(path)
    if record.progress:
        shrinking_plot(record.progress, path.with_name("shrinking.png"))
    return path


def _scores(record: RunRecord) -> dict[str, dict[str, float]]:
    """What was measured on each split, by metric; not how long it took."""
    found: dict[str, dict[str, float]] = {}
    for key, value in record.metrics.items():
        prefix, _, name = key.partition("_")
        if prefix in _SPLITS and not name.endswith(("runtime", "per_second", "_time", "samples")):
            found.setdefault(name, {})[_SPLITS[prefix]] = value
    return found


def _metadata(record: RunRecord) -> ModelCardData:
    own = next((row for row in record.comparison if row.get("this")), None)
    results = None
    if own is not None:
        results = [
            EvalResult(
                task_type="text-classification",
                dataset_type=record.data.get("name", "unknown"),
                dataset_name=record.data.get("name", "unknown"),
                metric_type="accuracy",
                metric_value=round(own["accuracy"], 4),
            )
        ]
    architecture = record.student["architecture"]
    tag = next((tag for ending, tag in _PIPELINE_TAGS.items() if architecture.endswith(ending)), None)
    return ModelCardData(
        language=record.data.get("language"),
        license=record.data.get("license"),
        library_name="transformers",
        pipeline_tag=tag,
        tags=["hf_distill", "knowledge-distillation" if record.teacher else "fine-tuning"],
        datasets=None,
        metrics=["accuracy"] if own else None,
        model_name=record.student["name"],
        eval_results=results,
    )

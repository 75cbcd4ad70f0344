"""A model card rendered from a run record alone."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from hf_distill.evaluation.report import (
    examples_label,
    in_percent,
    is_share,
    latency_of,
    metric_label,
    report_plot,
    shrinking_plot,
)
from hf_distill.files import write_whole
from hf_distill.privacy import public
from hf_distill.publishing import citations, markdown
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
# The Hub's names of metrics, by the ends of ours.
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


_FIRST_WEIGHTS = {
    "random": "random",
    "embeddings": "the teacher's embeddings, all else random",
    "truncated": "layers, embeddings and head of the teacher",
    "width": "a part of the teacher's dimensions in every layer",
    "pretrained": "a trained model",
}


def render_model_card(record: RunRecord) -> ModelCard:
    """The card of the student a run made.

    Args:
        record: What the run left. `evaluation`, where it is filled, becomes the results table, and its row about the
            student the results in the metadata; else `metrics` do.

    Returns:
        Card with valid metadata; `save` writes it. Nothing in the record is read as markup, and nothing private in it is
        shown (see `public`).
    """
    record = RunRecord(**_without_next_line(public(asdict(record))))
    with resources.as_file(resources.files("hf_distill.publishing") / "templates" / _TEMPLATE) as template:
        metadata = _metadata(record)
        papers = citations.papers_of(record)
        return ModelCard.from_template(
            metadata,
            template_path=str(template),
            record=record,
            title=_title(record),
            task=metadata.pipeline_tag,
            first_weights=_FIRST_WEIGHTS.get(
                record.student.get("initialisation"), record.student.get("initialisation")
            ),
            table=_comparison_table(record.evaluation) if record.evaluation else [],
            examples=examples_label(record.evaluation) if record.evaluation else None,
            scores=(scores := _scores(record)),
            splits=[split for split in _SPLITS.values() if any(split in values for values in scores.values())],
            recipe=RECIPES.get(record.arguments.get("recipe")),
            papers={number: citations.title_of(number) for number in papers},
            bibtex="\n\n".join(map(citations.bibtex, papers)),
            text=markdown.escaped,
            code=markdown.code,
            code_block=markdown.code_block,
        )


def _title(record: RunRecord) -> str:
    """As the caller says, else after the student's folder, and where that is not recorded after its first weights."""
    return record.card.get("model_name") or record.student.get("saved_as") or record.student["name"]


def _without_next_line(value: Any) -> Any:
    """Without the control character U+0085, which YAML writers and readers understand differently."""
    if isinstance(value, dict):
        return {_without_next_line(key): _without_next_line(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_next_line(each) for each in value]
    return value.replace("\x85", " ") if isinstance(value, str) else value


def write_model_card(folder: str | os.PathLike) -> Path:
    """Render the `run.json` of a student folder into its README.md, with the plots that the card shows.

    Raises:
        FileNotFoundError: The folder has no `run.json`.
        ValueError: It cannot be read, see `RunRecord.load`.
    """
    path, record = Path(folder) / "README.md", RunRecord.load(folder)
    card = render_model_card(record)
    if record.evaluation:
        report_plot(record.evaluation, path.with_name("comparison.png"))
    if record.progress:
        shrinking_plot(record.progress, path.with_name("shrinking.png"))
    write_whole(path, str(card))  # last: it shows the plots
    return path


def add_evaluation(folder: str | os.PathLike, evaluation: Mapping[str, Any], name: str) -> Path:
    """Keep a comparison in a student's `run.json`, and render its card from it.

    Args:
        folder: Of the student, with a `run.json`.
        evaluation: See `hf_distill.evaluation.comparison.compare`.
        name: Of the student in it.

    Returns:
        The card.

    Raises:
        FileNotFoundError: The folder has no `run.json`.
        ValueError: The comparison has no such model.
    """
    names = [row["name"] for row in evaluation["rows"]]
    if name not in names:
        raise ValueError(f"the comparison is of {names}, got {name!r}")
    record = RunRecord.load(folder)
    record.evaluation = {**evaluation, "this": names.index(name)}
    record.save(folder)
    return write_model_card(folder)


def _scores(record: RunRecord) -> dict[str, dict[str, float]]:
    """What was measured on each split, by metric; not how long it took."""
    found: dict[str, dict[str, float]] = {}
    for key, value in record.metrics.items():
        prefix, _, name = key.partition("_")
        is_result = not name.endswith(("runtime", "per_second", "_time", "samples"))
        if prefix in _SPLITS and is_result and value is not None:
            found.setdefault(name, {})[_SPLITS[prefix]] = value
    return found


def _comparison_table(evaluation: dict[str, Any]) -> list[list[str]]:
    """The comparison's table, cells ready to be written: headings first, the student's own row in bold."""
    rows, metric = evaluation["rows"], evaluation["metric"]
    is_timed = all(latency_of(row) is not None for row in rows)
    scale = 100 if is_share(evaluation) else 1
    headings = ["model", "trained on", metric_label(evaluation), "against the teacher", "agreement", "parameters"]
    table = [[*headings, *(["latency"] if is_timed else [])]]
    for index, row in enumerate(rows):
        against, fidelity = row.get("against_teacher") or {}, row.get("fidelity") or {}
        agreement, name = fidelity.get("teacher_agreement"), markdown.escaped(row["name"])
        interval = [f"{scale * against[end]:+.1f}" for end in ("low", "high")] if against else []
        cells = [
            f"**{name}** (this model)" if index == evaluation.get("this") else name,
            {"teacher": "(teacher)", "other": ""}.get(row["role"], row["role"]),
            in_percent(evaluation, row["metrics"][metric]),
            f"{scale * against['difference']:+.1f} ({' to '.join(interval)})" if against else "",
            f"{100 * agreement:.1f} %" if agreement is not None else "",
            f"{row['parameters'] / 1e6:.1f}M",
        ]
        table.append([*cells, *([f"{latency_of(row):.2f} ms"] if is_timed else [])])
    return table


def _metadata(record: RunRecord) -> ModelCardData:
    card, data = record.card, record.data
    architecture = record.student["architecture"]
    tag = next((tag for ending, tag in _PIPELINE_TAGS.items() if architecture.endswith(ending)), None)
    results = _results(record, card.get("pipeline_tag") or tag or "other")
    base = card.get("base_model") or _origin(record)
    kind = "knowledge-distillation" if record.is_distilled else "fine-tuning"
    return ModelCardData(
        language=card.get("language") or data.get("language"),
        license=card.get("license") or data.get("license"),
        library_name="transformers",
        pipeline_tag=card.get("pipeline_tag") or tag,
        tags=list(dict.fromkeys(["hf_distill", kind, *card.get("tags", [])])),
        base_model=base,
        datasets=card.get("datasets"),
        metrics=list(dict.fromkeys(result.metric_type for result in results)) or None,
        model_name=_title(record),
        eval_results=results or None,
        **({"base_model_relation": "finetune"} if base else {}),
        **_emissions(record),
    )


def _origin(record: RunRecord) -> str | None:
    """The Hub's model that the student derives from: what it was loaded from, else its teacher."""
    for model in (record.student, record.teacher or {}):
        if model.get("revision"):
            return model["name"]
    return None


def _emissions(record: RunRecord) -> dict[str, Any]:
    grams = record.training.get("co2_eq_grams")
    if grams is None:
        return {}
    source = {"emissions": grams, "source": "codecarbon", "training_type": "fine-tuning"}
    return {"co2_eq_emissions": source | {"hardware_used": record.training["hardware"]}}


def _results(record: RunRecord, task: str) -> list[EvalResult]:
    """The student's own metrics on the last split measured, as far as the Hub has names for them."""
    evaluation = record.evaluation
    if evaluation and "this" in evaluation:
        measured, data = evaluation["rows"][evaluation["this"]]["metrics"], evaluation["data"]
    else:
        scores = _scores(record)
        split = next(
            (split for split in ("test", "validation") if any(split in each for each in scores.values())), None
        )
        measured = {name: values[split] for name, values in scores.items() if split in values}
        data = {"name": record.data.get("name") or "unnamed", "split": split}
    names = record.card.get("datasets") or data["name"]
    return [
        EvalResult(
            task_type=task,
            dataset_type=names if isinstance(names, str) else names[0],
            dataset_name=data["name"],
            dataset_split=data["split"],
            metric_type=_HUB_METRICS[name],
            metric_name=name,
            metric_value=round(value, 4),
        )
        for name, value in measured.items()
        if name in _HUB_METRICS
    ]

"""The model card of a student, rendered from its run record alone."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard
from transformers.utils import logging

from hf_distill.evaluation.metric_text import examples_label, gain_texts
from hf_distill.evaluation.plots import report_plot, shrinking_plot
from hf_distill.extras import require_extra
from hf_distill.files import atomic_write
from hf_distill.publishing import card_results, card_tables, citations, usage
from hf_distill.publishing.card_metadata import base_model_of, datasets_of, metadata_of, starts_from_teacher
from hf_distill.publishing.run_record import RunRecord
from hf_distill.recipes import RECIPES
from hf_distill.text.hub_ids import hub_link
from hf_distill.text.markdown import Markdown, code, code_block, escaped, rendered

logger = logging.get_logger(__name__)

_TEMPLATE = "student_card.md.jinja"
_FIRST_WEIGHTS = {
    "random": "random",
    "embeddings": "the teacher's embeddings, all else random",
    "truncated": "layers, embeddings and head of the teacher",
    "width": "a part of the teacher's dimensions in every layer",
    "pretrained": "a trained model",
}


def render_model_card(record: RunRecord, with_plots: bool = True) -> ModelCard:
    """Render the model card of a student.

    Args:
        record: The run record. Its `evaluation`, if there is one, becomes the results table, and the student's row in it
            the results in the metadata; else its `metrics` do.
        with_plots: Show the plots that `write_model_card` draws beside the card.

    Returns:
        The card, with valid metadata. No text of the record is interpreted as markup, and private values are not shown
        (see `public`).
    """
    record = RunRecord(**_without_next_line(record.public_content()))
    title, evaluation = _title(record), record.evaluation
    own = evaluation["rows"][evaluation["this"]] if evaluation and "this" in evaluation else None
    page = rendered(
        "hf_distill.publishing",
        _TEMPLATE,
        card_data=Markdown(metadata_of(record, title).to_yaml()),
        record=record,
        title=title,
        snippet=_snippet(record),
        packages=usage.packages_of(record.student),
        base=hub_link(base_model_of(record)),
        first_weights=_first_weights(record),
        comparison=card_results.comparison_table(evaluation) if evaluation else None,
        examples=examples_label(evaluation) if evaluation else None,
        other_teacher=_other_teacher(record),
        gain=_gain(evaluation, own) if evaluation and own and "against_labels_alone" in own else None,
        scores=card_results.scores_table(record),
        own=own,
        by_class=card_results.class_table(evaluation, own) if evaluation and own else None,
        speed=card_results.speed_table(evaluation, own) if evaluation and own else None,
        exports=card_results.exports_table(record.exports) if record.exports else None,
        data_sets=[hub_link(name, "datasets/") for name in datasets_of(record)],
        teacher_name=_teacher_name(record),
        recipe=RECIPES.get(record.arguments.get("recipe", "")),
        papers=_papers(record),
        tables=card_tables,
        with_plots=with_plots,
        code=code,
        code_block=code_block,
        package_name=_package_name(),
    )
    return ModelCard(page)


def _other_teacher(record: RunRecord) -> str | None:
    """The teacher of the comparison, where it is known to be another one than the student learned from."""
    rows = (record.evaluation or {}).get("rows") or [{}]
    known = (record.teacher or {}).get("weights_sha256"), rows[0].get("weights_sha256")
    if rows[0].get("role") != "teacher" or not all(known) or known[0] == known[1]:
        return None
    return None if rows[0]["name"] == (record.teacher or {})["name"] else rows[0]["name"]  # it was trimmed, for example


def _first_weights(record: RunRecord) -> str | None:
    """Where the student's initial weights are from; None: that is not known."""
    initialization = record.student.get("initialization")
    if record.progress and initialization == "pretrained":
        return "all of a trained model's, fewer and fewer of which it kept"
    lineage, is_staged = record.student.get("lineage"), len(record.stages) > 1
    if initialization == "pretrained" and lineage and not is_staged:
        return f"those of {record.student['name']}, which {_learned(lineage)}"
    text = _FIRST_WEIGHTS.get(initialization, initialization) if initialization else None
    text = f"{text}, before the first stage" if text and is_staged else text
    if text is None or starts_from_teacher(record):
        return text
    return text.replace(", embeddings and head of the teacher", " and embeddings of the base model").replace(
        "the teacher's", "the base model's"
    )


def _gain(evaluation: Mapping[str, Any], own: Mapping[str, Any]) -> str:
    how, difference, interval = gain_texts(evaluation, own["against_labels_alone"])
    return f"It is {how} than the same student trained on the labels alone ({difference}, {interval})."


def _learned(lineage: Mapping[str, Any]) -> str:
    """How a model was trained, as the rest of a sentence about it."""
    source = f"learned from {lineage['teacher']}" if lineage["teacher"] else "was trained without a teacher"
    return f"{source} in {card_tables.counted(lineage['steps'], 'step')}" if "steps" in lineage else source


def _snippet(record: RunRecord) -> Markdown | None:
    text = usage.usage(record.student, record.data)
    return code_block(text, "python") if text else None


def _teacher_name(record: RunRecord) -> Markdown | None:
    teacher = record.teacher
    if teacher is None:
        return None
    return (hub_link(teacher["name"]) if teacher.get("revision") else None) or escaped(teacher["name"])


def _package_name() -> Markdown:
    """The name of this package, with a link to its repository if the package's metadata name one."""
    try:
        known = metadata("hf_distill")
    except PackageNotFoundError:
        return escaped("hf_distill")
    urls = [
        *(known.get_all("Home-page") or ()),
        *(line.partition(",")[2].strip() for line in known.get_all("Project-URL") or ()),
    ]
    address = next((url for url in urls if re.fullmatch(r"https://[\w./-]+", url)), None)
    return Markdown(f"[hf_distill]({address})") if address else escaped("hf_distill")


def _papers(record: RunRecord) -> dict[str, Markdown]:
    """The list of the papers, and their BibTeX entries; empty if there are none."""
    numbers = citations.papers_of(record)
    if not numbers:
        return {}
    lines = [f"- {citations.title_of(each)}, [arXiv {each}](https://arxiv.org/abs/{each})." for each in numbers]
    bibtex = "\n\n".join(map(citations.bibtex, numbers))
    return {"list": Markdown("\n".join(lines)), "bibtex": code_block(bibtex, "bibtex")}


def _title(record: RunRecord) -> str:
    """The title that the caller gave, else the name of the student's folder, else the name of its initial model."""
    return record.card.get("model_name") or record.student.get("saved_as") or record.student["name"]


def _without_next_line(value: Any) -> Any:
    """A copy without the control character U+0085, which YAML writers and readers interpret differently."""
    if isinstance(value, dict):
        return {_without_next_line(key): _without_next_line(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_next_line(each) for each in value]
    return value.replace("\x85", " ") if isinstance(value, str) else value


def _can_plot() -> bool:
    try:
        require_extra("matplotlib", "publish", "a model card with plots")
    except ImportError as error:
        logger.warning(f"The model card has no plots: {error}")
        return False
    return True


def write_model_card(folder: str | os.PathLike) -> Path:
    """Render the `run.json` of a student folder into its README.md, with the plots that the card shows.

    Without matplotlib the card shows no plots, and a warning says so.

    Args:
        folder: The student's folder.

    Returns:
        The path of the card.

    Raises:
        FileNotFoundError: The folder has no `run.json`.
        ValueError: The `run.json` cannot be read, see `RunRecord.load`.
    """
    path, record = Path(folder) / "README.md", RunRecord.load(folder)
    with_plots = bool(record.evaluation or record.progress) and _can_plot()
    card = render_model_card(record, with_plots)
    if with_plots and record.evaluation:
        report_plot(record.evaluation, path.with_name("comparison.png"))
    if with_plots and record.progress:
        shrinking_plot(record.progress, path.with_name("shrinking.png"))
    atomic_write(path, str(card))  # last, since it links to the plots
    return path


def add_evaluation(folder: str | os.PathLike, evaluation: Mapping[str, Any], name: str) -> Path:
    """Write a comparison into a student's `run.json`, in place of an earlier one, and render its card again.

    Args:
        folder: The student's folder, with a `run.json`.
        evaluation: The comparison, as `hf_distill.evaluation.comparison.compare` returns it.
        name: The student's name in the comparison.

    Returns:
        The path of the card.

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


def add_exports(folder: str | os.PathLike, exports: Mapping[str, Any]) -> Path:
    """Add the report of exports to a student's `run.json`, and render its card again.

    Args:
        folder: The student's folder, with a `run.json`.
        exports: The report, as `hf_distill.export_student` returns it.

    Returns:
        The path of the card.

    Raises:
        FileNotFoundError: The folder has no `run.json`.
    """
    record = RunRecord.load(folder)
    record.exports = dict(exports)
    record.save(folder)
    return write_model_card(folder)

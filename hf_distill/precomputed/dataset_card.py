"""The card of a labeled transfer set, rendered from its manifest alone."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import DatasetCard, DatasetCardData

from hf_distill.files import atomic_write
from hf_distill.precomputed.provenance import Provenance
from hf_distill.precomputed.shards import PATTERN, Manifest
from hf_distill.tasks import Task
from hf_distill.teachers.column_names import (
    TEACHER_CLASSES,
    TEACHER_LOGITS,
    TEACHER_POSITIONS,
    TEACHER_PROVENANCE,
    TEMPLATE_LOGITS,
    cls_state_column,
    hidden_state_column,
)
from hf_distill.text.hub_ids import hub_link
from hf_distill.text.markdown import Markdown, rendered

_TEMPLATE = "labeled_dataset_card.md.jinja"
_CATEGORIES = {
    Task.SEQUENCE_CLASSIFICATION: "text-classification",
    Task.TOKEN_CLASSIFICATION: "token-classification",
    Task.QUESTION_ANSWERING: "question-answering",
    Task.MASKED_LM: "fill-mask",
    Task.IMAGE_CLASSIFICATION: "image-classification",
    Task.SENTENCE_EMBEDDING: "feature-extraction",
}
_SHAPES = {
    Task.TOKEN_CLASSIFICATION: "(tokens, classes)",
    Task.QUESTION_ANSWERING: "(2, tokens)",
    Task.MASKED_LM: "(masked, k + 1)",
    Task.SENTENCE_EMBEDDING: "(hidden,)",
}
_LOGITS = (
    "logits, as the teacher's head gives them; where classes exclude each other, softmax makes probabilities of them"
)
_MEANINGS = {
    Task.TOKEN_CLASSIFICATION: "logits of every token, special ones included; softmax makes probabilities of them",
    Task.QUESTION_ANSWERING: "logits of being the answer's first token and its last; softmax makes probabilities of them",
    Task.MASKED_LM: "log-probabilities of k tokens of the vocabulary at every masked token, and of all others together",
    Task.SENTENCE_EMBEDDING: "the embedding of the text, as the teacher pools and normalizes it",
}
_SIZES = ["1K", "10K", "100K", "1M", "10M", "100M", "1B", "10B", "100B", "1T"]


def write_dataset_card(folder: Path, manifest: Manifest) -> None:
    """Write the README.md of a folder of teacher outputs, which also tells `load_dataset` which files hold rows."""
    provenance = manifest.provenance
    data = DatasetCardData(
        task_categories=[_CATEGORIES[Task(provenance.task)]],
        tags=["hf_distill", "knowledge-distillation"],
        annotations_creators=["machine-generated"],
        size_categories=[_size_category(manifest.rows)],
        configs=[{"config_name": "default", "data_files": [{"split": "train", "path": PATTERN}]}],
    )
    page = rendered(
        "hf_distill.precomputed",
        _TEMPLATE,
        card_data=Markdown(data.to_yaml()),
        manifest=manifest,
        provenance=provenance,
        teacher=provenance.teacher,
        teacher_link=hub_link(provenance.teacher["name"]) if provenance.teacher.get("revision") else None,
        columns=[
            {"name": name, "shape": shape, "meaning": Markdown(text)} for name, shape, text in _columns(provenance)
        ],
    )
    atomic_write(folder / "README.md", str(DatasetCard(page)))


def _columns(provenance: Provenance) -> list[tuple[str, str, str]]:
    task, kept = Task(provenance.task), f"{provenance.dtype} "
    found = [(TEACHER_LOGITS, kept + _SHAPES.get(task, "(classes,)"), _MEANINGS.get(task, _LOGITS))]
    if task is Task.MASKED_LM:
        found.append((TEACHER_CLASSES, "int32 (masked, k)", "the ids of these tokens"))
        found.append((TEACHER_POSITIONS, "int32 (masked,)", "where in `input_ids` the masked tokens are"))
    if len(provenance.teacher.get("templates", ())) > 1:
        meaning = "log-probabilities of the classes by each template, whose mean distribution the logits have"
        found.append((TEMPLATE_LOGITS, kept + "(templates, classes)", meaning))
    for index in provenance.hidden_states:
        found.append((hidden_state_column(index), kept + "(tokens, hidden)", f"hidden state {index} at every position"))
    for index in provenance.cls_states:
        found.append((cls_state_column(index), kept + "(hidden,)", f"hidden state {index} at the first position"))
    meaning = "the teacher (all of this card's facts as JSON), and fingerprints of the inputs that it read"
    return [*found, (TEACHER_PROVENANCE, "a structure", meaning)]


def _size_category(rows: int) -> str:
    """The Hub's category for a number of rows, such as "1K<n<10K"."""
    index = max(len(str(rows)) - 3, 0)
    return f"{_SIZES[index - 1]}<n<{_SIZES[index]}" if index else f"n<{_SIZES[0]}"

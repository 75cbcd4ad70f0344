"""The card of a labelled transfer set, rendered from its manifest alone."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from huggingface_hub import DatasetCard, DatasetCardData

from hf_distill.tasks import Task
from hf_distill.teachers.column import (
    TEACHER_CLASSES,
    TEACHER_LOGITS,
    TEACHER_POSITIONS,
    TEACHER_PROVENANCE,
    cls_state_column,
    hidden_state_column,
)
from hf_distill.teachers.provenance import Provenance
from hf_distill.teachers.shards import PATTERN, Manifest, write_whole

_TEMPLATE = "labelled_dataset_card.md.jinja"
_CATEGORIES = {
    Task.SEQUENCE_CLASSIFICATION: "text-classification",
    Task.TOKEN_CLASSIFICATION: "token-classification",
    Task.QUESTION_ANSWERING: "question-answering",
    Task.MASKED_LM: "fill-mask",
    Task.IMAGE_CLASSIFICATION: "image-classification",
}
_SHAPES = {
    Task.TOKEN_CLASSIFICATION: "(tokens, classes)",
    Task.QUESTION_ANSWERING: "(2, tokens)",
    Task.MASKED_LM: "(masked, k + 1)",
}


def write_dataset_card(folder: Path, manifest: Manifest) -> None:
    """Write the README.md of a folder of recorded answers, which also tells `load_dataset` which files hold rows."""
    provenance = manifest.provenance
    with resources.as_file(resources.files("hf_distill.teachers") / "templates" / _TEMPLATE) as template:
        card = DatasetCard.from_template(
            DatasetCardData(
                task_categories=[_CATEGORIES[Task(provenance.task)]],
                tags=["hf_distill", "knowledge-distillation"],
                configs=[{"config_name": "default", "data_files": [{"split": "train", "path": PATTERN}]}],
            ),
            template_path=str(template),
            manifest=manifest,
            provenance=provenance,
            teacher=provenance.teacher,
            columns=[dict(zip(("name", "shape", "meaning"), column, strict=True)) for column in _columns(provenance)],
        )
    write_whole(folder / "README.md", str(card).encode())


def _columns(provenance: Provenance) -> list[tuple[str, str, str]]:
    task, kept = Task(provenance.task), f"{provenance.dtype} "
    meaning = "log-probabilities of the words and of all others together" if task is Task.MASKED_LM else "logits"
    found = [(TEACHER_LOGITS, kept + _SHAPES.get(task, "(classes,)"), meaning)]
    if task is Task.MASKED_LM:
        found.append((TEACHER_CLASSES, "int32 (masked, k)", "the words"))
        found.append((TEACHER_POSITIONS, "int32 (masked,)", "of the masked tokens"))
    for index in provenance.hidden_states:
        found.append((hidden_state_column(index), kept + "(tokens, hidden)", f"hidden state {index} at every position"))
    for index in provenance.cls_states:
        found.append((cls_state_column(index), kept + "(hidden,)", f"hidden state {index} at the first position"))
    return [*found, (TEACHER_PROVENANCE, "teacher, inputs", "which teacher answered, and a hash of the inputs it read")]

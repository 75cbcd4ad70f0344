"""`hf-distill audit`: examine a teacher on a few labeled rows, and leave out rows that it is not sure of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hf_distill.cli.json_output import print_json
from hf_distill.cli.options import (
    Calibrate,
    DatasetConfig,
    LabelColumn,
    LabelNames,
    LabelScoring,
    LabelWords,
    MaxLength,
    OutputsKind,
    PromptTemplates,
    TeacherDevice,
    TeacherOutputs,
    TeacherPrecision,
    TextColumns,
)
from hf_distill.text.plain import printable

if TYPE_CHECKING:
    from datasets import Dataset


_Labeled = Annotated[
    str | None,
    typer.Option(
        help="Labeled rows: a built-in set, a file, a saved folder, or a name on the Hub. With --teacher-outputs, by "
        "default their own rows with labels."
    ),
]
_MaxEntropy = Annotated[
    float | None, typer.Option(help="Keep rows of at most this entropy, from 0 (certain) to 1 (all labels equal).")
]
_MinConfidence = Annotated[
    float | None, typer.Option(help="Keep rows whose most probable label has at least this probability.")
]
_MinAgreement = Annotated[
    float | None,
    typer.Option(help="Keep rows on which at least this share of the templates agrees with their mean."),
]


def audit(
    teacher: Annotated[
        str | None, typer.Argument(help="A classifier of texts, or with --prompt a language model.", show_default=False)
    ] = None,
    dataset: _Labeled = None,
    dataset_config: DatasetConfig = None,
    split: Annotated[str | None, typer.Option(help="A split of --dataset. Default: test, else validation.")] = None,
    text_column: TextColumns = None,
    label_column: LabelColumn = None,
    max_length: MaxLength = 128,
    teacher_outputs: TeacherOutputs = None,
    labels: LabelNames = None,
    outputs_kind: OutputsKind = None,
    prompt: PromptTemplates = None,
    label_words: LabelWords = None,
    label_score: LabelScoring = "sum",
    calibrate: Calibrate = False,
    teacher_dtype: TeacherPrecision = "auto",
    device: TeacherDevice = None,
    measure: Annotated[str, typer.Option(help="What rows are trusted by: confidence or entropy.")] = "confidence",
    required_accuracy: Annotated[float, typer.Option(help="Accuracy that the rows to trust must have.")] = 0.9,
    max_entropy: _MaxEntropy = None,
    min_confidence: _MinConfidence = None,
    min_agreement: _MinAgreement = None,
    filtered_dir: Annotated[
        Path | None, typer.Option(help="Folder for the rows of --teacher-outputs that are kept.")
    ] = None,
    output_dir: Annotated[Path | None, typer.Option(help="Folder for audit.json and disagreements.csv.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Examine a teacher of texts on labeled rows: a classifier, a prompted language model, or recorded outputs.

    Says how accurate and calibrated it is, which labels it confuses, how many rows to trust, and whether a student can be
    expected to gain: whether the teacher is better than a classifier that learned from the labels alone.

    Example: hf-distill audit outputs/teacher --dataset labeled.csv
    """
    from hf_distill.evaluation.teacher_audit import audit_teacher
    from hf_distill.precomputed.distributions import RowFilter
    from hf_distill.scripts.external_teacher import ExternalOutputs
    from hf_distill.scripts.prompted_teacher import PromptOptions
    from hf_distill.scripts.teacher_audit import AuditRequest, audited_rows

    thresholds = max_entropy, min_confidence, min_agreement
    _require_fitting(teacher_outputs, prompt, label_words, (labels, outputs_kind), thresholds, filtered_dir)
    row_filter = None if filtered_dir is None else RowFilter(*thresholds)
    outputs = None if teacher_outputs is None else ExternalOutputs(teacher_outputs, None, labels, outputs_kind)
    prompts = PromptOptions(prompt, label_words or (), label_score, calibrate) if prompt else None
    gold, rows = audited_rows(AuditRequest(
        teacher, outputs, prompts, dataset, dataset_config, split, text_column, label_column, max_length,
        teacher_dtype=teacher_dtype, device=device or "cpu",
    ))  # fmt: skip
    found = audit_teacher(gold, measure, required_accuracy)
    if row_filter is not None and filtered_dir is not None:
        found["filtered"] = _filtered(gold, rows, row_filter, filtered_dir, teacher_outputs)
    _report(found, str(teacher or teacher_outputs), output_dir, as_json)


def _require_fitting(
    outputs: str | None, prompt: Any, words: Any, of_outputs: tuple, thresholds: tuple, filtered_dir: Path | None
) -> None:
    if words and not prompt:
        raise typer.BadParameter("--label is for --prompt")
    if outputs is not None and prompt:
        raise typer.BadParameter("--prompt is for a language model that is run, got --teacher-outputs too")
    if outputs is None and any(of_outputs):
        raise typer.BadParameter("--labels and --outputs-kind are for --teacher-outputs")
    has_thresholds = any(each is not None for each in thresholds)
    if has_thresholds != (filtered_dir is not None) or (has_thresholds and outputs is None):
        raise typer.BadParameter(
            "--max-entropy, --min-confidence or --min-agreement go with --filtered-dir and --teacher-outputs: the kept rows of "
            "recorded outputs are written there"
        )


def _filtered(gold: Any, rows: Dataset, row_filter: Any, folder: Path, source: str | None) -> dict[str, Any]:
    """Write the kept rows; how many there are, and the accuracy on those of them that are labeled."""
    from hf_distill.precomputed.distributions import filter_teacher_outputs

    written = filter_teacher_outputs(rows, row_filter, folder, source)
    kept = row_filter.keeps(gold.outputs).numpy()
    accuracy = float(gold.is_correct[kept].mean()) if kept.any() else None
    return {
        "thresholds": row_filter.thresholds, "rows": len(written), "before": len(rows), "labeled_rows": int(kept.sum()),
        "accuracy": accuracy,
    }  # fmt: skip


def _report(found: dict[str, Any], name: str, output_dir: Path | None, as_json: bool) -> None:
    """Print the audit, and save it with its disagreements."""
    from hf_distill.evaluation.audit_report import audit_lines, disagreements_csv
    from hf_distill.files import atomic_write

    if as_json:
        print_json(found)
    else:
        for line in audit_lines(found, name):
            typer.echo(printable(line))
    if output_dir is not None:
        output_dir.mkdir(parents=True, exist_ok=True)
        atomic_write(output_dir / "audit.json", json.dumps(found, indent=2, ensure_ascii=False) + "\n")
        atomic_write(output_dir / "disagreements.csv", disagreements_csv(found["disagreements"]))

"""A teacher compressed to a target: each step of the plan done once, in a folder of its own, and the result compared."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers.trainer_utils import set_seed

from hf_distill.compression.material import CompressionMaterial
from hf_distill.compression.plan import EXPORT, START, STUDENT, CompressionPlan
from hf_distill.compression.training import export_candidate, finished_training, train_candidate
from hf_distill.compression.workspace import Workspace
from hf_distill.evaluation.comparison import LatencySettings, compare
from hf_distill.evaluation.formats import Format
from hf_distill.evaluation.plots import report_plot
from hf_distill.evaluation.rows_by_format import formats_of, rows_by_format
from hf_distill.files import atomic_write, share_weights
from hf_distill.publishing.derived_record import record_derived
from hf_distill.publishing.run_record import RUN_RECORD_NAME
from hf_distill.scripts.evaluated_models import load_evaluated_models


def workspace_of(material: CompressionMaterial, plan: CompressionPlan) -> Workspace:
    """The folder of a compression.

    Args:
        material: The teacher and the rows.
        plan: The plan.

    Returns:
        The folder, which an interrupted call of the same plan may have left.

    Raises:
        ValueError: The folder holds the steps of another plan, or files of something else.
    """
    chosen = {"--target": f"{plan.target:g}x", "student": plan.candidate.name}
    return Workspace(material.request.output_dir, material.identity() | chosen)


def compress(
    material: CompressionMaterial,
    plan: CompressionPlan,
    latency: LatencySettings | None = None,
    say: Callable[[str], None] = lambda doing: None,
    **export_settings: Any,
) -> dict[str, Any] | None:
    """Do the steps of a plan that are not finished, and compare the student with its teacher.

    Args:
        material: The teacher and the rows.
        plan: The plan.
        latency: The settings of latency measurements, without formats. None: the defaults.
        say: A function that is called with a description of each step that is done.
        **export_settings: Further arguments of `export_student`.

    Returns:
        The comparison with a row for each format, see `rows_by_format`; None where no split has labels.

    Raises:
        ValueError: The folder holds the steps of another plan.
        FolderInUseError: Another process works in the folder.
    """
    work, folder, candidate = workspace_of(material, plan), material.request.output_dir, plan.candidate
    settings = latency or LatencySettings()
    exported = [] if candidate.number_format == Format.FP32.value else [candidate.number_format]

    def done(step: str, work_of_step: Callable[[], Any]) -> Any:
        say(f"{step}: finished before" if work.is_finished(step) else step)
        return work.once(step, work_of_step)

    with work.in_use():
        if plan.is_trained:
            done("label", lambda: len(material.outputs))
        done("start", lambda: _save_start(material, plan, folder / START))
        done("distill" if plan.is_trained else "copy", lambda: _make_student(material, plan, folder / STUDENT))
        if exported:
            done("export", lambda: export_candidate(
                folder / STUDENT, folder / EXPORT, candidate.number_format, material, settings, **export_settings
            ))  # fmt: skip
        timed = replace(settings, formats=tuple(exported), teacher_in_formats=False)
        evaluation = done("compare", lambda: _compared(material, folder / STUDENT, timed))
        if evaluation is None:
            return None
        found = rows_by_format(evaluation, formats_of(evaluation))
        atomic_write(folder / "evaluation.json", json.dumps(found, indent=2) + "\n")
        report_plot(found, folder / "evaluation.png")
        return found


def _save_start(material: CompressionMaterial, plan: CompressionPlan, folder: Path) -> None:
    """Save the student as it is before training, with its tokenizer."""
    source, tokenizer = material.vocabularies[plan.candidate.vocabulary]
    set_seed(material.request.args.seed)
    (plan.candidate.create(source) if plan.is_trained else source).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    share_weights(folder)


def _make_student(material: CompressionMaterial, plan: CompressionPlan, folder: Path) -> None:
    """Train the student, or copy a teacher that only loses tokens."""
    if plan.is_trained:
        train_candidate(plan.candidate, material, material.request.args)
        return
    _save_start(material, plan, folder)
    if Path(material.request.teacher, RUN_RECORD_NAME).exists():
        record_derived(folder, material.vocabularies[plan.candidate.vocabulary][0], material.request.teacher)


def _compared(material: CompressionMaterial, folder: Path, latency: LatencySettings) -> dict[str, Any] | None:
    """The comparison of the student with its teacher, which its record and card get where it has a record."""
    training = finished_training(folder, material)
    if (folder / RUN_RECORD_NAME).exists():
        return training.evaluate(material.request.max_length, latency)
    split = training.evaluated_split
    if split is None:
        return None
    models = load_evaluated_models(material.request.teacher, [str(folder)])
    name = Path(material.request.dataset).stem
    return compare(models, material.splits[split], name, split, latency, max_length=material.request.max_length)

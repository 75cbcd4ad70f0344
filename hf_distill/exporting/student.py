"""Export of a student in one or several formats, into a folder that serves it without torch."""

from __future__ import annotations

import copy
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import PreTrainedModel

from hf_distill.evaluation.comparison import OTHER, EvaluatedModel
from hf_distill.evaluation.loading import load_evaluated_model
from hf_distill.exporting.job import ExportJob
from hf_distill.exporting.settings import ExportSettings
from hf_distill.extras import require_extra
from hf_distill.files import atomic_write
from hf_distill.fingerprints import file_sha256
from hf_distill.graphs.formats import GraphFormat
from hf_distill.publishing.exports import EXPORT_REPORT
from hf_distill.publishing.model_card import add_exports
from hf_distill.publishing.run_record import RUN_RECORD_NAME
from hf_distill.publishing.student_folder import is_weights
from hf_distill.tasks import Task, task_of


def export_student(
    student: str | os.PathLike | PreTrainedModel,
    output_dir: str | os.PathLike,
    rows: Dataset,
    *,
    processing_class: Any = None,
    calibration_rows: Dataset | None = None,
    data: tuple[str, str] = ("data", "test"),
    write_card: bool = True,
    progress: Callable[[str], None] = lambda doing: None,
    **settings: Any,
) -> dict[str, Any]:
    """Export a student for ONNX Runtime, and compare every format with it on real rows.

    The folder gets `model.onnx`, `model_fp16.onnx`, `model_quantized.onnx` or `model_quantized_static.onnx`, the
    configuration, the tokenizer or image processor, and `export.json`, which is what this function returns.

    Args:
        student: The student's folder or its id on the Hub, or a model.
        output_dir: The folder to write into; nothing is written if the agreement is refused.
        rows: The rows to compare on, as `compare` takes them; classifiers of texts and images need no labels.
        processing_class: The tokenizer or image processor of a student that is given as a model.
        calibration_rows: The rows on which int8 is calibrated and hurtful layers are found, such as the transfer set; the first
            256 are used. None: `rows`.
        data: The name of the data set, and the split that `rows` are.
        write_card: Whether to add the results to the student's `run.json` and render its card, if it has one.
        progress: A function that is called with a description of each step.
        **settings: The fields of `ExportSettings`, such as `formats` and `require_agreement`.

    Returns:
        The report: the section `exports` of a run record, which `run_record.schema.json` describes.

    Raises:
        AgreementError: A format agrees less than required; the message names the layers that hurt.
        ValueError: The settings, the student's task or the rows do not fit.
        OSError: The student does not exist.
        ImportError: A package of the extras `onnx` or `eval` is not installed.
    """
    chosen = ExportSettings(**settings)
    require_extra("onnxruntime", "onnx", "an export")
    require_extra("sklearn", "eval", "the comparison of exports")
    evaluated = _loaded(student, processing_class)
    target = Path(output_dir)
    if isinstance(student, (str, os.PathLike)) and target.resolve() == Path(student).resolve():
        raise ValueError(f"output_dir must be another folder than the student's, got {str(output_dir)!r} for both")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=target.parent) as folder:
        job = ExportJob(evaluated, chosen, rows, calibration_rows, Path(folder), progress)
        report = job.report(data) | {"student_files": _weights_files(student)}
        _save(evaluated, report, Path(folder), target)
    if write_card and isinstance(student, (str, os.PathLike)) and Path(student, RUN_RECORD_NAME).exists():
        add_exports(student, report)
    return report


def _loaded(student: str | os.PathLike | PreTrainedModel, processing_class: Any) -> EvaluatedModel:
    if not isinstance(student, PreTrainedModel):
        return load_evaluated_model(os.fspath(student), Path(student).name)
    if processing_class is None and task_of(student) is not Task.IMAGE_CLASSIFICATION:
        raise ValueError("a student that is given as a model needs its tokenizer as processing_class, got None")
    return EvaluatedModel(type(student).__name__, OTHER, student.eval(), processing_class)


def _weights_files(student: Any) -> dict[str, str]:
    """The checksums of the files with a student's weights, by which an export is known to be of them."""
    if isinstance(student, PreTrainedModel) or not Path(student).is_dir():
        return {}
    return {path.name: file_sha256(path) for path in sorted(Path(student).iterdir()) if is_weights(path.name)}


def _save(evaluated: EvaluatedModel, report: dict[str, Any], made: Path, target: Path) -> None:
    """Write the folder of the export; files of an earlier export that is not repeated are removed."""
    target.mkdir(exist_ok=True)
    for each in GraphFormat:
        (target / each.file_name).unlink(missing_ok=True)
    config = copy.deepcopy(evaluated.model.config)
    config.architectures = [type(evaluated.model).__name__]  # which pipelines look for
    config.save_pretrained(target)
    if evaluated.processing_class is not None:
        evaluated.processing_class.save_pretrained(target)
    for row in filter(lambda row: row["file"], report["rows"]):
        shutil.move(made / row["file"], target / row["file"])
    atomic_write(target / EXPORT_REPORT, json.dumps(report, indent=2) + "\n")

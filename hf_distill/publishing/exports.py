"""Exports of a student that are published beside its weights."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hf_distill.files import FileFormatError, checked, named_file, read_json
from hf_distill.publishing.file_kinds import require_own_files
from hf_distill.publishing.student_folder import PublishedFile, describe_file, is_weights, require_no_secrets

EXPORT_REPORT = "export.json"
EXPORT_FOLDER = "onnx"  # where the Hub and its libraries look for exports beside weights
_MADE_BY = "export it with hf-distill export"


def is_export(name: str) -> bool:
    """Whether a file of a repository is an export beside weights, by its name."""
    folder, _, file = name.partition("/")
    return folder == EXPORT_FOLDER and file.endswith(".onnx")


def exported_files(
    folder: str | os.PathLike, student: Iterable[PublishedFile], secret: str | None = None
) -> list[PublishedFile]:
    """Check the folder of an export, and list its ONNX files under the names that they get beside the weights.

    Args:
        folder: The folder that `hf_distill.export_student` wrote.
        student: The files of the student that are published.
        secret: A token that no file may contain, besides strings that look like tokens, passwords or keys. None: there
            is none.

    Returns:
        The files with their checksums, sorted by name.

    Raises:
        FileNotFoundError: The folder has no report, or lacks a file that it names.
        ValueError: The export is of other weights, a file was changed after the export, is a link out of the folder, or
            contains a token; or the student's record does not describe the export.
    """
    folder = Path(folder)
    report = _report(folder)
    rows = checked(report["rows"], list[dict], f"'rows' of {folder / EXPORT_REPORT}")
    named = {str(row["file"]): row.get("sha256") for row in rows if row.get("file")}
    _require_weights_of(folder, report, student)
    require_own_files(folder, named)
    if missing := [name for name in named if not named_file(folder, name, EXPORT_REPORT).is_file()]:
        raise FileNotFoundError(f"{folder} lacks {', '.join(missing)}, which its {EXPORT_REPORT} names: {_MADE_BY}")
    if strange := [name for name in named if not name.endswith(".onnx")]:
        raise FileFormatError(f"{EXPORT_REPORT} of {folder} must name .onnx files, got {strange[0]!r}")
    paths = [folder / name for name in sorted(named)]
    require_no_secrets(paths, secret)
    files = [describe_file(path) for path in paths]
    if changed := [file.name for file in files if file.sha256 != named[file.name]]:
        raise ValueError(f"{', '.join(changed)} of {folder} is not what was compared with the student: {_MADE_BY}")
    return [replace(file, name=f"{EXPORT_FOLDER}/{file.name}") for file in files]


def _report(folder: Path) -> Mapping[str, Any]:
    if not (folder / EXPORT_REPORT).is_file():
        raise FileNotFoundError(f"{folder} has no {EXPORT_REPORT}: {_MADE_BY}")
    return read_json(folder / EXPORT_REPORT, {"rows": list, "student_files": dict[str, str]})


def _require_weights_of(folder: Path, report: Mapping[str, Any], student: Iterable[PublishedFile]) -> None:
    weights = {file.name: file.sha256 for file in student if is_weights(file.name)}
    if report["student_files"] != weights:
        raise ValueError(
            f"the export in {folder} is of other weights than those that are published, {', '.join(sorted(weights))}: "
            "export this student's folder again"
        )

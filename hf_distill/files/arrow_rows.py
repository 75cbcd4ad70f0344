"""Arrow files as a stranger may have made them: opened as rows on disk, or refused with one clear error."""

from __future__ import annotations

from pathlib import Path

import datasets

from hf_distill.files.folders import require_sound_table
from hf_distill.files.reading import FileFormatError


def open_rows(path: Path) -> datasets.Dataset:
    """The rows of an Arrow stream, mapped into memory.

    Args:
        path: The file.

    Returns:
        The rows; their structure is checked, since a checksum does not say who wrote the file.

    Raises:
        FileFormatError: The file is not an Arrow stream, or its structure is broken.
    """
    try:
        rows = datasets.Dataset.from_file(str(path))
    except Exception as error:  # pyarrow and datasets have many
        raise FileFormatError(f"{path} cannot be opened as rows: {error}") from error
    require_sound_table(rows.data, str(path))
    return rows

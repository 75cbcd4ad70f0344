"""Files in the format of SQuAD: one JSON object with articles, their paragraphs and the questions about them.

Source: Rajpurkar et al. 2016, arXiv 1606.05250; Rajpurkar et al. 2018, arXiv 1806.03822.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets

from hf_distill.files import FileFormatError

_FEATURES = datasets.Features(
    {
        "id": datasets.Value("string"),
        "context": datasets.Value("string"),
        "question": datasets.Value("string"),
        "answers": {
            "text": datasets.List(datasets.Value("string")),
            "answer_start": datasets.List(datasets.Value("int32")),
        },
    }
)


def is_squad_file(path: str | Path) -> bool:
    """Whether a file is one JSON object with its questions under "data", and not a list of rows or JSON lines."""
    if Path(path).suffix != ".json":
        return False
    try:
        content = _read(path)
    except json.JSONDecodeError:  # JSON lines
        return False
    return isinstance(content, dict) and "data" in content


def load_squad_file(path: str | Path, cache_dir: str | None = None) -> datasets.Dataset:
    """The questions of a file in the format of SQuAD 1.1 or 2.0, one per row.

    Args:
        path: The path of a file for which `is_squad_file` holds; under "data" it has articles, or rows as they are
            returned.
        cache_dir: The folder in which the rows are cached. None: the cache of the datasets library.

    Returns:
        A data set with the columns id, context, question and answers. Answers are {"text": [...], "answer_start":
        [...]}, with empty lists for a question without an answer, or None if the file has no answers for a question;
        the column is missing if it has none for any.
    """
    version = {"path": str(path), "modified": Path(path).stat().st_mtime_ns}  # so that a changed file is read again
    rows = datasets.Dataset.from_generator(_rows, features=_FEATURES, cache_dir=cache_dir, gen_kwargs=version)
    unlabeled = rows.data.column("answers").null_count == len(rows)
    return rows.remove_columns("answers") if unlabeled else rows


def _read(path: str | Path) -> Any:
    try:
        return json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except RecursionError:
        raise FileFormatError(f"{path} is nested too deeply to be read") from None


def _rows(path: str, modified: int) -> Iterator[dict[str, Any]]:
    for article in _read(path)["data"]:
        if "paragraphs" not in article:  # a row
            yield {name: article.get(name) for name in _FEATURES}
        for paragraph in article.get("paragraphs", ()):
            for question in paragraph["qas"]:
                answers = question.get("answers", [] if question.get("is_impossible") else None)
                if answers is not None:
                    answers = {name: [answer[name] for answer in answers] for name in _FEATURES["answers"]}
                texts = {"context": paragraph["context"], "question": question["question"]}
                yield {"id": question["id"], **texts, "answers": answers}

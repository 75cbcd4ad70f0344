"""Where recorded answers are from: carried by a column of the transfer set itself, so that nothing it goes through sheds it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import datasets
import numpy as np
import pyarrow as pa

from hf_distill.files import as_dataclass, checked, parse_json
from hf_distill.fingerprints import package_versions
from hf_distill.precomputed.input_fingerprints import stored_token_fingerprints
from hf_distill.teachers.column_names import TEACHER_PROVENANCE

SCHEMA_VERSION = 1
TOKENS_READ = "inputs"
_SHA256 = {"teacher": "weights_sha256", "processing_class": "sha256"}
# What differs without any answer being another: names, and versions.
_FREE = {"name", "revision", "versions", "model_type", "hidden_size", "num_hidden_layers"}


@dataclass(frozen=True)
class Provenance:
    """Which teacher answered what, and how.

    Attributes:
        teacher: name, revision, architecture, weights_sha256, dtype it computed in, model_type, hidden_size and num_hidden_layers.
        task: A value of `Task`.
        labels: Names of the classes, in the order of the logits; None where classes have no names.
        processing_class: name and sha256 of the tokenizer or image processor; None where it was not known.
        text_columns: Columns the inputs were made of.
        max_length: The most tokens a text was cut to; None where it was not known.
        dtype: The precision answers are kept in.
        top_classes: For masked words top_k, sampled, temperature, mask_epochs and seed of `LabelingOptions`; else None.
        hidden_states: Indices of those kept at every position.
        cls_states: Indices of those kept at the first position.
        rows_per_shard: Rows of a file, the last excepted.
        problem_type: What the logits of a classifier mean, as its configuration says; None where it does not.
        versions: Of Python and the packages that decide results.
        schema_version: Of this layout.
    """

    teacher: dict[str, Any]
    task: str
    labels: list[str] | None
    processing_class: dict[str, str] | None
    text_columns: list[str]
    max_length: int | None
    dtype: str
    top_classes: dict[str, Any] | None
    hidden_states: list[int]
    cls_states: list[int]
    rows_per_shard: int
    problem_type: str | None = None
    versions: dict[str, str] = field(default_factory=package_versions)
    schema_version: int = SCHEMA_VERSION

    @classmethod
    def from_json(cls, text: str) -> Provenance:
        """What `to_json` wrote.

        Raises:
            ValueError: It is of another schema version, or no provenance.
        """
        return cls.from_content(parse_json(text, "the provenance of recorded answers", kind=Any))

    @classmethod
    def from_content(cls, content: Any) -> Provenance:
        """As `from_json`, of what is parsed already."""
        found = content.get("schema_version") if isinstance(content, dict) else repr(content)[:40]
        if found != SCHEMA_VERSION:
            raise ValueError(f"recorded answers have schema version {found!r}; this package reads {SCHEMA_VERSION}")
        made = as_dataclass(cls, content, "the provenance of recorded answers")
        for part in (name for name in ("teacher", "processing_class") if content[name] is not None):
            for name in ("name", _SHA256[part]):
                checked(content[part].get(name), str, f"{name!r} of {part!r} of the provenance of recorded answers")
        return made

    def to_json(self) -> str:
        """All of it as one line."""
        return json.dumps(asdict(self), sort_keys=True, ensure_ascii=False)

    def identity(self) -> dict[str, Any]:
        """What makes answers what they are, by name, parts of parts with a dot."""
        found = {}
        for name, value in asdict(self).items():
            parts = {f"{name}.{key}": part for key, part in value.items()} if isinstance(value, dict) else {name: value}
            found |= {key: part for key, part in parts.items() if _FREE.isdisjoint(key.split("."))}
        return found

    def differences(self, other: Provenance) -> Iterator[tuple[str, Any, Any]]:
        """What would make answers differ: its name, here and there."""
        own, others = self.identity(), other.identity()
        for name in {**own, **others}:
            if own.get(name) != others.get(name):
                yield name, own.get(name), others.get(name)

    def feature(self, read: Mapping[str, Any]) -> dict[str, Any]:
        """The feature of the column that carries it: every row says which teacher, and what inputs it read.

        Args:
            read: As for `column`.
        """
        values = {name: datasets.List(datasets.Value("float32")) for name in read if name != TOKENS_READ}
        return {"teacher": datasets.ClassLabel(names=[self.to_json()]), TOKENS_READ: datasets.Value("int64")} | values

    def column(self, rows: pa.Table, read: Mapping[str, np.ndarray]) -> pa.Array:
        """That column.

        Args:
            rows: As they are stored.
            read: What the inputs that were made of them are known by: under `TOKENS_READ` a number per row, 0 where it is
                not known, without which those of the stored rows are taken; under an input's name `value_fingerprints`.
        """
        nothing = np.zeros(len(rows), np.int64)
        tokens = read[TOKENS_READ] if TOKENS_READ in read else stored_token_fingerprints(rows)
        values = {name: pa.array(list(rows_read)) for name, rows_read in read.items() if name != TOKENS_READ}
        parts = {"teacher": pa.array(nothing), TOKENS_READ: pa.array(nothing if tokens is None else tokens)} | values
        return pa.StructArray.from_arrays(list(parts.values()), names=list(parts))


def provenances(dataset: Any) -> dict[str, Provenance]:
    """By column those that a data set carries; none for answers of a user's own making.

    Raises:
        ValueError: One is of another schema version.
    """
    found = {}
    for name, feature in (getattr(dataset, "features", None) or {}).items():
        if name.startswith(TEACHER_PROVENANCE) and isinstance(feature, dict):
            found[name] = Provenance.from_json(feature["teacher"].names[0])
    return found

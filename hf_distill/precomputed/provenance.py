"""The provenance of teacher outputs, stored in a column of the transfer set, so that no processing of the rows drops it."""

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
EXTERNAL = "external"  # the `kind` of a teacher whose outputs come from elsewhere
_SHA256 = {"teacher": "weights_sha256", "processing_class": "sha256"}
# Fields that may differ between equal outputs: names and versions.
_FREE = {"name", "revision", "versions", "model_type", "hidden_size", "num_hidden_layers"}


@dataclass(frozen=True)
class Provenance:
    """The teacher, inputs and options that teacher outputs were computed with.

    Attributes:
        teacher: The teacher's name, revision, architecture, weights_sha256, parameters (their number), dtype (the precision
            it computed in), model_type, hidden_size and num_hidden_layers; of a prompted language model also its templates,
            verbalizers, label_score and content_free (see `Prompt`). Of outputs from elsewhere: its name, what else was
            told of it, `kind` "external", what the outputs are (`outputs`) and their sha256 (`outputs_sha256`).
        task: The task of the teacher's head, a value of `Task`.
        labels: Names of the classes, in the order of the logits; None where classes have no names.
        processing_class: The name and sha256 of the tokenizer or image processor; None where it was not known.
        text_columns: Columns that the inputs were made of.
        max_length: The length in tokens that texts were cut to; None where it was not known.
        dtype: The precision that outputs are stored in.
        top_classes: The top_k, sampled, temperature, mask_epochs and seed of `LabelingOptions` for a masked-language model;
            the top_k and temperature of outputs from elsewhere that name some labels only; else None.
        hidden_states: Indices of the hidden states stored at every position.
        cls_states: Indices of the hidden states stored at the first position.
        rows_per_shard: Rows per file, except the last.
        problem_type: The classifier's `problem_type`; None where its configuration has none.
        filtered: The thresholds by which rows were left out afterwards, see `RowFilter`, and the number of rows `before`; None
            where all rows are there.
        versions: Versions of Python and of the packages that results depend on.
        schema_version: The version of this layout.
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
    filtered: dict[str, Any] | None = None
    versions: dict[str, str] = field(default_factory=package_versions)
    schema_version: int = SCHEMA_VERSION

    @classmethod
    def from_json(cls, text: str) -> Provenance:
        """Parse what `to_json` wrote.

        Args:
            text: The JSON.

        Returns:
            The provenance.

        Raises:
            ValueError: It is of another schema version, or no provenance.
        """
        return cls.from_content(parse_json(text, "the provenance of teacher outputs", kind=Any))

    @classmethod
    def from_content(cls, content: Any) -> Provenance:
        """Like `from_json`, from JSON that is parsed already."""
        found = content.get("schema_version") if isinstance(content, dict) else repr(content)[:40]
        if found != SCHEMA_VERSION:
            raise ValueError(f"teacher outputs have schema version {found!r}; this package reads {SCHEMA_VERSION}")
        made = as_dataclass(cls, content, "the provenance of teacher outputs")
        for part in (name for name in ("teacher", "processing_class") if content[name] is not None):
            is_external = part == "teacher" and content[part].get("kind") == EXTERNAL
            for name in ("name", "outputs_sha256" if is_external else _SHA256[part]):
                checked(content[part].get(name), str, f"{name!r} of {part!r} of the provenance of teacher outputs")
        return made

    def to_json(self) -> str:
        """The provenance as JSON in one line."""
        return json.dumps(asdict(self), sort_keys=True, ensure_ascii=False)

    def identity(self) -> dict[str, Any]:
        """The fields that decide the outputs, by name; fields of a nested table as "table.field"."""
        found: dict[str, Any] = {}
        for name, value in asdict(self).items():
            parts = {f"{name}.{key}": part for key, part in value.items()} if isinstance(value, dict) else {name: value}
            found |= {key: part for key, part in parts.items() if _FREE.isdisjoint(key.split("."))}
        return found

    def differences(self, other: Provenance) -> Iterator[tuple[str, Any, Any]]:
        """The fields of `identity` that differ, each with its name, the own value and the other's."""
        own, others = self.identity(), other.identity()
        for name in {**own, **others}:
            if own.get(name) != others.get(name):
                yield name, own.get(name), others.get(name)

    def feature(self, fingerprints: Mapping[str, Any]) -> dict[str, Any]:
        """The type of the column that stores the provenance and the fingerprints of the inputs.

        Args:
            fingerprints: The fingerprints by name, as for `column`.

        Returns:
            The features of a `datasets` column of structures.
        """
        values = {name: datasets.List(datasets.Value("float32")) for name in fingerprints if name != TOKENS_READ}
        return {"teacher": datasets.ClassLabel(names=[self.to_json()]), TOKENS_READ: datasets.Value("int64")} | values

    def column(self, rows: pa.Table, fingerprints: Mapping[str, np.ndarray]) -> pa.Array:
        """The column that stores the provenance and the fingerprints of the inputs.

        Args:
            rows: The rows as they are stored.
            fingerprints: Fingerprints of the inputs that the teacher read: under `TOKENS_READ` a hash per row, 0 where it is
                not known; without it the stored rows' hashes are taken. Under an input's name its `value_fingerprints`.

        Returns:
            The column, one structure per row.
        """
        nothing = np.zeros(len(rows), np.int64)
        tokens = fingerprints[TOKENS_READ] if TOKENS_READ in fingerprints else stored_token_fingerprints(rows)
        values = {name: pa.array(list(by_row)) for name, by_row in fingerprints.items() if name != TOKENS_READ}
        parts = {"teacher": pa.array(nothing), TOKENS_READ: pa.array(nothing if tokens is None else tokens)} | values
        return pa.StructArray.from_arrays(list(parts.values()), names=list(parts))


def provenances(dataset: Any) -> dict[str, Provenance]:
    """Read the provenance of teacher outputs from a data set.

    Args:
        dataset: The data set; a column `teacher_logits` that was not made by `label_transfer_set` has no provenance.

    Returns:
        The provenance by the name of the column that stores it.

    Raises:
        ValueError: A provenance is of another schema version.
    """
    found = {}
    for name, feature in (getattr(dataset, "features", None) or {}).items():
        if name.startswith(TEACHER_PROVENANCE) and isinstance(feature, dict):
            found[name] = Provenance.from_json(feature["teacher"].names[0])
    return found

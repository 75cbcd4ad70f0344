"""The distributions over labels in precomputed teacher outputs, and filters of rows by them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path

import datasets
import pyarrow as pa
import torch
from torch import Tensor

from hf_distill.objectives.logits import normalized_entropy
from hf_distill.objectives.top_k import spread_tail
from hf_distill.precomputed.folder import OutputFolder, exclusive_writing
from hf_distill.precomputed.labeling_cost import COST, LabelingCost, add_costs, labeling_cost
from hf_distill.precomputed.provenance import Provenance, provenances
from hf_distill.precomputed.row_blocks import RowBlock, RowBlocks
from hf_distill.precomputed.shards import MANIFEST, Manifest
from hf_distill.tasks import MULTI_LABEL, Task
from hf_distill.teachers.column_names import (
    TEACHER_CLASSES,
    TEACHER_LOGITS,
    TEACHER_PROVENANCE,
    TEMPLATE_LOGITS,
    precomputed_columns,
)


@dataclass(frozen=True)
class LabelDistributions:
    """A teacher's distributions over the labels of a classifier.

    Attributes:
        labels: The labels, in the order of the logits.
        logits: The logits, (rows, labels); labels that a row does not name have equal shares of what is left.
        template_logits: The logits by template of a prompted language model, (rows, templates, labels); None of other teachers,
            and of a single template.
    """

    labels: list[str]
    logits: Tensor
    template_logits: Tensor | None = None

    @property
    def confidence(self) -> Tensor:
        """The probability of the most probable label, (rows,)."""
        return self.logits.softmax(dim=-1).amax(dim=-1)

    @property
    def entropy(self) -> Tensor:
        """The entropy, divided by that of equal probabilities, (rows,)."""
        return normalized_entropy(self.logits)

    @property
    def agreement(self) -> Tensor | None:
        """The share of templates whose most probable label is that of their mean, (rows,); None without templates."""
        if self.template_logits is None:
            return None
        return (self.template_logits.argmax(dim=-1) == self.logits.argmax(dim=-1)[:, None]).float().mean(dim=-1)


@dataclass(frozen=True)
class RowFilter:
    """Which rows of teacher outputs are kept: those within all of the thresholds that are given.

    Attributes:
        max_entropy: The largest entropy, from 0 (certain) to 1 (all labels equal).
        min_confidence: The smallest probability of the most probable label, from 0 to 1.
        min_agreement: The smallest share of templates that agree with their mean, from 0 to 1.

    Raises:
        ValueError: There is no threshold, or one is not between 0 and 1.
    """

    max_entropy: float | None = None
    min_confidence: float | None = None
    min_agreement: float | None = None

    def __post_init__(self) -> None:
        if not self.thresholds:
            raise ValueError(f"a filter needs at least one of {list(asdict(self))}")
        for name, value in self.thresholds.items():
            if not 0 <= value <= 1:
                raise ValueError(f"{name} must be between 0 and 1, got {value}")

    @property
    def thresholds(self) -> dict[str, float]:
        """The thresholds that are given, by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def keeps(self, found: LabelDistributions) -> Tensor:
        """Which rows are kept.

        Args:
            found: The distributions.

        Returns:
            True for rows that are kept, bool (rows,).

        Raises:
            ValueError: `min_agreement` is given, and there are no outputs by template.
        """
        kept = torch.ones(len(found.logits), dtype=torch.bool)
        if self.max_entropy is not None:
            kept &= found.entropy <= self.max_entropy
        if self.min_confidence is not None:
            kept &= found.confidence >= self.min_confidence
        if self.min_agreement is not None:
            if found.agreement is None:
                raise ValueError(
                    "min_agreement compares several templates, and these outputs are not those of several: label the rows "
                    "with a prompt of several templates"
                )
            kept &= found.agreement >= self.min_agreement
        return kept


def label_distributions(rows: datasets.Dataset) -> LabelDistributions:
    """Read the distributions over labels from rows with teacher outputs.

    Args:
        rows: The rows, as `label_transfer_set` or `teacher_outputs_from` returns them.

    Returns:
        The distributions.

    Raises:
        ValueError: The rows have no outputs with a provenance, or those of another kind than a classifier with one label per
            row.
    """
    known = list(provenances(rows).values())
    if len(known) != 1:
        raise ValueError(f"one teacher's outputs with their provenance are needed, the rows have {rows.column_names}")
    (provenance,) = known
    kinds = (Task.SEQUENCE_CLASSIFICATION.value, Task.IMAGE_CLASSIFICATION.value)
    if provenance.task not in kinds or provenance.problem_type == MULTI_LABEL or len(provenance.labels or ()) < 2:
        raise ValueError(
            f"needed are outputs of a classifier with one of several labels per row, got outputs for {provenance.task} with the "
            f"labels {provenance.labels} (problem type {provenance.problem_type})"
        )
    labels = list(provenance.labels or ())
    logits = torch.tensor(rows[TEACHER_LOGITS][:], dtype=torch.float32)
    if TEACHER_CLASSES in rows.column_names:
        logits = spread_tail(torch.tensor(rows[TEACHER_CLASSES][:])[:, 0].long(), logits[:, 0], len(labels))
    by_template = TEMPLATE_LOGITS in rows.column_names
    return LabelDistributions(labels, logits, torch.tensor(rows[TEMPLATE_LOGITS][:]).float() if by_template else None)


def filter_teacher_outputs(
    rows: datasets.Dataset, row_filter: RowFilter, output_dir: str | Path, source: str | Path | None = None
) -> datasets.Dataset:
    """Write the rows that a filter keeps into a folder, as `label_transfer_set` writes all of them.

    Args:
        rows: The rows with teacher outputs.
        row_filter: The filter, which goes into the provenance of the kept rows.
        output_dir: The folder, which gets shards, manifest and dataset card.
        source: The folder that the rows are from, whose labeling cost is that of the kept rows too: the teacher was run on all of
            them. None: the cost is not known.

    Returns:
        The kept rows, which stay on disk.

    Raises:
        ValueError: No row is kept, or the folder holds other teacher outputs.
    """
    found = label_distributions(rows)
    kept = rows.select(row_filter.keeps(found).nonzero()[:, 0].tolist())
    if not len(kept):
        raise ValueError(f"none of {len(rows)} rows is within {row_filter.thresholds}")
    (provenance,) = provenances(rows).values()
    provenance = replace(provenance, filtered=row_filter.thresholds | {"before": len(rows)})
    blocks = RowBlocks(kept.remove_columns(precomputed_columns(kept.column_names)), provenance.rows_per_shard)

    def block_with_outputs(block: RowBlock, written: Provenance, progress: object) -> pa.Table:
        part = kept.select(range(block.first_row, block.first_row + len(block.rows)))
        return _with_provenance(part, written)

    folder = Path(output_dir)
    with exclusive_writing(folder):
        filtered = OutputFolder(folder, provenance).fill(blocks, block_with_outputs, lambda: 0.0, disable_tqdm=True)
        _take_over_cost(folder, None if source is None else Path(source))
    return filtered


def _with_provenance(rows: datasets.Dataset, provenance: Provenance) -> pa.Table:
    """The rows as they are stored, with another provenance in place of theirs."""
    feature = dict(rows.features[TEACHER_PROVENANCE])
    feature["teacher"] = datasets.ClassLabel(names=[provenance.to_json()])
    schema = datasets.Features({**rows.features, TEACHER_PROVENANCE: feature}).arrow_schema
    return rows.with_format("arrow")[:].cast(schema)


def _take_over_cost(folder: Path, source: Path | None) -> None:
    """Write the cost of the outputs of another folder as that of a part of its rows; none where it is not known."""
    (folder / COST).unlink(missing_ok=True)
    cost = None if source is None or not (source / MANIFEST).is_file() else labeling_cost(source)
    if cost is None:
        return
    manifest = Manifest.load(folder)
    shares = {shard.file: shard.rows / manifest.rows for shard in manifest.shards}
    costs = {file: LabelingCost(cost.flops * share, cost.seconds * share) for file, share in shares.items()}
    add_costs(folder, manifest.provenance.teacher["name"], costs)

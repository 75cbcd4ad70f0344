"""A student of a teacher that is known by its outputs alone: its rows, labels, and the encoder that it starts from."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from datasets import Dataset, concatenate_datasets
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_distill.data.class_names import ClassIds, label_names, positions
from hf_distill.data.sequences import STRINGS, SequenceEncoder, text_columns
from hf_distill.precomputed.external import read_rows, teacher_outputs_from
from hf_distill.precomputed.provenance import provenances
from hf_distill.precomputed.shards import MANIFEST
from hf_distill.pretrained.loading import SavedModel
from hf_distill.scripts.datasets import load_splits, splits_with_columns
from hf_distill.scripts.splits import training_splits
from hf_distill.scripts.training_material import TrainingMaterial
from hf_distill.scripts.unlabeled_texts import text_hashes
from hf_distill.students.miniatures import MINIATURES, shape_of
from hf_distill.tasks import Task
from hf_distill.teachers.column_names import TEMPLATE_LOGITS, precomputed_columns

logger = logging.getLogger(__name__)

_ANSWERS = "the teacher's outputs"  # what their rows are called beside the splits of a data set


@dataclass(frozen=True)
class ExternalOutputs:
    """A teacher's outputs from elsewhere, as the options of `hf-distill train` name them.

    Attributes:
        path: The file, or the folder; of a folder that `hf-distill label` wrote only the base model is said beside it.
        base_model: The encoder that the student starts from, a folder or an id on the Hub. None: the published miniature
            of the student's size.
        labels: The labels in their order; one that the outputs call by another name as "name=label". None: those of the
            data.
        kind: What the numbers are, see `teacher_outputs_from`.
        multi_label: Whether the labels are independent yes/no labels.
        teacher: What is known of the teacher, each as "name=value".
    """

    path: str
    base_model: str | None = None
    labels: Sequence[str] | None = None
    kind: str | None = None
    multi_label: bool = False
    teacher: Sequence[str] = field(default=())

    @property
    def is_recorded(self) -> bool:
        """Whether they are in a folder that `hf-distill label` wrote."""
        return (Path(self.path) / MANIFEST).is_file()

    @property
    def names(self) -> dict[str, str]:
        """Labels by the names that stand for them in the outputs."""
        return dict(pair.split("=", 1) for pair in self.labels or () if "=" in pair)

    @property
    def own_labels(self) -> list[str] | None:
        """The labels alone, in their order."""
        return None if self.labels is None else list(dict.fromkeys(pair.split("=", 1)[-1] for pair in self.labels))

    def told(self) -> dict[str, str]:
        """What is known of the teacher, by name.

        Returns:
            The values.

        Raises:
            ValueError: An entry is not of the form name=value.
        """
        if wrong := [pair for pair in self.teacher if not pair.partition("=")[0] or "=" not in pair]:
            raise ValueError(f"--teacher-info takes name=value, such as name=gpt-oss-120b, got {wrong[0]!r}")
        return dict(pair.split("=", 1) for pair in self.teacher)

    def base_of(self, student: str) -> str:
        """The name of the encoder that a student of a size starts from.

        Args:
            student: The student's size, see `create_student`.

        Returns:
            The folder, or the id on the Hub.

        Raises:
            ValueError: None is given, and none is published in that size.
        """
        shape = "{}/{}".format(*shape_of(student))
        if self.base_model is None and shape not in MINIATURES:
            raise ValueError(
                f"a student of size {shape} needs an encoder to start from, because none is published in this size: pass "
                "--base-model, a folder or an id on the Hub"
            )
        return self.base_model or MINIATURES[shape].hub_id


def external_material(
    outputs: ExternalOutputs,
    student: str,
    dataset: str | None,
    dataset_config: str | None,
    text_column: list[str] | None,
    label_column: str | None,
    max_length: int,
    seed: int,
) -> TrainingMaterial:
    """Load what a student of outputs from elsewhere is trained with.

    Args:
        outputs: The outputs.
        student: The student's size.
        dataset: The name of a data set to evaluate on, whose texts to evaluate on are not trained on. None: rows of the
            outputs are held out.
        dataset_config: The name of its configuration.
        text_column: The column of texts, or of pairs of texts.
        label_column: The column of labels. None: label.
        max_length: Tokens that longer texts are cut to.
        seed: The seed of the random choice of held-out rows.

    Returns:
        The rows and the encoder with a new head of the teacher's labels.

    Raises:
        ValueError: The outputs are refused (see `teacher_outputs_from`), or the labels of outputs and data differ.
        OSError: The outputs, the data or the encoder do not exist.
    """
    saved = SavedModel.find(outputs.base_of(student))
    given = {} if dataset is None else load_splits(dataset, dataset_config)
    if outputs.is_recorded:
        read = recorded_rows(outputs, text_column, label_column or "label")
    else:
        read = rows_from_elsewhere(outputs, saved, list(given.values()), label_column or "label")
    recorded = precomputed_columns(read.column_names)
    plain = splits_with_columns({_ANSWERS: read.remove_columns(recorded), **given}, text_column, label_column)
    answers = concatenate_datasets([plain.pop(_ANSWERS), read.select_columns(recorded)], axis=1)
    if outputs.multi_label and "label" in answers.column_names:
        answers = answers.remove_columns("label")
    splits, held_out = training_splits(plain or {"train": answers}, seed)
    taught = {"train": _without_evaluated(answers, splits)} if plain else splits
    (provenance,) = provenances(read).values()
    names = list(provenance.labels or ())
    model, tokenizer = _with_new_head(saved, names, provenance.problem_type)
    encoder = SequenceEncoder(tokenizer, ClassIds.of(names), max_length)
    encoded = {name: _encoded(rows, encoder) for name, rows in taught.items()}
    bare = {name: rows.remove_columns(precomputed_columns(rows.column_names)) for name, rows in splits.items()}
    return TrainingMaterial(bare, held_out, {**bare, **encoded}, model, tokenizer, teacher=None)


def recorded_rows(outputs: ExternalOutputs, text_column: list[str] | None, label_column: str) -> Dataset:
    """The rows of a folder that `hf-distill label` wrote: the texts that the teacher read, its outputs, and the labels by name.

    Args:
        outputs: The folder; options that say how to read outputs from elsewhere may not be given.
        text_column: The columns of texts, where others than those that the teacher read are wanted; all columns are kept.
            None: the teacher's.
        label_column: The column of labels.

    Returns:
        The rows.

    Raises:
        ValueError: The outputs are not those of a classifier of texts, or an option is for outputs from elsewhere.
    """
    if any((outputs.labels, outputs.kind, outputs.multi_label, outputs.teacher)):
        raise ValueError(
            f"--labels, --outputs-kind, --multi-label and --teacher-info are for outputs from elsewhere; the folder {outputs.path} "
            "says what its outputs are"
        )
    rows = load_splits(outputs.path)["train"]
    (provenance,) = provenances(rows).values()
    if provenance.task != Task.SEQUENCE_CLASSIFICATION.value:
        raise ValueError(
            f"--teacher-outputs are those of a classifier of texts, the folder {outputs.path} holds outputs for "
            f"{provenance.task}: load them with load_teacher_outputs for a DistillationTrainer"
        )
    kept = [*provenance.text_columns, label_column, TEMPLATE_LOGITS, *precomputed_columns(rows.column_names)]
    is_known = text_column is None and {*provenance.text_columns} <= {*rows.column_names}
    return rows.select_columns([name for name in rows.column_names if name in kept]) if is_known else rows


def rows_from_elsewhere(
    outputs: ExternalOutputs, saved: SavedModel | None, given: Sequence[Dataset], label_column: str
) -> Dataset:
    """The rows of outputs from elsewhere.

    Args:
        outputs: The outputs.
        saved: The encoder that the student starts from, whose labels give the order. None: there is none.
        given: Labeled data, whose labels are those of the outputs.
        label_column: The column of labels in both.

    Returns:
        The rows with the columns of precomputed teacher outputs.

    Raises:
        ValueError: The outputs are refused, see `teacher_outputs_from`.
    """
    raw, labels = read_rows(Path(outputs.path)), outputs.own_labels
    if labels is None and not outputs.multi_label:
        labels = _labels_of_data([raw, *given], label_column)
    return teacher_outputs_from(
        raw, labels if saved is None else _in_order_of(saved, labels), kind=outputs.kind, multi_label=outputs.multi_label, names=outputs.names,
        teacher=outputs.told(),
    )  # fmt: skip


def _labels_of_data(parts: Sequence[Dataset], column: str) -> list[str] | None:
    """The names of the classes of a column of labels; None: there is no such column."""
    found: list[str] = []
    for rows in parts:
        feature = rows.features.get(column)
        if feature is None:
            continue
        names = getattr(feature, "names", None)
        if names is None and getattr(feature, "dtype", None) not in STRINGS:
            raise ValueError(
                f"the labels in the column {column!r} are numbers: pass --labels once per class, in the order of the numbers"
            )
        found += names or sorted({*rows[column][:]} - {None})
    return list(dict.fromkeys(found)) or None


def _in_order_of(saved: SavedModel, labels: list[str] | None) -> list[str] | None:
    """The labels, in the order of the encoder's own head where it has one for these labels."""
    own = label_names(saved.config) if saved.task is Task.SEQUENCE_CLASSIFICATION else []
    if labels is None or len(own) != len(labels) or positions(own, labels) is None:
        return labels
    return own


def _with_new_head(
    saved: SavedModel, names: list[str], problem_type: str | None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The encoder as a classifier of the labels, and its tokenizer."""
    model, _ = saved.load(
        Task.SEQUENCE_CLASSIFICATION.auto_class,
        dtype=torch.float32,
        id2label=dict(enumerate(names)),
        label2id={name: index for index, name in enumerate(names)},
        problem_type=problem_type,
        ignore_mismatched_sizes=True,
    )
    return model, saved.needed_tokenizer()


def _without_evaluated(answers: Dataset, splits: Mapping[str, Dataset]) -> Dataset:
    """The rows whose texts are in no split to evaluate on."""
    evaluated = [splits[name] for name in ("validation", "test") if name in splits]
    known = {found for rows in evaluated for found in text_hashes(rows, text_columns(rows.features))}
    hashes = text_hashes(answers, text_columns(answers.features))
    new = [index for index, found in enumerate(hashes) if found not in known]
    if not new:
        raise ValueError("all texts with teacher outputs are among those of the data set to evaluate on")
    if len(new) < len(answers):
        logger.warning(f"{len(answers) - len(new)} texts with teacher outputs are evaluated on and not trained on.")
    return answers.select(new)


def _encoded(rows: Dataset, encoder: SequenceEncoder) -> Dataset:
    recorded = precomputed_columns(rows.column_names)
    plain = rows.remove_columns(recorded)
    inputs = encoder(plain, text_columns(plain.features))
    return concatenate_datasets([inputs, rows.select_columns(recorded)], axis=1)

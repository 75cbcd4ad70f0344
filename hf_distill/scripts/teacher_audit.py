"""Labeled rows with the outputs of any teacher of texts: a classifier, a prompted language model, or recorded outputs."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from datasets import Dataset, concatenate_datasets

from hf_distill.data.class_names import ClassIds
from hf_distill.data.sequences import encode_label, label_values, text_columns
from hf_distill.evaluation.teacher_audit import GoldRows
from hf_distill.objectives.reduction import IGNORE_INDEX
from hf_distill.precomputed.distributions import label_distributions
from hf_distill.precomputed.label import label_transfer_set
from hf_distill.precomputed.shards import load_teacher_outputs
from hf_distill.pretrained.loading import SavedModel, load_as_saved
from hf_distill.scripts.datasets import choose_split, label_column_for, load_splits, sample, with_columns
from hf_distill.scripts.external_teacher import ExternalOutputs, recorded_rows, rows_from_elsewhere
from hf_distill.scripts.prompted_teacher import PromptOptions, load_prompted_teacher
from hf_distill.scripts.unlabeled_texts import text_hashes
from hf_distill.tasks import Task
from hf_distill.teachers.column_names import TEMPLATE_LOGITS, precomputed_columns
from hf_distill.teachers.frozen import FrozenTeacher

MOST_FURTHER_ROWS = 5000  # of a training split, to learn from labels alone

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class AuditRequest:
    """The options of `hf-distill audit` that name a teacher and labeled rows.

    Attributes:
        teacher: A folder, or an id on the Hub. None: `outputs` are given.
        outputs: Recorded outputs. None: the teacher is run.
        prompt: The prompt of a causal language model. None: the teacher is a classifier.
        dataset: The name of the labeled data, see `load_splits`. None: the labels are in the rows of the outputs.
        dataset_config: The name of its configuration.
        split: The split to read. None: test, else validation, else the only one.
        text_column: The columns of texts. None: see `text_columns`.
        label_column: The column of labels. None: label.
        max_length: Tokens that longer texts are cut to.
        batch_size: Texts per forward pass.
        teacher_dtype: The precision that the teacher computes in.
        device: The device that it computes on.
    """

    teacher: str | None
    outputs: ExternalOutputs | None = None
    prompt: PromptOptions | None = None
    dataset: str | None = None
    dataset_config: str | None = None
    split: str | None = None
    text_column: list[str] | None = None
    label_column: str | None = None
    max_length: int = 128
    batch_size: int = 32
    teacher_dtype: str = "auto"
    device: str = "cpu"


def audited_rows(request: AuditRequest) -> tuple[GoldRows, Dataset]:
    """Load the labeled rows, and the teacher's outputs for them.

    Args:
        request: The teacher and the rows.

    Returns:
        The labeled rows with outputs; and all rows with outputs, of which they may be a part.

    Raises:
        ValueError: Both or none of a teacher and outputs are given, the teacher is no classifier of texts, there are no
            labels or texts, or no labeled row has outputs.
        OSError: The teacher or the data do not exist.
    """
    if (request.teacher is None) == (request.outputs is None):
        raise ValueError(
            "pass either TEACHER, a model, or --teacher-outputs, what a teacher answered, got "
            + ("neither" if request.outputs is None else "both")
        )
    if request.outputs is None:
        _require_classifier(request)
        given, train = _gold(request)
        labeled = _labeled_now(request, given)
        return _with_classes(labeled, _texts_of(_plain(labeled)), train), labeled
    given, train = (None, None) if request.dataset is None else _gold(request)
    label = request.label_column or "label"
    if request.outputs.is_recorded:
        outputs = recorded_rows(request.outputs, request.text_column, label)
        everything = load_teacher_outputs(request.outputs.path)
    else:
        outputs = everything = rows_from_elsewhere(request.outputs, None, [] if given is None else [given], label)
    own_label = request.label_column if given is None else None
    own = with_columns(_plain(outputs), request.text_column, own_label)
    named = [
        name for name in outputs.column_names if name in (*precomputed_columns(outputs.column_names), TEMPLATE_LOGITS)
    ]
    recorded = outputs.select_columns(named)
    if given is None:
        return _with_classes(_beside(own, recorded), _texts_of(own)), everything
    return _matched(given, own, recorded, train), everything


def _gold(request: AuditRequest) -> tuple[Dataset, Dataset | None]:
    """The labeled rows, with the columns that their encoders expect; and those of the split train, unless it is audited."""
    if request.dataset is None:
        raise ValueError("a teacher that is run needs --dataset, the labeled rows")
    splits = load_splits(request.dataset, request.dataset_config)
    label = request.label_column
    if request.teacher is not None and request.prompt is None:
        label = label_column_for(request.teacher, splits, label)
    name, rows = choose_split(splits, request.split)
    audited = _read(rows, request.text_column, label)
    train = splits.get("train", rows)
    if name == "train" or (label or "label") not in train.column_names:
        return audited, None
    return audited, sample(_read(train, request.text_column, label), MOST_FURTHER_ROWS)


def _read(rows: Dataset, texts: list[str] | None, label: str | None) -> Dataset:
    rows = with_columns(_plain(rows), texts, label)
    kept = _texts_of(rows)
    if "label" not in rows.column_names:
        raise ValueError(
            f"an audit needs labels: none of the columns {rows.column_names} is called label or has the teacher's classes; name "
            "it (--label-column)"
        )
    return rows.select_columns([*kept, "label"])


def _require_classifier(request: AuditRequest) -> None:
    """Refuse a teacher to run that does not answer a text with one of several labels, before the rows are read."""
    if request.prompt is None and request.teacher is not None:
        saved = SavedModel.find(request.teacher)
        if saved.task is not Task.SEQUENCE_CLASSIFICATION:
            raise ValueError(
                f"an audit is of a classifier of texts, or with --prompt of a language model; {request.teacher} is a "
                f"{(saved.config.architectures or ['model of another kind'])[0]}. Taggers of words and other models are "
                "compared on labeled rows by hf-distill evaluate"
            )


def _texts_of(rows: Dataset) -> list[str]:
    """The columns of texts, of which there is at least one."""
    if not (texts := text_columns(rows.features)):
        raise ValueError(
            f"an audit reads a column of texts (--text-column), not of words or images, got {rows.column_names}"
        )
    return texts


def _plain(rows: Dataset) -> Dataset:
    return rows.remove_columns(precomputed_columns(rows.column_names))


def _labeled_now(request: AuditRequest, gold: Dataset) -> Dataset:
    """The rows with the outputs of a teacher that is run on them."""
    texts, name = text_columns(gold.features), request.teacher
    assert name is not None  # as checked by `audited_rows`
    options: dict[str, Any] = {"batch_size": request.batch_size, "disable_tqdm": True, "text_columns": texts}
    if request.prompt is not None:
        teacher = load_prompted_teacher(
            name, request.prompt, texts, request.max_length, request.teacher_dtype, request.device
        )
        return label_transfer_set(gold, teacher, teacher.encoder.tokenizer, **options)
    model, tokenizer = load_as_saved(name), SavedModel.find(name).needed_tokenizer()
    inputs = gold.map(
        lambda batch: tokenizer(*(batch[each] for each in texts), truncation=True, max_length=request.max_length),
        batched=True,
        desc="Tokenizing",
    )
    return label_transfer_set(inputs, FrozenTeacher(model, request.teacher_dtype, request.device), tokenizer, **options)


def _with_classes(rows: Dataset, texts: Sequence[str], further: Dataset | None = None) -> GoldRows:
    """The rows that have a label, and further ones with labels but no outputs."""
    if "label" not in rows.column_names:
        raise ValueError(
            f"an audit needs the column label, got {_plain(rows).column_names}: pass --dataset or --label-column"
        )
    ids = ClassIds.of(label_distributions(rows).labels)
    joined, classes, counted = _labeled(rows, texts, ids)
    if not len(counted):
        raise ValueError(f"none of the {len(rows)} rows has a label")
    gold = GoldRows(joined, classes, label_distributions(rows.select(counted)))
    if further is None:
        return gold
    further_texts, further_classes, _ = _labeled(further, texts, ids)
    return replace(gold, further_texts=further_texts, further_classes=further_classes)


def _labeled(rows: Dataset, texts: Sequence[str], ids: ClassIds) -> tuple[list[str], np.ndarray, np.ndarray]:
    """The texts of the rows that have a label, their classes, and their places."""
    value_of = label_values(rows.features["label"])
    classes = np.array([encode_label(value_of(value), ids) for value in rows["label"]])
    counted = np.flatnonzero(classes != IGNORE_INDEX)
    joined = ["\n".join(row) for row in zip(*(rows[name] for name in texts), strict=True)]
    return [joined[row] for row in counted], classes[counted], counted


def _matched(gold: Dataset, answered: Dataset, recorded: Dataset, further: Dataset | None) -> GoldRows:
    """The labeled rows whose texts have recorded outputs, in whatever order and among whatever others these are."""
    texts = text_columns(gold.features)
    by_hash = {found: row for row, found in enumerate(text_hashes(answered, text_columns(answered.features)))}
    places = [by_hash.get(found) for found in text_hashes(gold, texts)]
    known = [row for row, place in enumerate(places) if place is not None]
    if not known:
        raise ValueError(f"none of the {len(gold)} labeled texts is among the {len(recorded)} with teacher outputs")
    if len(known) < len(gold):
        logger.warning(
            f"{len(gold) - len(known)} of {len(gold)} labeled texts have no teacher outputs and are left out."
        )
    chosen = recorded.select([place for place in places if place is not None])
    return _with_classes(_beside(gold.select(known), chosen), texts, further)


def _beside(rows: Dataset, recorded: Dataset) -> Dataset:
    """The texts and labels of rows, with the teacher's outputs for them."""
    kept = [name for name in rows.column_names if name in (*text_columns(rows.features), "label")]
    return concatenate_datasets([rows.select_columns(kept), recorded], axis=1)

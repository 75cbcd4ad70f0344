"""What the students of one teacher share: rows, the teacher, its outputs, which are recorded once, and its vocabularies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from datasets import Dataset, concatenate_datasets
from transformers import PreTrainedModel

from hf_distill.compression.vocabularies import Vocabularies
from hf_distill.data.files import require_texts
from hf_distill.data.sequences import encode_label, label_ids, label_values, text_columns
from hf_distill.evaluation.comparison import TEACHER, EvaluatedModel
from hf_distill.evaluation.loading import load_evaluated_model
from hf_distill.fingerprints import rows_sha256, weights_sha256
from hf_distill.precomputed.label import label_transfer_set
from hf_distill.publishing.run_origin import changed_arguments
from hf_distill.scripts.datasets import label_column_for, load_splits, splits_with_columns
from hf_distill.scripts.distillation import TEACHER_OUTPUTS, encode_rows, learns_logits_alone
from hf_distill.scripts.run import ScriptTrainingArguments
from hf_distill.scripts.splits import is_labeled, training_splits
from hf_distill.scripts.training_material import TrainingMaterial
from hf_distill.scripts.unlabeled_texts import with_unlabeled_texts
from hf_distill.tasks import Task, task_of
from hf_distill.teachers.column_names import precomputed_columns
from hf_distill.teachers.frozen import FrozenTeacher
from hf_distill.teachers.own_inputs import TEACHER_PREFIX, encode_for_teacher


@dataclass(frozen=True)
class CompressionRequest:
    """What `hf-distill compress` and `hf-distill search` are told of a teacher and its data.

    Attributes:
        teacher: The teacher's folder, or its id on the Hub.
        dataset: The data set's name, see `load_splits`.
        output_dir: The folder of all that is made.
        args: The training arguments of a student.
        dataset_config: The name of the data set's configuration. None: the default one.
        text_column: The column of texts, or the columns of pairs of texts. None: see `text_columns`.
        label_column: The column of labels. None: label.
        transfer_set: The name of a data set of unlabeled texts. None: there is none.
        max_length: Tokens that longer inputs are cut to.
    """

    teacher: str
    dataset: str
    output_dir: Path
    args: ScriptTrainingArguments
    dataset_config: str | None = None
    text_column: list[str] | None = None
    label_column: str | None = None
    transfer_set: str | None = None
    max_length: int = 128


class CompressionMaterial:
    """The rows, the teacher, its outputs and its vocabularies.

    Args:
        request: What is asked for.

    Attributes:
        request: What is asked for.
        splits: The raw rows by split.
        held_out: A sentence that says which rows were held out for evaluation; None: no rows were.
        rows: The raw rows that students learn from.
        teacher: The teacher.
        vocabularies: The teacher's vocabularies.

    Raises:
        ValueError: The teacher is no classifier of texts, the training arguments need more than its logits, or a row has no text
            or a label that is none of the teacher's.
        OSError: The teacher or the data do not exist.
    """

    def __init__(self, request: CompressionRequest):
        self.request = request
        _require_logits_alone(request.args)
        self.teacher: EvaluatedModel = load_evaluated_model(request.teacher, Path(request.teacher).name, TEACHER)
        if (task := task_of(self.teacher.model)) is not Task.SEQUENCE_CLASSIFICATION:
            raise ValueError(f"the teacher must be a classifier of texts, got one for {task and task.value}")
        splits = load_splits(request.dataset, request.dataset_config)
        label = label_column_for(request.teacher, splits, request.label_column)
        splits = splits_with_columns(splits, request.text_column, label)
        self.splits, self.held_out = training_splits(splits, request.args.seed)
        self.rows = self.splits["train"]
        if request.transfer_set is not None:
            self.rows = with_unlabeled_texts(self.splits, request.transfer_set, request.text_column)
        for split in (*self.splits.values(), self.rows):
            _require_encodable(split, self.teacher.model)
        self._materials: dict[str, TrainingMaterial] = {}
        self.vocabularies = Vocabularies(self.teacher.model, self.teacher.processing_class, self.rows)

    def identity(self) -> dict[str, Any]:
        """What the students are made of, as JSON: two calls with the same identity make the same students."""
        changed = changed_arguments(self.request.args)
        rows = self.splits | {"train": self.rows}
        return {
            "teacher": self.teacher.name,
            "fingerprint of the teacher's weights": weights_sha256(self.teacher.model),
            "dataset": Path(self.request.dataset).stem,
            "--max-length": self.request.max_length,
            **{f"fingerprint of the split {name}": rows_sha256(each) for name, each in rows.items()},
            **{f"--{name}": value for name, value in changed.items()},
        }

    @property
    def validation(self) -> tuple[str, Dataset]:
        """The labeled split by which students are chosen, with its name.

        Raises:
            ValueError: No split but test is labeled.
        """
        rows = self.splits.get("validation")
        if rows is None or not is_labeled(rows, Task.SEQUENCE_CLASSIFICATION):
            raise ValueError(
                "students are chosen on a split called validation with labels, never on the test split; there is none, the splits "
                f"are {sorted(self.splits)}"
            )
        return "validation", rows

    @cached_property
    def outputs(self) -> Dataset:
        """The teacher's outputs for all rows, computed with its whole vocabulary and kept in a folder."""
        model, tokenizer = self.teacher.model, self.teacher.processing_class
        texts, args = text_columns(self.rows.features), self.request.args
        encoded = encode_for_teacher(
            self.rows.select_columns(texts), tokenizer, texts, max_length=self.request.max_length
        )
        return label_transfer_set(
            encoded, FrozenTeacher(model, args.teacher_dtype, args.device, input_prefix=TEACHER_PREFIX), tokenizer,
            self.request.output_dir / TEACHER_OUTPUTS, disable_tqdm=bool(args.disable_tqdm), text_columns=texts,
            max_length=self.request.max_length,
        )  # fmt: skip

    def of_vocabulary(self, vocabulary: str) -> TrainingMaterial:
        """The material of the students with a vocabulary: model inputs in its tokens, with the recorded outputs.

        Args:
            vocabulary: A vocabulary, see `Candidate`.

        Returns:
            The material.
        """
        if vocabulary in self._materials:
            return self._materials[vocabulary]
        source, tokenizer = self.vocabularies[vocabulary]
        inputs = encode_rows(self.rows, source, tokenizer, self.request.max_length)
        recorded = self.outputs.select_columns(precomputed_columns(self.outputs.column_names))
        trained_on: Mapping[str, Dataset] = dict(self.splits) | {
            "train": concatenate_datasets([inputs, recorded], axis=1)
        }
        found = TrainingMaterial(self.splits, self.held_out, trained_on, source, tokenizer, teacher=None)
        self._materials[vocabulary] = found
        return found


def _require_encodable(rows: Dataset, teacher: PreTrainedModel) -> None:
    """Refuse rows without a text, and labels that are none of the teacher's classes, before anything is computed."""
    require_texts(rows, text_columns(rows.features))
    value_of, ids = label_values(rows.features.get("label")), label_ids(teacher.config)
    for value in set(rows["label"]) if "label" in rows.column_names else ():
        encode_label(value_of(value), ids)


def _require_logits_alone(args: ScriptTrainingArguments) -> None:
    if not learns_logits_alone(args):
        raise ValueError(
            "students learn from outputs that are recorded once, which are logits: leave out recipes and weights that compare "
            "hidden states or attention, pruning and --teacher_checkpoints, or train one student with hf-distill train"
        )

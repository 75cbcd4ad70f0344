"""A finished distillation: its record completed, the student compared with its teacher, and its model card written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset

from hf_distill.evaluation.against_teacher import paired_difference
from hf_distill.evaluation.comparison import EvaluatedModel, LatencySettings, compare
from hf_distill.evaluation.predictions import Predictions
from hf_distill.publishing.model_card import add_evaluation, write_model_card
from hf_distill.publishing.run_record import RunRecord
from hf_distill.scripts.evaluated_models import load_evaluated_models
from hf_distill.scripts.splits import labeled_split
from hf_distill.tasks import Task


@dataclass(frozen=True)
class FinishedTraining:
    """A training that has saved its student.

    Attributes:
        folder: The student's folder, with its run record.
        teacher: The teacher's folder, or its id on the Hub. None: its outputs alone are known.
        dataset: The data set's name, as the user wrote it.
        splits: The raw rows by split, see `training_splits`.
        task: The task of the models' heads.
        held_out: A sentence that says which rows were held out for evaluation; None: no rows were.
        labels_alone: The same student trained on labels alone, see `train_on_labels`; None: there is none.
        base_model: The folder, or the id on the Hub, of the encoder that the student started from; None: the teacher.
        transfer_set: The name of the unlabeled texts that were trained on, too; None: there are none.
        outputs: The name of the recorded outputs whose rows were trained on, in place of the data set's; None: there are none.
    """

    folder: Path
    teacher: str | None
    dataset: str
    splits: Mapping[str, Dataset]
    task: Task | None
    held_out: str | None
    labels_alone: EvaluatedModel | None = None
    base_model: str | None = None
    transfer_set: str | None = None
    outputs: str | None = None

    @property
    def evaluated_split(self) -> str | None:
        """The split that student and teacher are compared on, see `labeled_split`; None: there is none."""
        return labeled_split(self.splits, self.task)

    @property
    def of_held_out(self) -> str | None:
        """Which rows were held out, and what that means for the teacher's score; None: no rows were."""
        if self.held_out is None or self.teacher is None:
            return self.held_out
        return f"{self.held_out}, which flatters a teacher that was trained on them"

    def evaluate(self, max_length: int, latency: LatencySettings | None = None) -> dict[str, Any] | None:
        """Complete the run record, compare the student with its teacher on a labeled split, and write the model card.

        Args:
            max_length: Tokens that longer inputs are cut to.
            latency: The settings of latency measurements, and the formats to compare in. None: the defaults.

        Returns:
            The comparison, see `hf_distill.evaluation.comparison.compare`; None where no split has labels, or enough texts.
        """
        record = RunRecord.load(self.folder)
        record.student["name"] = self.folder.resolve().name
        record.data["name"] = record.data.get("name") or Path(self.dataset).stem
        if told := [each for each in (self._of_transfer_set(), self.of_held_out) if each]:
            record.data["train_text"] = "; ".join(told)
        if self.base_model and record.student.get("initialization") != "random":
            record.card["base_model"] = record.student["base_model"] = self.base_model
        record.save(self.folder)
        write_model_card(self.folder)
        split = self.evaluated_split
        if split is None:
            return None
        trained = load_evaluated_models(self.teacher, [str(self.folder)])
        student, models = trained[-1], [*trained, *([self.labels_alone] if self.labels_alone else [])]
        name, rows = Path(self.dataset).stem, self.splits[split]
        predictions: dict[str, Predictions] = {}
        evaluation = compare(
            models, rows, name, split, latency or LatencySettings(), max_length=max_length, kept=predictions
        )
        if self.labels_alone is not None:
            difference = paired_difference(predictions[self.labels_alone.name], predictions[student.name])
            evaluation["rows"][len(trained) - 1]["against_labels_alone"] = difference
        add_evaluation(self.folder, evaluation, student.name)
        return evaluation

    def _of_transfer_set(self) -> str | None:
        """Where the training rows are from, if not from the data set alone."""
        if self.outputs is not None and self.outputs != self.dataset:
            evaluated = Path(self.dataset).stem
            return f"those of {Path(self.outputs).stem}, with recorded outputs of the teacher; {evaluated} is evaluated on alone"
        if self.transfer_set is None:
            return None
        return f"{len(self.splits['train']):,} rows of the data set, the others from {Path(self.transfer_set).stem}, unlabeled"

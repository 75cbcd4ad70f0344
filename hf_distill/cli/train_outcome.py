"""What a finished training says: how good the student is, where it lies, and what may come next."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_distill.scripts.splits import MIN_ROWS_TO_HOLD_OUT

if TYPE_CHECKING:
    from datasets import Dataset

    from hf_distill.tasks import Task


@dataclass(frozen=True)
class Finished:
    """A training that is over.

    Attributes:
        folder: Of the student, with its record.
        teacher: A folder, or an id on the Hub.
        dataset: As the user named it.
        splits: Raw rows by split, see `training_splits`.
        task: What the models are for.
        held_out: What was held out for the evaluation, in words; None for nothing.
        column_options: How the columns were named on the command line.
        metrics: Of the trainer's own evaluation; empty without one.
    """

    folder: Path
    teacher: str
    dataset: str
    splits: Mapping[str, Dataset]
    task: Task
    held_out: str | None
    column_options: Sequence[str]
    metrics: Mapping[str, float]

    def compare(self, max_length: int) -> dict[str, Any] | None:
        """Complete the record, compare with the teacher on a labeled split, and write the card.

        Returns:
            The comparison; None where no split has labels.
        """
        from hf_distill.cli.evaluate import names_of
        from hf_distill.evaluation.comparison import TEACHER, LatencySettings, compare
        from hf_distill.evaluation.loading import load_evaluated_model
        from hf_distill.publishing.model_card import add_evaluation, write_model_card
        from hf_distill.publishing.run_record import RunRecord

        record = RunRecord.load(self.folder)
        record.student["name"] = self.folder.resolve().name
        record.data["name"] = record.data.get("name") or Path(self.dataset).stem
        if self.held_out:
            record.data["train_text"] = self.held_out
        record.save(self.folder)
        write_model_card(self.folder)
        split = labeled_split(self.splits, self.task)
        if split is None:
            return None
        names = names_of([self.teacher, str(self.folder)])
        both = [load_evaluated_model(self.teacher, names[0], TEACHER), load_evaluated_model(str(self.folder), names[1])]
        rows = self.splits[split]
        evaluation = compare(both, rows, Path(self.dataset).stem, split, LatencySettings(), max_length=max_length)
        add_evaluation(self.folder, evaluation, names[1])
        return evaluation

    def lines(self, evaluation: Mapping[str, Any] | None) -> list[str]:
        """What the user is told at the end."""
        again = ["hf-distill", "evaluate", str(self.folder), "--teacher", self.teacher, "--dataset"]
        is_separate = self.held_out is None and labeled_split(self.splits, self.task) is not None
        named = [self.dataset if is_separate else "LABELED-TEST-DATA"]
        publish = ["hf-distill", "publish", str(self.folder), "NAMESPACE/NAME", "--dry-run"]
        return [
            f"Student: {self.folder} (weights, run.json, and README.md, its card)",
            f"Quality: {self._quality(evaluation)}",
            "Next:",
            f"  {shlex.join([*again, *named, *self.column_options])}",
            f"  {shlex.join(publish)}",
        ]

    def _quality(self, evaluation: Mapping[str, Any] | None) -> str:
        if evaluation is not None:
            return described(evaluation) + (f"; {self.held_out}" if self.held_out else "")
        agreement = self.metrics.get("eval_teacher_agreement")
        if agreement is not None:
            held_out = f"; {self.held_out}" if self.held_out else ""
            return f"agrees with its teacher on {100 * agreement:.1f} % of the validation rows, which have no labels{held_out}"
        if "eval_loss" in self.metrics:
            return f"loss {self.metrics['eval_loss']:.4g} on the validation rows, which have no labels"
        return (
            f"not measured: of {len(self.splits['train'])} rows none were held out (from {MIN_ROWS_TO_HOLD_OUT} on some are), "
            "and there is no split called test or validation"
        )


def labeled_split(splits: Mapping[str, Dataset], task: Task) -> str | None:
    """The split to compare on: test, else validation, the first of them with labels."""
    return next((name for name in ("test", "validation") if name in splits and is_labeled(splits[name], task)), None)


def is_labeled(rows: Dataset, task: Task) -> bool:
    """Whether rows have what answers are compared with, at least some of them."""
    from hf_distill.data.words import word_columns
    from hf_distill.tasks import Task

    if task is Task.TOKEN_CLASSIFICATION:
        return bool(word_columns(rows.features))  # which refuses rows without
    column = "answers" if task is Task.QUESTION_ANSWERING else "label"
    return column in rows.column_names and any(value is not None for value in rows[column])


def described(evaluation: Mapping[str, Any]) -> str:
    """The quality of the student, the second of a comparison, beside its teacher's."""
    from hf_distill.evaluation.report import in_percent, metric_label

    label, _, unit = metric_label(evaluation).rpartition(" %")
    name, unit = (label, " %") if label else (unit, "")
    teacher, student = (in_percent(evaluation, row["metrics"][evaluation["metric"]]) for row in evaluation["rows"])
    rows = f"{evaluation['data']['examples']:,} rows ({evaluation['data']['split']})"
    return f"{name} {student}{unit}, the teacher's {teacher}{unit}, on {rows}"

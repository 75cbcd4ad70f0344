"""The last lines of `hf-distill train`: where the student is, how good it is, and which commands may follow."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

_ADVICE = (
    "What helps, most of all first: {more}, more steps (--max_steps), a better start (--initialization, a wider or deeper "
    "--student), a stronger teacher."
)
_OF_TEACHER = (
    "The teacher is not better than that student either ({teacher} and {labels}{unit}), and cannot teach more than it knows: train it "
    "for longer or at a higher learning rate, until its training loss is low; where that is low already, on more rows; or take a "
    "stronger one."
)
_TOO_EASY = "All are right on every row: take more rows, or harder ones, to compare on."
# More material for the teacher, by task.
_MORE = {
    "sequence_classification": "more unlabeled texts of the task's domain (--transfer-set, hf-distill augment)",
    "token_classification": "more unlabeled words of the task's domain (--transfer-set)",
    "question_answering": "more questions without answers (--transfer-set)",
    "image_classification": "more unlabeled images of the same kind (--transfer-set)",
}

if TYPE_CHECKING:
    from hf_distill.scripts.finished_training import FinishedTraining


def summary(
    finished: FinishedTraining,
    evaluation: Mapping[str, Any] | None,
    metrics: Mapping[str, float],
    column_options: Sequence[str],
) -> str:
    """The lines that the command prints at its end.

    Args:
        finished: The training.
        evaluation: The comparison of the student with its teacher; None without one.
        metrics: The metrics of the trainer's own evaluation; empty without one.
        column_options: The options that name the data's columns, as the command line has them.

    Returns:
        The text, without a line break at its end.
    """
    teacher = ["--teacher", finished.teacher] if finished.teacher else []
    evaluate = ["hf-distill", "evaluate", str(finished.folder), *teacher, "--dataset"]
    is_separate = finished.held_out is None and finished.evaluated_split is not None
    data = finished.dataset if is_separate else "TEST-TEXTS" if _is_encoder(finished) else "LABELED-TEST-DATA"
    export = ["hf-distill", "export", str(finished.folder), "--dataset", data, *column_options]
    export += ["--output-dir", f"exports/{finished.folder.name}"]
    publish = ["hf-distill", "publish", str(finished.folder), "NAMESPACE/NAME", "--dry-run"]
    lines = [
        f"Student: {finished.folder} (weights, run.json, and README.md, its card)",
        f"Quality: {_quality(finished, evaluation, metrics)}",
        *_gain(evaluation),
        "Next:",
        f"  {shlex.join([*evaluate, data, *column_options])}",
        f"  {shlex.join(export)}",
        f"  {shlex.join(publish)}",
    ]
    return "\n".join(lines)


def _quality(finished: FinishedTraining, evaluation: Mapping[str, Any] | None, metrics: Mapping[str, float]) -> str:
    from hf_distill.scripts.splits import MIN_ROWS_TO_HOLD_OUT

    held_out = f"; {finished.of_held_out}" if finished.of_held_out else ""
    if evaluation is not None:
        return _compared(evaluation) + held_out
    agreement = metrics.get("eval_teacher_agreement")
    if agreement is not None:
        return (
            f"agrees with its teacher on {100 * agreement:.1f} % of the validation rows, which have no labels{held_out}"
        )
    if "eval_loss" in metrics:
        why = "are too few for a comparison" if _is_encoder(finished) else "have no labels"
        return f"loss {metrics['eval_loss']:.4g} on the validation rows, which {why}"
    return (
        f"not measured: of {len(finished.splits['train'])} rows none were held out (at least {MIN_ROWS_TO_HOLD_OUT} are needed), "
        "and there is no split called test or validation"
    )


def _is_encoder(finished: FinishedTraining) -> bool:
    from hf_distill.tasks import Task

    return finished.task is Task.SENTENCE_EMBEDDING


def _compared(evaluation: Mapping[str, Any]) -> str:
    """The metric of the student and, where it is compared, of its teacher."""
    from hf_distill.evaluation.metric_text import (
        agreement_label,
        agreement_text,
        is_of_similarities,
        metric_label,
        value_text,
    )

    label, _, unit = metric_label(evaluation).rpartition(" %")
    name, unit = (label, " %") if label else (unit, "")
    student, *teachers = (
        value_text(evaluation, row["metrics"][evaluation["metric"]])
        for row in reversed(_student_and_before(evaluation))
    )
    of_teacher = "".join(f", the teacher's {teacher}{unit}" for teacher in teachers)
    if is_of_similarities(evaluation):
        of_teacher = f", {agreement_label(evaluation)} {agreement_text(_student_and_before(evaluation)[-1])}"
    where = f"{evaluation['data']['examples']:,} rows ({evaluation['data']['split']})"
    return f"{name} {student}{unit}{of_teacher}, on {where}"


def _student_and_before(evaluation: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The student's row of the comparison, after the teacher's if there is one."""
    return evaluation["rows"][: 2 if evaluation["rows"][0]["role"] == "teacher" else 1]


def _gain(evaluation: Mapping[str, Any] | None) -> list[str]:
    """How much better the student is than one trained on labels alone; a warning, with advice, if it may not be better."""
    rows = evaluation["rows"] if evaluation else []
    found = next((row["against_labels_alone"] for row in rows if "against_labels_alone" in row), None)
    if evaluation is None or found is None:
        return []
    from hf_distill.evaluation.metric_text import gain_texts

    how, difference, interval = gain_texts(evaluation, found)
    than = f"than the {rows[-1]['name']}"
    if how == "better":
        return [f"Gain: {difference} better {than} ({interval})"]
    return [f"Warning: {how} {than}: {difference} ({interval}). {_advice(evaluation)}"]


def _advice(evaluation: Mapping[str, Any]) -> str:
    """What helps a student that is not better than one on labels alone."""
    from hf_distill.evaluation.metric_text import is_percentage, value_text

    teachers, labels = _student_and_before(evaluation)[:-1], evaluation["rows"][-1]
    metric = evaluation["metric"]
    values = [value_text(evaluation, row["metrics"][metric]) for row in (*teachers, labels)]
    if is_percentage(evaluation) and set(values) == {"100.0"}:
        return _TOO_EASY
    if teachers and teachers[0]["metrics"][metric] <= labels["metrics"][metric]:
        return _OF_TEACHER.format(teacher=values[0], labels=values[-1], unit=" %" if is_percentage(evaluation) else "")
    return _ADVICE.format(more=_MORE.get(evaluation["task"], "more rows of the task's domain"))

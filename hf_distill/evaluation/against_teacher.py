"""A student's predictions beside its teacher's of the same rows: fidelity, and the difference of their metrics."""

from __future__ import annotations

from typing import Any

import torch

from hf_distill.evaluation.fidelity import fidelity_values
from hf_distill.evaluation.metric_text import SIMILARITY
from hf_distill.evaluation.predictions import Predictions
from hf_distill.evaluation.significance import difference_interval, mcnemar
from hf_distill.evaluation.single_texts import neighbor_fidelity
from hf_distill.evaluation.text_pairs import pair_fidelity
from hf_distill.tasks import EMBEDDING, REGRESSION, SINGLE_LABEL, Task


def against_teacher(teacher: Predictions, student: Predictions, task: Task | None) -> dict[str, Any]:
    """How a student's predictions differ from the teacher's of the same rows.

    Args:
        teacher: The teacher's predictions.
        student: The student's predictions.
        task: The task of the models.

    Returns:
        The student's `fidelity` to the teacher, and as `against_teacher` the difference of their main metrics with its
        interval, unless there are too few examples for one.

    Raises:
        ValueError: The models read different items, because their tokenizers truncate texts at different places.
    """
    if len(teacher.predictions) != len(student.predictions):
        raise ValueError(
            f"teacher and student must read the same items, got {len(teacher.predictions)} and "
            f"{len(student.predictions)}: their tokenizers truncate the texts at different places; pass a larger max_length (--max-length)"
        )
    fidelity = {}
    if student.logits is not None and teacher.logits is not None:
        kind = REGRESSION if student.is_correct is None else SINGLE_LABEL
        if task is Task.SENTENCE_EMBEDDING:
            of_task = neighbor_fidelity if student.main_metric == SIMILARITY else pair_fidelity
            kind, fidelity = EMBEDDING, of_task(student.logits, teacher.logits)
        both = torch.from_numpy(student.logits), torch.from_numpy(teacher.logits)
        fidelity |= {key: float(value.mean()) for key, value in fidelity_values(*both, kind).items()}
    else:
        fidelity["teacher_agreement"] = float((student.predictions == teacher.predictions).mean())
    if not student.has_interval:
        return {"fidelity": fidelity}
    difference = paired_difference(teacher, student)
    if student.is_correct is not None and teacher.is_correct is not None:
        difference["mcnemar_p"] = mcnemar(student.is_correct, teacher.is_correct)
    return {"fidelity": fidelity, "against_teacher": difference}


def paired_difference(first: Predictions, second: Predictions) -> dict[str, float]:
    """The difference of two models' main metrics on the same examples.

    Args:
        first: The predictions of the model that is compared with.
        second: The predictions of the other model.

    Returns:
        The second's metric less the first's as `difference`, and its 95 % paired bootstrap interval, `low` to `high`.
    """
    main = second.main_metric
    low, high = difference_interval(lambda chosen: second.score(chosen) - first.score(chosen), first.num_examples)
    return {"difference": second.metrics[main] - first.metrics[main], "low": low, "high": high}

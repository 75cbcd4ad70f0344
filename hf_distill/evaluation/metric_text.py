"""A comparison's metric, its values and its examples as text, with their units."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_PERCENT = ("accuracy", "f1", "f1_macro", "precision", "recall")  # in [0, 1]; SQuAD's metrics are percentages already
SIMILARITY = "similarity_spearman"  # of single texts, to the teacher
_NEIGHBORS = "neighbor_agreement_at_"  # begins the name, which ends with their number
_NAMES = {
    "mrr": "MRR", "ndcg@10": "nDCG@10", SIMILARITY: "correlation with the teacher's similarities",
    "exact_match": "exact match %", "HasAns_exact": "exact match % of questions with an answer",
    "HasAns_f1": "f1 % of questions with an answer", "HasAns_total": "questions with an answer",
    "NoAns_exact": "exact match % of questions without an answer", "NoAns_f1": "f1 % of questions without an answer",
    "NoAns_total": "questions without an answer",
}  # fmt: skip


def value_text(evaluation: Mapping[str, Any], value: float, sign: str = "") -> str:
    """A value of the comparison's metric as text: in percent where that is usual, a correlation with three decimals.

    Args:
        evaluation: The comparison.
        value: The value, or a difference of two.
        sign: "+" for a sign before positive values too.

    Returns:
        The text, without a unit.
    """
    scaled = 100 * value if is_share(evaluation) else value
    return f"{scaled:{sign}.{1 if is_percentage(evaluation) else 3}f}"


def difference_text(evaluation: Mapping[str, Any], found: Mapping[str, float]) -> str:
    """A difference of the comparison's metric with its interval, such as "-1.2 (-2.7 to -0.1)", without a unit.

    Args:
        evaluation: The comparison.
        found: The `difference`, and the ends `low` and `high` of its 95 % interval.

    Returns:
        The text.
    """
    difference, low, high = (value_text(evaluation, found[key], "+") for key in ("difference", "low", "high"))
    return f"{difference} ({low} to {high})"


def is_share(evaluation: Mapping[str, Any]) -> bool:
    """Whether the comparison's metric is in [0, 1] and shown in percent."""
    return evaluation["metric"] in _PERCENT and evaluation["task"] != "question_answering"


def is_of_similarities(evaluation: Mapping[str, Any]) -> bool:
    """Whether models are compared by the teacher's similarities of single texts, which is 1 for the teacher by definition."""
    return evaluation["metric"] == SIMILARITY


def metric_label(evaluation: Mapping[str, Any]) -> str:
    """The name of the comparison's metric with its unit."""
    return metric_name(evaluation["metric"]) + (" %" if is_percentage(evaluation) else "")


def is_percentage(evaluation: Mapping[str, Any]) -> bool:
    """Whether the comparison's metric is shown in percent: shares are, and so are the metrics of questions."""
    return is_share(evaluation) or evaluation["task"] == "question_answering"


def metric_name(metric: str) -> str:
    """A metric as it is written in prose: "MRR", "accuracy"."""
    return _NAMES.get(metric, metric.replace("_", " "))


def gain_texts(evaluation: Mapping[str, Any], gain: Mapping[str, float]) -> tuple[str, str, str]:
    """What a student gains over another, as text.

    Args:
        evaluation: The comparison.
        gain: The `difference` of the metric, and the ends `low` and `high` of its 95 % interval.

    Returns:
        "better", "worse" or "not clearly better"; the difference with its unit; and its interval.
    """
    difference, low, high = (value_text(evaluation, gain[key], "+") for key in ("difference", "low", "high"))
    how = "better" if gain["low"] > 0 else "worse" if gain["high"] < 0 else "not clearly better"
    return how, difference + (" points" if is_percentage(evaluation) else ""), f"95 % interval {low} to {high}"


def examples_label(evaluation: Mapping[str, Any]) -> str:
    """The number of examples that were scored, and of all examples if some were not, as text."""
    data = evaluation["data"]
    scored = data.get("scored", data["examples"])
    if scored < data["examples"] and is_of_similarities(evaluation):
        return f"{scored:,} evenly spaced of {data['examples']:,} examples"
    return f"{scored:,} example{'' if scored == 1 else 's'}" + (
        f" with a label, of {data['examples']:,}" if scored < data["examples"] else ""
    )


def agreement_label(evaluation: Mapping[str, Any]) -> str:
    """What `agreement_text` measures."""
    if is_of_similarities(evaluation):
        return "same nearest texts"
    return "similarities' correlation" if evaluation["task"] == "sentence_embedding" else "agreement"


def agreement_text(row: Mapping[str, Any]) -> str:
    """The share of equal predictions or nearest texts, or for pairs of texts the correlation of the similarities."""
    fidelity = row.get("fidelity") or {}
    agreement, correlation = fidelity.get("teacher_agreement"), fidelity.get(SIMILARITY)
    neighbors = next((value for name, value in fidelity.items() if name.startswith(_NEIGHBORS)), None)
    agreement = neighbors if agreement is None else agreement
    if agreement is not None:
        return f"{100 * agreement:.1f} %"
    return "" if correlation is None else f"{correlation:.3f}"


def quality_metric(report: Mapping[str, Any]) -> str | None:
    """The metric that says how good exported files are. None: none does, as on a split that students learn from."""
    return None if report["data"]["split"] == "train" else report.get("metric")


def data_label(data: Mapping[str, Any]) -> str:
    """The data set and its split, which for a file of one split has the same name."""
    return data["name"] if data["split"] == data["name"] else f"{data['name']}, {data['split']}"

"""The audit of a teacher in sentences, and its disagreements as a table."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_SHOWN = 10
_GAIN = {
    "yes": "A student can be expected to gain: the teacher is better than what these labels alone give",
    "no": "A student can be expected to lose: the teacher is worse than what these labels alone give",
    "undecided": "Whether a student gains is not clear: teacher and labels alone are not far enough apart on these rows",
}


def audit_lines(found: Mapping[str, Any], name: str) -> Iterator[str]:
    """The audit, a sentence or table row per line.

    Args:
        found: What `audit_teacher` returned.
        name: The teacher's name.

    Yields:
        The lines.
    """
    metrics = found["metrics"]
    yield f"{name}: accuracy {_share(metrics['accuracy'], found['interval'])} on {found['examples']} labeled rows"
    error = 100 * metrics["expected_calibration_error"]
    yield f"Calibration: expected error {error:.1f} %, mean confidence {100 * found['mean_confidence']:.1f} %"
    for number, each in enumerate(found["templates"], start=1):
        yield f"Template {number} alone: accuracy {_share(each['accuracy'], each)}"
    for each in found["confused"][:_SHOWN]:
        yield f"Confused: {each['label']} taken for {each['taken_for']} in {each['rows']} row{'' if each['rows'] == 1 else 's'}"
    for each in sorted(found["not_told_apart"], key=lambda pair: pair["auc"])[:_SHOWN]:
        first, second = each["labels"]
        yield f"Not told apart: {first} and {second}, AUC {each['auc']:.2f} on {each['rows']} rows (p = {each['p']:.2g})"
    yield from _coverage_lines(found)
    yield _trusted_line(found["trusted"])
    yield from _gain_lines(found["labels_alone"])
    if (kept := found.get("filtered")) is not None:
        of_labeled = (
            ""
            if kept["accuracy"] is None
            else f", accuracy {100 * kept['accuracy']:.1f} % on {kept['labeled_rows']} labeled"
        )
        yield f"Kept: {kept['rows']:,} of {kept['before']:,} rows{of_labeled}"
    yield f"Disagreements: {len(found['disagreements'])} rows, errors of the teacher or of the labels"


def disagreements_csv(disagreements: Sequence[Mapping[str, Any]]) -> str:
    """The disagreements of an audit as CSV, with a header if there are any."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(disagreements[0]) if disagreements else [], lineterminator="\n")
    if disagreements:
        writer.writeheader()
        writer.writerows(disagreements)
    return text.getvalue()


def _share(value: float, interval: Mapping[str, float]) -> str:
    return f"{100 * value:.1f} % (95 % interval {100 * interval['low']:.1f} to {100 * interval['high']:.1f})"


def _coverage_lines(found: Mapping[str, Any]) -> Iterator[str]:
    measure = "entropy" if "entropy" in found["coverage"][0] else "confidence"
    bound = "at most" if measure == "entropy" else "at least"
    for each in found["coverage"]:
        share = f"{100 * each['coverage']:.0f} % of the rows, of {measure} {bound} {each[measure]:.3f}"
        yield f"Coverage: {share}: accuracy {_share(each['accuracy'], each)}"


def _trusted_line(trusted: Mapping[str, Any]) -> str:
    required = f"{100 * trusted['required_accuracy']:.0f} %"
    if not trusted["rows"]:
        return (
            f"Rows to trust: none, no share of the rows has an accuracy of {required} by the lower end of its interval"
        )
    measure = "entropy" if "entropy" in trusted else "confidence"
    bound = f"{measure} {'at most' if measure == 'entropy' else 'at least'} {trusted[measure]:.3f}"
    return (
        f"Rows to trust: {100 * trusted['coverage']:.1f} %, of {bound}: accuracy {_share(trusted['accuracy'], trusted)}, of which "
        f"the lower end is at least {required}"
    )


def _gain_lines(compared: Mapping[str, Any]) -> Iterator[str]:
    gain = compared["expected_gain"]
    if gain not in _GAIN:
        yield f"Whether a student gains is not known: {compared['reason']}"
        return
    yield (
        f"{_GAIN[gain]} ({compared['method']}: accuracy {100 * compared['accuracy']:.1f} %; the teacher's is "
        f"{100 * compared['difference']:+.1f} points, 95 % interval {100 * compared['low']:+.1f} to {100 * compared['high']:+.1f}, "
        f"p = {compared['mcnemar_p']:.2g})"
    )

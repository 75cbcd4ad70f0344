"""The audit of a teacher on labeled rows finds what was put into them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from hf_distill.evaluation.audit_report import audit_lines, disagreements_csv
from hf_distill.evaluation.labels_alone import cross_validated_predictions
from hf_distill.evaluation.significance import share_interval
from hf_distill.evaluation.teacher_audit import GoldRows, audit_teacher
from hf_distill.precomputed.distributions import LabelDistributions

pytest.importorskip("sklearn")

LABELS = ["joy", "anger", "rage"]


def gold_rows(rows: int = 240, templates: bool = False) -> GoldRows:
    """Texts whose words tell the class; a teacher that knows joy, and cannot tell anger and rage apart."""
    generator = np.random.default_rng(0)
    classes = np.arange(rows) % 3
    logits = generator.normal(0, 0.1, (rows, 3))
    logits[classes == 0, 0] += 4
    logits[classes > 0, 1:] += generator.normal(1, 1, (int((classes > 0).sum()), 2))
    own = torch.from_numpy(logits).float()
    texts = [f"word{each} common {row}" for row, each in enumerate(classes)]
    by_template = torch.stack([own, -own], dim=1) if templates else None
    return GoldRows(texts, classes, LabelDistributions(LABELS, own, by_template))


def test_accuracy_calibration_and_confusion_are_those_of_the_rows():
    gold = gold_rows()
    found = audit_teacher(gold)
    predicted = gold.outputs.logits.argmax(-1).numpy()
    accuracy = (predicted == gold.classes).mean()
    assert found["metrics"]["accuracy"] == pytest.approx(accuracy) and 0.5 < accuracy < 0.8
    assert found["interval"]["low"] < accuracy < found["interval"]["high"]
    assert found["confusion"] == [
        [int(((gold.classes == a) & (predicted == b)).sum()) for b in range(3)] for a in range(3)
    ]
    assert found["confused"][0]["rows"] == max(found["confusion"][1][2], found["confusion"][2][1])
    assert found["metrics"]["expected_calibration_error"] > 0
    assert found["mean_confidence"] == pytest.approx(float(gold.outputs.logits.softmax(-1).amax(-1).mean()))


def test_labels_that_it_cannot_tell_apart():
    (pair,) = audit_teacher(gold_rows())["not_told_apart"]
    assert pair["labels"] == ["anger", "rage"] and 0.4 < pair["auc"] < 0.6 and pair["rows"] == 160


def test_a_preference_for_one_label_is_no_want_of_discrimination():
    gold = gold_rows()
    logits = torch.eye(3)[torch.from_numpy(gold.classes)] + torch.tensor([0.0, 5.0, 0.0])
    found = audit_teacher(GoldRows(gold.texts, gold.classes, LabelDistributions(LABELS, logits)))
    assert found["not_told_apart"] == [] and found["metrics"]["accuracy"] == pytest.approx(1 / 3)


@pytest.mark.parametrize("measure", ["confidence", "entropy"])
def test_rows_to_trust_are_the_surest(measure):
    gold = gold_rows()
    found = audit_teacher(gold, measure, required_accuracy=0.85)
    values = getattr(gold.outputs, measure).numpy()
    whole = found["coverage"][0]
    assert (whole["coverage"], whole["rows"]) == (1.0, 240) and whole["accuracy"] == found["metrics"]["accuracy"]
    trusted = found["trusted"]
    kept = values <= trusted[measure] if measure == "entropy" else values >= trusted[measure]
    assert kept.sum() == trusted["rows"] and 60 < trusted["rows"] < 160
    right = int(gold.is_correct[kept].sum())
    assert trusted["low"] == pytest.approx(share_interval(right, trusted["rows"])[0]) and trusted["low"] >= 0.85
    assert audit_teacher(gold, measure, required_accuracy=0.999)["trusted"]["rows"] == 0


def test_an_interval_of_a_share_is_wilsons():
    low, high = share_interval(9, 10)
    assert (low, high) == (pytest.approx(0.5958, abs=1e-3), pytest.approx(0.9821, abs=1e-3))


def test_whether_a_student_gains_is_the_difference_from_labels_alone():
    """The words tell the class, so that labels alone give more than this teacher; a perfect teacher on noise gives more."""
    found = audit_teacher(gold_rows())["labels_alone"]
    assert found["expected_gain"] == "no" and found["accuracy"] == 1.0 and found["high"] < 0
    gold = gold_rows()
    noise = [f"row {np.random.default_rng(row).integers(1000)}" for row in range(240)]
    perfect = LabelDistributions(LABELS, 9 * torch.eye(3)[torch.from_numpy(gold.classes)])
    better = audit_teacher(GoldRows(noise, gold.classes, perfect))["labels_alone"]
    assert better["expected_gain"] == "yes" and better["low"] > 0 and better["mcnemar_p"] < 0.01
    few = GoldRows(noise[:3], gold.classes[:3], LabelDistributions(LABELS, perfect.logits[:3]))
    assert audit_teacher(few)["labels_alone"]["expected_gain"] == "unknown"


def test_labels_alone_are_those_of_the_training_split_too():
    """Its words are unknown in the other rows, so that only it can tell what they mean."""
    words, classes = [f"w{row}" for row in range(40)], np.arange(40) % 2
    assert cross_validated_predictions(words, classes).metrics["accuracy"] < 0.7
    assert cross_validated_predictions(words, classes, 5, words, classes).metrics["accuracy"] == 1
    gold = GoldRows(words, classes, LabelDistributions(["a", "b"], torch.eye(2)[torch.from_numpy(classes)]))
    assert audit_teacher(gold)["labels_alone"]["method"].endswith("on the 40 of these rows, in 5-fold cross-validation")
    found = audit_teacher(replace(gold, further_texts=words * 30, further_classes=[*classes] * 30))["labels_alone"]
    assert found["accuracy"] == 1 and "on the 1,200 labeled rows of train and the 40 of these rows" in found["method"]


def test_rare_classes_and_texts_of_signs_are_cross_validated():
    classes = np.array([0] * 8 + [1])
    found = cross_validated_predictions(["!?", "...", *["a b"] * 6, "c"], classes)
    assert found.num_examples == 9 and found.metrics["accuracy"] == pytest.approx(8 / 9)


def test_templates_and_disagreements():
    gold = gold_rows(templates=True)
    found = audit_teacher(gold)
    assert found["templates"][0]["accuracy"] == found["metrics"]["accuracy"] > found["templates"][1]["accuracy"]
    listed = found["disagreements"]
    assert [each["row"] for each in sorted(listed, key=lambda each: each["row"])] == np.flatnonzero(
        ~gold.is_correct
    ).tolist()
    assert [each["confidence"] for each in listed] == sorted((each["confidence"] for each in listed), reverse=True)
    first = listed[0]
    assert first["label"] == LABELS[gold.classes[first["row"]]] != first["teacher"] and first["agreement"] == 0.5
    rows = disagreements_csv(listed).splitlines()
    assert rows[0] == "row,text,label,teacher,confidence,entropy,agreement" and len(rows) == len(listed) + 1
    assert disagreements_csv([]) == ""


def test_the_report_says_it_in_sentences():
    text = "\n".join(audit_lines(audit_teacher(gold_rows(templates=True), required_accuracy=0.85), "a teacher"))
    for part in ("a teacher: accuracy", "Calibration: expected error", "Template 2 alone", "Not told apart: anger and rage",
                 "Rows to trust:", "expected to lose", "tf-idf and logistic regression", "Disagreements:"):  # fmt: skip
        assert part in text
    few = audit_teacher(GoldRows(["a", "b"], np.array([0, 1]), LabelDistributions(LABELS, torch.eye(3)[:2])))
    text = "\n".join(audit_lines(few, "a teacher"))
    assert "Rows to trust: none" in text and "not known: cross-validation needs at least 4 texts" in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"measure": "margin"}, "'confidence' or 'entropy', got 'margin'"),
        ({"required_accuracy": 90}, "between 0 and 1, got 90"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        audit_teacher(gold_rows(), **options)


def test_one_row_is_too_few():
    with pytest.raises(ValueError, match="at least 2 labeled rows, got 1"):
        audit_teacher(GoldRows(["a"], np.array([0]), LabelDistributions(LABELS, torch.eye(3)[:1])))

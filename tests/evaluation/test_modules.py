"""The modules for evaluate work without a network and say what scikit-learn and our own functions say."""

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from hf_distill.evaluation.modules import load_metric

GENERATOR = np.random.default_rng(0)
LABELS, PREDICTED = GENERATOR.integers(0, 2, (2, 60))


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ("sst2", {"accuracy": accuracy_score(LABELS, PREDICTED)}),
        ("mrpc", {"accuracy": accuracy_score(LABELS, PREDICTED), "f1": f1_score(LABELS, PREDICTED)}),
        ("cola", {"matthews_correlation": matthews_corrcoef(LABELS, PREDICTED)}),
    ],
)
def test_glue(task, expected):
    metric = load_metric("glue", task)
    for start in range(0, 60, 25):  # in batches, as scripts do
        metric.add_batch(predictions=PREDICTED[start : start + 25], references=LABELS[start : start + 25])
    assert metric.compute() == pytest.approx(expected)


def test_glue_regression():
    first, second = GENERATOR.normal(size=(2, 50)).astype("float32")
    found = load_metric("glue", "stsb").compute(predictions=first, references=second)
    expected = {"pearson": pearsonr(second, first).statistic, "spearmanr": spearmanr(second, first).statistic}
    assert found == pytest.approx(expected)


def test_squad():
    references = [
        {"id": "1", "answers": {"text": ["the warm film"], "answer_start": [0]}},
        {"id": "2", "answers": {"text": ["Rome"], "answer_start": [3]}},
    ]
    given = [{"id": "2", "prediction_text": "in Rome"}, {"id": "1", "prediction_text": "a warm film"}]  # another order
    assert load_metric("squad").compute(predictions=given, references=references) == pytest.approx(
        {"exact_match": 50, "f1": 100 * (1 + 2 / 3) / 2}
    )
    with pytest.raises(ValueError, match=r"none was given for \['2'\]"):
        load_metric("squad").compute(predictions=given[1:] * 2, references=references)


def test_squad_with_questions_that_have_no_answer():
    references = [{"id": "1", "answers": {"text": [], "answer_start": []}}]
    given = [{"id": "1", "prediction_text": "", "no_answer_probability": 0.0}]
    assert load_metric("squad_v2").compute(predictions=given, references=references)["NoAns_exact"] == 100


def test_seqeval():
    found = load_metric("seqeval").compute(
        predictions=[["B-PER", "I-PER", "O"], ["B-LOC", "O"]], references=[["B-PER", "I-PER", "O"], ["O", "B-LOC"]]
    )
    expected = {"overall_precision": 0.5, "overall_recall": 0.5, "overall_f1": 0.5, "overall_accuracy": 3 / 5}
    assert found == pytest.approx(expected)


def test_unknown_names():
    with pytest.raises(ValueError, match=r"name must be one of .*'glue'.*got 'bleu'"):
        load_metric("bleu")
    with pytest.raises(ValueError, match=r"task_name must be one of .*'sst2'.*got 'sst3'"):
        load_metric("glue", "sst3")

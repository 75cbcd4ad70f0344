"""Sentence encoders beside each other, on pairs of texts: what is measured is what SciPy and the encoders say."""

from __future__ import annotations

import datasets
import jsonschema
import numpy as np
import pytest
import torch
from rich.console import Console
from scipy.stats import pearsonr, spearmanr

from hf_distill import SentenceEncoder
from hf_distill.evaluation.comparison import DISTILLED, TEACHER, EvaluatedModel, LatencySettings, compare
from hf_distill.evaluation.embeddings import pair_scores, similarity_spearman
from hf_distill.evaluation.plots import report_plot
from hf_distill.evaluation.report import report_table
from hf_distill.evaluation.text_pairs import pair_fidelity
from hf_distill.publishing.run_record import schema
from tests.tiny_models import tiny_bert, tiny_tokenizer

FIRST = [f"w{number} w{number + 1}" for number in range(5, 35)]
SECOND = [f"w{number + 2} w{number + 1} w{2 * number}" for number in range(5, 35)]
LABELS = [float(7 * number % 30) for number in range(30)]


@pytest.fixture(scope="module")
def encoders():
    return [
        EvaluatedModel("big", TEACHER, SentenceEncoder.from_model(tiny_bert(32, 2)).eval(), tiny_tokenizer()),
        EvaluatedModel("small", DISTILLED, SentenceEncoder.from_model(tiny_bert(16, 1)).eval(), tiny_tokenizer()),
    ]


def embedded(model, texts) -> np.ndarray:
    """Without batches and padding."""
    with torch.inference_mode():
        return torch.cat([model(**tiny_tokenizer()(text, return_tensors="pt")).logits for text in texts]).numpy()


def pairs(**columns) -> datasets.Dataset:
    return datasets.Dataset.from_dict({"question": FIRST, "answer": SECOND, **columns})


def test_similarities_are_correlated_with_the_labels(encoders):
    found = compare(encoders, pairs(label=LABELS), "sts", "test", latency=None)
    for row, evaluated in zip(found["rows"], encoders, strict=True):
        cosines = (embedded(evaluated.model, FIRST) * embedded(evaluated.model, SECOND)).sum(axis=1)
        assert row["metrics"]["spearmanr"] == pytest.approx(spearmanr(LABELS, cosines).statistic, abs=1e-4)
        assert row["metrics"]["pearson"] == pytest.approx(pearsonr(LABELS, cosines).statistic, abs=1e-4)
    assert found["metric"] == "spearmanr" and found["task"] == "sentence_embedding"
    against, (big, small) = found["rows"][1]["against_teacher"], found["rows"]
    assert against["difference"] == pytest.approx(small["metrics"]["spearmanr"] - big["metrics"]["spearmanr"])
    assert against["low"] <= against["difference"] <= against["high"]
    jsonschema.validate(found, {**schema(), **schema()["$defs"]["evaluation"]})


def test_texts_of_a_pair_without_label_belong_together(encoders, tmp_path):
    settings = LatencySettings((1,), (8,), ("onnx-int8",), runs=2, warm_up=0)
    found = compare(encoders, pairs(), "questions", "test", settings)
    both = [(embedded(each.model, FIRST), embedded(each.model, SECOND)) for each in encoders]
    for row, (first, second) in zip(found["rows"], both, strict=True):
        assert row["metrics"] == pytest.approx(pair_scores(first, second), abs=1e-4)
        assert row["metrics_by_format"]["onnx-int8"]["spearman"] == pytest.approx(row["metrics"]["spearman"], abs=0.1)
    fidelity = found["rows"][1]["fidelity"]
    teacher, student = (np.concatenate(each) for each in both)
    assert fidelity["similarity_spearman"] == pytest.approx(similarity_spearman(student, teacher), abs=1e-3)
    assert "teacher_cosine" not in fidelity  # widths differ
    console = Console(width=200, record=True)
    console.print(report_table(found))
    shown = console.export_text()
    assert f"{found['rows'][1]['metrics']['mrr']:.3f}" in shown and f"{fidelity['similarity_spearman']:.3f}" in shown
    assert "ECE" not in shown and "McNemar" not in shown
    assert report_plot(found, tmp_path / "plot.png").stat().st_size > 1000


def test_fidelity_of_many_pairs_is_that_of_500_evenly_spaced_ones():
    generator = np.random.default_rng(0)
    student, teacher = generator.normal(size=(2, 2 * 1200, 8))
    assert pair_fidelity(teacher, teacher) == {"similarity_spearman": pytest.approx(1), "retrieval_agreement_at_10": 1}
    chosen = np.unique(np.linspace(0, 1199, 500).astype(int))
    rows = np.concatenate([chosen, 1200 + chosen])
    expected = similarity_spearman(student[rows], teacher[rows])
    assert pair_fidelity(student, teacher)["similarity_spearman"] == pytest.approx(expected)


def test_a_label_that_is_no_number_is_refused(encoders):
    with pytest.raises(ValueError, match="a row has the label 'alike'; allowed are numbers"):
        compare(encoders, pairs(label=["alike"] * 30), "sts", "test", latency=None)

"""Sentence encoders beside each other on texts of one column: the student's similarities and the teacher's."""

from __future__ import annotations

import datasets
import jsonschema
import numpy as np
import pytest
import torch
from rich.console import Console
from scipy.stats import spearmanr

from hf_distill import SentenceEncoder
from hf_distill.evaluation.comparison import DISTILLED, TEACHER, EvaluatedModel, LatencySettings, compare
from hf_distill.evaluation.embeddings import neighbor_agreement, normalized, similarity_spearman
from hf_distill.evaluation.metric_text import examples_label
from hf_distill.evaluation.plots import report_plot
from hf_distill.evaluation.report import report_table
from hf_distill.evaluation.significance import difference_interval
from hf_distill.evaluation.single_texts import neighbor_fidelity, scores_of_texts, similarity_score
from hf_distill.publishing.run_record import schema
from tests.tiny_models import tiny_bert, tiny_tokenizer

TEXTS = [f"w{number} w{number * 7 % 90 + 5} w{number * 3 % 80 + 9}" for number in range(5, 35)]


def texts(count: int = 30, column: str = "text") -> datasets.Dataset:
    return datasets.Dataset.from_dict({column: TEXTS[:count], "label": list(range(count))})


def encoder(name: str, role: str, hidden_size: int, seed: int = 0) -> EvaluatedModel:
    model = SentenceEncoder.from_model(tiny_bert(hidden_size, 1, seed=seed)).eval()
    return EvaluatedModel(name, role, model, tiny_tokenizer())


@pytest.fixture(scope="module")
def encoders():
    return [encoder("big", TEACHER, 32), encoder("small", DISTILLED, 16), encoder("wide", DISTILLED, 32, seed=1)]


def embedded(evaluated: EvaluatedModel) -> np.ndarray:
    """Without batches and padding."""
    with torch.inference_mode():
        rows = [evaluated.model(**evaluated.processing_class(text, return_tensors="pt")).logits for text in TEXTS]
    return torch.cat(rows).numpy()


@pytest.mark.parametrize("column", ["text", "sentence"])
def test_students_are_compared_by_the_teachers_similarities(encoders, column):
    found = compare(encoders, texts(column=column), "mails", "test", latency=None)
    teacher, *students = (embedded(each) for each in encoders)
    first, *rows = found["rows"]
    assert found["metric"] == "similarity_spearman" and found["task"] == "sentence_embedding"
    assert first["metrics"] == {"similarity_spearman": 1} and "fidelity" not in first and "against_teacher" not in first
    for row, own in zip(rows, students, strict=True):
        expected = similarity_spearman(own, teacher)
        assert row["metrics"] == {"similarity_spearman": pytest.approx(expected, abs=1e-3)}
        neighbors = row["fidelity"]["neighbor_agreement_at_10"]
        assert neighbors == pytest.approx(neighbor_agreement(own, teacher), abs=0.02)
        against = row["against_teacher"]
        assert against["difference"] == row["metrics"]["similarity_spearman"] - 1
        assert against["low"] < against["difference"] < against["high"] < 0
    assert "teacher_cosine" not in rows[0]["fidelity"], "widths differ"
    cosines = (normalized(students[1]) * normalized(teacher)).sum(axis=1)
    assert rows[1]["fidelity"]["teacher_cosine"] == pytest.approx(cosines.mean(), abs=1e-4)
    jsonschema.validate(found, {**schema(), **schema()["$defs"]["evaluation"]})


def test_other_formats_are_compared_with_the_teacher_in_fp32(encoders, tmp_path):
    settings = LatencySettings((1,), (8,), ("int8",), runs=2, warm_up=0)
    found = compare(encoders[:2], texts(), "mails", "test", settings)
    teacher, student = found["rows"]
    quantized = teacher["metrics_by_format"]["int8"]["similarity_spearman"]
    assert 0.9 < quantized < 1, "an int8 teacher is not the teacher"
    of_student = student["metrics_by_format"]["int8"]["similarity_spearman"]
    assert of_student == pytest.approx(student["metrics"]["similarity_spearman"], abs=0.1)
    assert student["against_teacher_by_format"]["int8"]["difference"] == of_student - 1
    console = Console(width=200, record=True)
    console.print(report_table(found))
    shown = " ".join(console.export_text().split())
    assert "correlation with the teacher's similarities" in shown and "same nearest texts" in shown
    assert f"{student['metrics']['similarity_spearman']:.3f}" in shown and "similarities' correlation" not in shown
    assert report_plot(found, tmp_path / "plot.png").stat().st_size > 1000


def test_few_texts_have_no_interval(encoders):
    student = compare(encoders[:2], texts(19), "mails", "test", latency=None)["rows"][1]
    assert "against_teacher" not in student and -1 <= student["metrics"]["similarity_spearman"] <= 1
    few = compare(encoders[:2], texts(4), "mails", "test", latency=None)["rows"][1]
    assert [*few["fidelity"]] == ["neighbor_agreement_at_3"]


def test_a_comparison_needs_a_teacher_and_texts(encoders):
    alone = r"texts of one column, sentence, .*pass the teacher \(--teacher\), or rows with two columns of texts"
    with pytest.raises(ValueError, match=alone):
        compare(encoders[1:], texts(column="sentence"), "mails", "test", latency=None)
    with pytest.raises(ValueError, match="at least 3 texts, got 2"):
        compare(encoders, texts(2), "mails", "test", latency=None)
    with pytest.raises(ValueError, match=r"one or two columns of texts, got \['label'\]"):
        compare(encoders, texts().select_columns("label"), "mails", "test", latency=None)


def test_of_many_texts_500_evenly_spaced_ones_are_compared():
    generator = np.random.default_rng(0)
    student, teacher = generator.normal(size=(2, 1200, 8))
    chosen = np.unique(np.linspace(0, 1199, 500).astype(int))
    scores = scores_of_texts(student, teacher)
    expected = similarity_spearman(student[chosen], teacher[chosen])
    assert scores.num_texts == 500 and scores.metrics["similarity_spearman"] == pytest.approx(expected)
    assert scores.score(np.arange(500)) == pytest.approx(expected)
    neighbors = neighbor_agreement(student[chosen], teacher[chosen])
    assert neighbor_fidelity(student, teacher) == {"neighbor_agreement_at_10": pytest.approx(neighbors)}
    evaluation = {"metric": "similarity_spearman", "data": {"examples": 1200, "scored": 500}}
    assert examples_label(evaluation) == "500 evenly spaced of 1,200 examples"


@pytest.mark.parametrize("decimals", [8, 0])  # the latter gives equal cosines
def test_a_bootstrap_sample_pairs_no_text_with_itself(decimals):
    generator = np.random.default_rng(decimals)
    teacher = generator.normal(size=(40, 3)).round(decimals)
    student = (teacher + generator.normal(size=(40, 3))).round(decimals)
    score = similarity_score(student, teacher)
    cosines = [normalized(each) @ normalized(each).T for each in (student, teacher)]
    for chosen in generator.integers(0, 40, (5, 40)):
        pairs = [(a, b) for place, a in enumerate(chosen) for b in chosen[:place] if a != b]
        rows, columns = np.array([sorted(pair) for pair in pairs]).T
        expected = spearmanr(*(each[rows, columns] for each in cosines)).statistic
        assert score(chosen) == pytest.approx(expected)
    assert np.isnan(score(np.zeros(40, dtype=int))), "one text has no pairs"


def test_the_interval_is_as_wide_as_samples_of_texts_differ():
    generator = np.random.default_rng(3)

    def scores():
        teacher = generator.normal(size=(60, 6))
        return scores_of_texts(teacher[:, :4] + 0.5 * generator.normal(size=(60, 4)), teacher)

    spread = np.std([scores().metrics["similarity_spearman"] for _ in range(200)])
    intervals = [difference_interval(scores().score, 60, resamples=200) for _ in range(10)]
    half = np.mean([high - low for low, high in intervals]) / 2
    assert 0.8 < half / (1.96 * spread) < 1.3

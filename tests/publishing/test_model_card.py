"""A card says what its record says, in valid metadata and readable text."""

import pytest
from huggingface_hub import ModelCard

from hf_distill.publishing.model_card import render_model_card, write_model_card
from hf_distill.publishing.run_record import RunRecord

MODEL = dict(
    architecture="BertForSequenceClassification", num_hidden_layers=2, hidden_size=128, num_attention_heads=2,
    intermediate_size=512, vocab_size=30522, labels=["negative", "positive"], weights_sha256="ab" * 32,
)  # fmt: skip


@pytest.fixture
def record():
    rows = [
        dict(name="big", training="teacher", accuracy=0.9, agreement=None, parameters=40_000_000, latency_ms=20.0),
        dict(name="small", training="distilled", accuracy=0.85, agreement=0.91, parameters=4_000_000, latency_ms=2.5),
    ]
    return RunRecord(
        trainer="DistillationTrainer",
        student=MODEL | dict(name="small", parameters=4_000_000, initialisation="embeddings"),
        teacher=MODEL | dict(name="big", parameters=40_000_000, dtype="torch.bfloat16", num_hidden_layers=6),
        objective=[{"name": "soft_label", "weight": 1.0, "loss": "forward_kl", "temperature": 2.0}],
        arguments={"learning_rate": 0.001},
        data=dict(train_examples=1234, name="reviews", language="en", license="mit", test_examples=1000,
                  accuracy_error_points=1.13, evaluation_text="Test split.", latency_text="Two threads."),
        training=dict(steps=100, epochs=1.5, seconds=12.3, seed=7, hardware="a CPU", processes=1),
        comparison=[row | {"this": row["name"] == "small"} for row in rows],
    )  # fmt: skip


def test_card_of_a_distilled_student(record, tmp_path):
    record.save(tmp_path)
    card = ModelCard.load(write_model_card(tmp_path))
    data = card.data.to_dict()
    assert data["library_name"] == "transformers" and data["pipeline_tag"] == "text-classification"
    assert data["license"] == "mit" and data["language"] == "en"
    assert data["model-index"][0]["results"][0]["metrics"][0]["value"] == 0.85
    text = card.text
    for said in (
        "distilled from **big**", "10.0 times fewer parameters", "1.0 × soft labels (`forward_kl`", "temperature 2.0",
        "**small** (this model) | distilled | 85.0 % | 91.0 % | 4.0M | 2.50 ms", "bfloat16", "`learning_rate` | `0.001`",
        "100 optimizer steps (1.50 epochs) in 12 seconds on a CPU, seed 7", "1,234", "arXiv 1908.08962",
    ):  # fmt: skip
        assert said in text, said
    assert "None" not in text and "{{" not in text and "\n\n\n" not in text


def test_card_of_a_student_of_labels_alone_names_no_teacher(record):
    record.teacher, record.objective = None, [{"name": "hard_label", "weight": 1.0}]
    text = render_model_card(record).text
    assert "fine-tuned on labels alone" in text and "distilled from" not in text and "arXiv" not in text


def test_card_without_a_comparison_claims_no_result(record):
    record.comparison = []
    card = render_model_card(record)
    assert "model-index" not in card.data.to_dict() and "## Results" not in card.text


def test_without_a_comparison_the_metrics_are_the_results(record):
    record.comparison = []
    assert "It was not evaluated in training." in render_model_card(record).text
    record.metrics = dict(eval_accuracy=0.81, eval_runtime=3.0, test_accuracy=0.8, test_teacher_kl=0.25, epoch=2.0)
    text = render_model_card(record).text
    assert (
        "## Results\n\nOn reviews:\n\n| | validation | test |\n|---|--:|--:|\n| accuracy | 0.81 | 0.8 |\n"
        "| teacher kl |  | 0.25 |\n\n## How" in text
    )
    assert "runtime" not in text and "\n\n\n" not in text and "the one data set named above" in text

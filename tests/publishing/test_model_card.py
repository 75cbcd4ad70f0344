"""A card says what its record says, in valid metadata and readable text, whatever is written in the record."""

from __future__ import annotations

import copy
import functools
import random
import re

import jinja2
import pytest
import yaml
from huggingface_hub import ModelCard, ModelCardData
from huggingface_hub.repocard_data import model_index_to_eval_results

from hf_distill.privacy import public
from hf_distill.publishing.markdown import code, code_block, escaped, plain
from hf_distill.publishing.model_card import add_evaluation, render_model_card, write_model_card
from hf_distill.publishing.run_record import RunRecord

MODEL = dict(
    architecture="BertForSequenceClassification", num_hidden_layers=2, hidden_size=128, num_attention_heads=2,
    intermediate_size=512, vocab_size=30522, labels=["negative", "positive"], weights_sha256="ab" * 32,
)  # fmt: skip
LATENCY = dict(format="fp32", batch_size=1, sequence_length=32, p95_ms=3.0, sequences_per_second=400.0, threads=2)
EVALUATION = {
    "task": "sequence_classification",
    "metric": "accuracy",
    "data": {"name": "reviews", "split": "test", "examples": 1000, "fingerprint": "f" * 64},
    "conditions": {"hardware": "a CPU", "max_length": 128, "versions": {}},
    "rows": [
        {"name": "big", "role": "teacher", "parameters": 40_000_000, "weights_sha256": "cd" * 32,
         "metrics": {"accuracy": 0.9, "f1_macro": 0.89, "expected_calibration_error": 0.05},
         "latency": [LATENCY | {"median_ms": 20.0}]},
        {"name": "small", "role": "distilled", "parameters": 4_000_000, "weights_sha256": "ab" * 32,
         "metrics": {"accuracy": 0.85, "f1_macro": 0.84, "expected_calibration_error": 0.021},
         "fidelity": {"teacher_agreement": 0.91, "teacher_kl": 0.12},
         "against_teacher": {"difference": -0.05, "low": -0.07, "high": -0.03, "mcnemar_p": 0.004},
         "latency": [LATENCY | {"median_ms": 2.5}]},
        {"name": "small, labels", "role": "labels only", "parameters": 4_000_000, "weights_sha256": "ef" * 32,
         "metrics": {"accuracy": 0.8}, "latency": [LATENCY | {"median_ms": 2.5}]},
    ],
}  # fmt: skip


@pytest.fixture
def record():
    return RunRecord(
        trainer="DistillationTrainer",
        student=MODEL | dict(name="small", parameters=4_000_000, initialisation="embeddings"),
        teacher=MODEL | dict(name="big", parameters=40_000_000, dtype="torch.bfloat16", num_hidden_layers=6),
        objective=[{"name": "soft_label", "weight": 1.0, "loss": "forward_kl", "temperature": 2.0}],
        arguments={"learning_rate": 0.001},
        data=dict(train_examples=1234, name="reviews", language="en", license="mit", description="Rated by people.",
                  data_license="cc0", citation="Somebody 2014, A title"),
        training=dict(steps=100, epochs=1.5, seconds=12.3, seed=7, hardware="a CPU", processes=1, co2_eq_grams=1.234),
        command="python train.py --a 'b c'",
        git={"commit": "0123456789" * 4, "changed": True},
        evaluation=copy.deepcopy(EVALUATION) | {"this": 1},
    )  # fmt: skip


def test_card_of_a_distilled_student(record, tmp_path):
    record.save(tmp_path)
    card = ModelCard.load(write_model_card(tmp_path))
    data = card.data.to_dict()
    assert data["library_name"] == "transformers" and data["pipeline_tag"] == "text-classification"
    assert data["license"] == "mit" and data["language"] == "en"
    assert "base_model" not in data  # neither is on the Hub
    _, (result, macro) = model_index_to_eval_results(data["model-index"])
    assert (result.metric_value, result.metric_type, result.dataset_name) == (0.85, "accuracy", "reviews")
    assert (macro.metric_value, macro.metric_type, macro.metric_name) == (0.84, "f1", "f1_macro")
    assert result.dataset_split == "test" and result.task_type == "text-classification"
    assert data["metrics"] == ["accuracy", "f1"] and data["co2_eq_emissions"]["emissions"] == 1.234
    text = card.text
    for said in (
        "distilled from **big**", "10.0 times fewer parameters", "1.0 × soft labels (`forward_kl`", "temperature 2.0",
        "| **small** (this model) | distilled | 85.0 | -5.0 (-7.0 to -3.0) | 91.0 % | 4.0M | 2.50 ms |", "bfloat16",
        "| small, labels | labels only | 80.0 |", "| `learning_rate` | `0.001` |", "1,234", "arXiv 1908.08962",
        "100 optimizer steps (1.50 epochs) in 12 seconds on a CPU; 1.23 g CO₂", "calibration error: 2.1 %", "0.120 nats",
        "```bash\npython train.py --a 'b c'\n```", "Commit `012345678901`, with local changes", "Rated by people.",
        "Licence of the data: cc0.", "Somebody 2014, A title.", "eprint = {1503.02531}", "![quality",
    ):  # fmt: skip
        assert said in text, said
    assert "None" not in text and "{{ " not in text and "{%" not in text and "\n\n\n" not in text
    assert (tmp_path / "comparison.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("architecture", "data", "example"),
    [
        ("BertForSequenceClassification", {}, 'student("A text like those it was trained on.")'),
        (
            "BertForSequenceClassification",
            {"text_pairs": True},
            'student({"text": "The first of two texts.", "text_pair": ',
        ),
        ("BertForTokenClassification", {"text_pairs": True}, 'student("Ada Lovelace was born in London.")'),
        ("BertForMaskedLM", {}, 'student(f"This is a {student.tokenizer.mask_token}.")'),
    ],
)
def test_the_example_is_of_the_kind_that_the_student_reads(record, architecture, data, example):
    record.student["architecture"] = architecture
    record.data |= data
    text = render_model_card(record).text
    assert example in text and "film" not in text


def test_the_title_is_what_was_said_else_the_folder_else_the_first_weights(record):
    def titles() -> set[str]:
        card = render_model_card(record)
        return {re.search(r"(?m)^# (.*)$", card.text)[1], card.data.model_name}

    record.student["name"] = "first-weights"
    assert titles() == {"first-weights"}
    record.student["saved_as"] = "ticket-router"
    assert titles() == {"ticket-router"}
    record.card["model_name"] = "My router"
    assert titles() == {"My router"}


def test_a_student_or_teacher_from_the_hub_is_the_base_model(record):
    record.teacher |= {"name": "org/teacher", "revision": "c0ffee"}
    data = render_model_card(record).data
    assert data.base_model == "org/teacher" and data.base_model_relation == "finetune"
    record.student |= {"name": "org/start", "revision": "beef"}
    assert render_model_card(record).data.base_model == "org/start"
    record.card |= {"base_model": "org/other", "datasets": ["org/data"], "tags": ["mine"], "license": "apache-2.0"}
    data = render_model_card(record).data
    assert data.base_model == "org/other" and data.datasets == ["org/data"] and data.license == "apache-2.0"
    assert data.tags == ["hf_distill", "knowledge-distillation", "mine"]
    assert data.eval_results[0].dataset_type == "org/data"


def test_card_of_a_student_of_labels_alone_names_no_teacher(record):
    record.teacher, record.objective, record.evaluation = None, [{"name": "hard_label", "weight": 1.0}], None
    text = render_model_card(record).text
    assert "fine-tuned on labels alone" in text and "distilled from" not in text and "arXiv" not in text


@pytest.mark.parametrize(
    ("change", "number"),
    [
        ({"trainer": "ProgressiveTrainer"}, "2110.08532"),
        ({"trainer": "PruningDistillTrainer"}, "2302.09632"),
        ({"arguments": {"recipe": "tinybert_task"}}, "1909.10351"),
    ],
)
def test_the_method_s_paper_is_cited(record, change, number):
    for name, value in change.items():
        setattr(record, name, value)
    assert f"eprint = {{{number}}}" in render_model_card(record).text


def test_nothing_private_in_a_record_is_shown(record):
    token = "hf_" + "Ab1" * 11
    record.command = f"python train.py --hub_token {token} --output_dir /home/anna/out"
    record.card = {"model_name": f"tiny {token}", "tags": ["PASSWORD=hunter2"]}
    record.arguments["wandb_key"] = "a b c"
    content = render_model_card(record).content
    assert not [each for each in (token, "hunter2", "anna", "a b c") if each in content] and "[removed]" in content


def test_without_an_evaluation_the_metrics_are_the_results(record):
    record.evaluation = None
    card = render_model_card(record)
    assert "model-index" not in card.data.to_dict() and "## Results" not in card.text
    assert "It was not evaluated in training." in card.text
    record.metrics = dict(eval_accuracy=0.81, eval_runtime=3.0, test_accuracy=0.8, test_teacher_kl=0.25, epoch=2.0)
    card = render_model_card(record)
    assert (
        "## Results\n\nOn reviews:\n\n| | validation | test |\n|---|--:|--:|\n| accuracy | 0.81 | 0.8 |\n"
        "| teacher kl |  | 0.25 |\n\n## How" in card.text
    )
    assert "runtime" not in card.text and "\n\n\n" not in card.text
    (result,) = card.data.eval_results
    assert (result.metric_value, result.dataset_split) == (0.8, "test")


def test_an_evaluation_is_kept_and_shown(record, tmp_path):
    record.evaluation = None
    record.save(tmp_path)
    card = add_evaluation(tmp_path, EVALUATION, "small")
    assert RunRecord.load(tmp_path).evaluation["this"] == 1 and "**small** (this model)" in card.read_text()
    with pytest.raises(ValueError, match=r"the comparison is of \['big', 'small', 'small, labels'\], got 'other'"):
        add_evaluation(tmp_path, EVALUATION, "other")


PIECES = [
    "---", "\n", "\r\n", "...", ": ", "#", "- ", "{", "}", "[", "]", "'", '"', "|", ">", "&", "*", "!", "%", "@", "`",
    "<script>alert(1)</script>", "<img src=x onerror=y>", "![x](http://evil)", "[a](javascript:b)", "**b**", "_c_",
    "{{ 7 * 7 }}", "{% raw %}", "{# x #}", "\x00", "\x07", "\x1b[31m", "\x85", "\u2028", "\u200f", "\u202e", "\ufeff",
    "null", "true", "1e3", "0x1F", "~", "=", "<<", "yes", "!!python/object", "ä", "東京", "🙂", "\\", "\t", "| a | b |",
    "```", "~~~", "$x$", "www.evil", "https://evil", "</details>", "&amp;", "-->", "<!--", "name: x", "word", " ", "7",
]  # fmt: skip


def hostile_strings(number: int) -> list[str]:
    generator = random.Random(0)
    return ["".join(generator.choices(PIECES, k=generator.randint(1, 8))) for _ in range(number)]


def poisoned(record: RunRecord, evil: str) -> RunRecord:
    """With the string in every field that users, data sets or file names fill."""
    record = copy.deepcopy(record)
    for model in (record.student, record.teacher):
        model |= {"name": evil, "labels": [evil, "x"], "initialisation": evil, "architecture": f"{evil}ForMaskedLM"}
        model |= {"lineage": {"from": evil, "teacher": evil, "steps": 1}, "revision": evil}
    record.data |= dict.fromkeys(("name", "description", "data_license", "citation", "train_text", "license"), evil)
    record.data["language"] = evil
    record.card = dict.fromkeys(("language", "license", "model_name", "base_model"), evil)
    record.card |= {"tags": [evil], "datasets": [evil]}
    record.arguments |= {"recipe": evil, evil or "x": evil}
    record.objective.append({"name": evil, "weight": 1.0, "layer_map": evil})
    record.command, record.training["hardware"] = evil, evil
    record.evaluation["data"] |= {"name": evil, "split": evil}
    for row in record.evaluation["rows"]:
        row["name"] = evil
    record.evaluation["conditions"]["hardware"] = evil
    return record


def test_hostile_strings_leave_a_card_that_parses_to_the_same_values(record, tmp_path, monkeypatch):
    monkeypatch.setattr(jinja2, "Template", functools.cache(jinja2.Template))  # compiling it takes most of the time
    expected = headings_outside_code(render_model_card(record).text)
    for evil in hostile_strings(200):
        assert_harmless(record, evil, expected, tmp_path / "README.md")
    assert "49" not in escaped("{{ 7 * 7 }}")


def assert_harmless(record, evil, expected, path):
    render_model_card(poisoned(record, evil)).save(path)
    evil = public(evil.replace("\x85", " "))  # the one character that YAML cannot carry
    card = ModelCard.load(path)
    data = card.data
    assert data.model_name == evil and data.base_model == evil and data.tags[-1] == evil and data.datasets == [evil]
    assert (data.license, data.language) == (evil, evil)
    assert data.eval_results[0].dataset_type == evil and data.eval_results[0].metric_value == 0.85
    assert data.co2_eq_emissions["hardware_used"] == evil
    outside = without_code(card.text)
    assert not re.search(r"<(script|img|!--|/details)", outside) and "](http://evil" not in outside
    assert not re.search(r"(?<!\\)\[a\]\(javascript", outside) and "://evil" not in outside
    assert not any(mark in card.text for mark in "\x00\x07\x1b\x85\u2028\u200f\u202e\ufeff")
    assert headings_outside_code(card.text) == expected


def headings_outside_code(text: str) -> list[str]:
    """Without the title, and without how to use it, which depends on the task."""
    headings = re.findall(r"^#+ .*$", without_code(text), flags=re.MULTILINE)
    return [each for each in headings[1:] if each != "## Use"]


def without_code(text: str) -> str:
    """Without fenced blocks and inline code, in which nothing is markup."""
    text = re.sub(r"^(`{3,})[^`\n]*\n.*?^\1$", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"(?<![`\\])(`+)(?!`)(.+?)(?<!`)\1(?!`)", "", text)


def test_metadata_is_what_the_hub_s_own_class_reads(record):
    record.card |= {"language": ["en", "de"]}
    content = yaml.safe_load(render_model_card(record).data.to_yaml())
    assert ModelCardData(**content, ignore_metadata_errors=False).language == ["en", "de"]


@pytest.mark.parametrize(
    ("given", "as_text", "as_code"),
    [
        ("a_b", "a_b", "`a_b`"),
        ("_a_", r"\_a\_", "`_a_`"),
        ("__a__b__", r"\_\_a\_\_b\_\_", "`__a__b__`"),
        ("1.15.0", "1.15.0", "`1.15.0`"),
        ("1. first", r"1\. first", "`1. first`"),
        ("# a", r"\# a", "`# a`"),
        ("a|b`c", r"a\|b\`c", r"``a\|b`c``"),
        ("a\nb\u202ec", "a bc", "`a bc`"),
        ("", "", ""),
    ],
)
def test_escaping(given, as_text, as_code):
    assert escaped(given) == as_text and code(given) == as_code


def test_blocks_of_code_keep_their_indentation():
    assert code_block("a {\n  b\n}", "x") == "```x\na {\n  b\n}\n```"
    assert code_block("```") == "````\n```\n````" and plain("a\tb") == "a b"

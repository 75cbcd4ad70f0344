"""A card says what its record says, in valid metadata and readable text, whatever is written in the record."""

from __future__ import annotations

import copy
import json
import re
import sys

import pytest
import yaml
from huggingface_hub import ModelCard, ModelCardData
from huggingface_hub.repocard_data import model_index_to_eval_results

from hf_distill.publishing.model_card import add_evaluation, render_model_card, write_model_card
from hf_distill.publishing.run_record import RunRecord
from hf_distill.text.hub_ids import is_hub_id
from hf_distill.text.markdown import code, code_block, escaped
from hf_distill.text.plain import plain
from hf_distill.text.privacy import public
from tests.publishing.poison import hostile_strings, live_parts

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
        student=MODEL | dict(name="small", parameters=4_000_000, initialization="embeddings"),
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
    assert "model-index" not in data  # which asks for the data set's id on the Hub
    record.card["datasets"] = ["org/reviews", "a folder"]
    data = render_model_card(record).data.to_dict()
    assert data["datasets"] == ["org/reviews"]
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
        "```bash\npip install 'hf_distill[all]'\npython train.py --a 'b c'\n```", "Commit `012345678901`, with local changes", "Rated by people.",
        "License of the data: cc0.", "Somebody 2014, A title.", "eprint = {1503.02531}", "![quality",
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


def test_card_of_an_encoder_pretrained_without_a_teacher(record):
    """It learned no labels, and its masked words are counted by the perplexity that the script prints."""
    record.teacher, record.objective, record.evaluation = None, [{"name": "hard_label", "weight": 1.0}], None
    record.student |= {"architecture": "BertForMaskedLM"}
    record.metrics = {"eval_loss": 2.0, "eval_runtime": 1.0}
    card = render_model_card(record)
    for said in (
        "pre-trained on texts alone, without a teacher",
        "The tokens of the texts themselves.",
        "It learned from the texts",
    ):
        assert said in card.text
    assert re.search(r"\| perplexity \| 7.389 \|", card.text) and "label" not in card.text.lower().replace(
        "hard label", ""
    )
    assert card.data.tags[:2] == ["hf_distill", "pre-training"]
    record.metrics = {"eval_loss": None, "eval_hard_label_loss": None}  # as a diverged training has it
    assert "perplexity" not in render_model_card(record).text
    record.metrics = {"eval_loss": 2.0}
    record.student |= {"has_trained_head": False}
    assert "perplexity" not in render_model_card(record).text


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
        "## Results\n\nOn reviews:\n\n|  | validation | test |\n| --- | --: | --: |\n| accuracy | 0.81 | 0.8 |\n"
        "| teacher kl |  | 0.25 |\n\n## How" in card.text
    )
    assert "runtime" not in card.text and "\n\n\n" not in card.text
    assert card.data.metrics == ["accuracy"] and card.data.eval_results is None
    record.card["datasets"] = "org/reviews"
    (result,) = render_model_card(record).data.eval_results
    assert (result.metric_value, result.dataset_split) == (0.8, "test")


def test_what_a_mean_over_all_examples_hides_is_told(record):
    record.evaluation = copy.deepcopy(EVALUATION) | {"this": 1}
    assert "Macro F1, the mean over classes: 84.0 %, the teacher's 89.0 %." in str(render_model_card(record))
    own = record.evaluation["rows"][1]["metrics"]
    own |= {"HasAns_f1": 61.25, "NoAns_f1": 90.0}
    del own["f1_macro"]
    text = str(render_model_card(record))
    assert "F1 of questions with an answer: 61.2 %; of those without one: 90.0 %." in text and "Macro" not in text
    record.evaluation["rows"][0]["metrics"] |= {"HasAns_f1": 71.0, "NoAns_f1": 80.0}
    own |= {"HasAns_total": 1100, "NoAns_total": 50}
    text = str(render_model_card(record))
    assert (
        "F1 of the 1,100 questions with an answer: 61.2 %, the teacher's 71.0 %; of the 50 without one: 90.0 %, the"
        in text
    )


def test_the_perplexity_of_a_distilled_language_model_is_that_of_its_tokens(record):
    record.student |= {"architecture": "BertForMaskedLM"}
    record.metrics, record.evaluation = {"eval_loss": 2.0}, None
    text = render_model_card(record).text
    assert record.is_distilled and "| loss | 2 |" in text and "perplexity" not in text
    record.metrics |= {"eval_hard_label_loss": 1.0}
    assert re.search(r"\| perplexity \| 2.718 \|", render_model_card(record).text)


def test_a_comparison_with_another_teacher_says_so(record):
    record.evaluation = copy.deepcopy(EVALUATION) | {"this": 1}
    record.teacher |= {"name": "large", "weights_sha256": "a" * 64}
    record.evaluation["rows"][0]["weights_sha256"] = "a" * 64
    assert "learned from." not in str(render_model_card(record))
    record.evaluation["rows"][0]["weights_sha256"] = "b" * 64
    assert "**big** is not the teacher that it learned from." in str(render_model_card(record))
    record.teacher["name"] = "big"  # with fewer tokens, for example
    assert "learned from." not in str(render_model_card(record))


def test_an_evaluation_is_kept_and_shown(record, tmp_path):
    record.evaluation = None
    record.save(tmp_path)
    card = add_evaluation(tmp_path, EVALUATION, "small")
    assert RunRecord.load(tmp_path).evaluation["this"] == 1 and "**small** (this model)" in card.read_text()
    with pytest.raises(ValueError, match=r"the comparison is of \['big', 'small', 'small, labels'\], got 'other'"):
        add_evaluation(tmp_path, EVALUATION, "other")


def poisoned(record: RunRecord, evil: str) -> RunRecord:
    """With the string in every field that users, data sets or file names fill."""
    record = copy.deepcopy(record)
    for model in (record.student, record.teacher):
        model |= {"name": evil, "labels": [evil, "x"], "initialization": evil, "architecture": f"{evil}ForMaskedLM"}
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
    record.evaluation["conditions"] |= {"hardware": evil, "busy": evil}
    return record


def test_hostile_strings_leave_a_card_that_parses_to_the_same_values(record, tmp_path):
    expected = headings_outside_code(render_model_card(record).text)
    for evil in hostile_strings(200):
        assert_harmless(record, evil, expected, tmp_path / "README.md")
    assert "49" not in escaped("{{ 7 * 7 }}")


def test_hostile_prompts_are_shown_as_code(record):
    for evil in hostile_strings(50):
        record.student |= {"pooling": "mean", "prompts": {evil: evil, "query": "query: "}, "default_prompt": evil}
        card = render_model_card(record)
        assert not live_parts(card.content) and '`"query: "` (query)' in card.text


def assert_harmless(record, evil, expected, path):
    render_model_card(poisoned(record, evil)).save(path)
    evil = public(evil.replace("\x85", " "))  # the one character that YAML cannot carry
    card = ModelCard.load(path)
    data = card.data
    assert data.model_name == evil and data.tags[-1] == evil and (data.license, data.language) == (evil, evil)
    for told, shown in (([evil], data.datasets), (evil, data.base_model)):
        assert shown == (told if is_hub_id(evil) else None)
    assert is_hub_id(evil) == bool(data.eval_results)
    assert data.co2_eq_emissions["hardware_used"] == evil
    assert not live_parts(card.content)
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


def test_no_heading_is_empty_and_no_two_lists_run_together(record):
    text = render_model_card(record).text
    assert "### Reproduce\n\n```bash\npip install" in text
    assert text.index("## How it was trained") < text.index("## Speed") and "teacher's median ms" in text
    assert re.search(r"temperature 2.0\)\n\nWhat went into it:\n\n- First weights", text)
    record.command = record.git = None
    assert "Reproduce" not in render_model_card(record).text


def test_housekeeping_is_no_setting_and_batch_optimizer_and_schedule_always_are(record):
    record.arguments = {
        "logging_steps": 5,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "soft_label_weight": 1.0,
    }
    settings = render_model_card(record).text.partition("### Settings")[2].partition("Versions")[0]
    assert not re.search("logging|save|report|tqdm", settings)
    for said in (
        "`learning_rate` | `5e-05`", "`per_device_train_batch_size` | `8`", "step | 8 |", "`lr_scheduler_type` | `linear`",
        "| optimizer | adamw_torch_fused (betas 0.9 and 0.999, epsilon 1e-08)", "`soft_label_weight` | `1.0`",
    ):  # fmt: skip
        assert said in settings, said


def test_one_of_a_thing_is_one(record):
    record.student["num_hidden_layers"] = 1
    record.training |= {"steps": 1, "seconds": 1.2}
    record.data["train_examples"] = 1
    text = render_model_card(record).text
    assert "1 optimizer step (1.50 epochs) in 1 second on" in text and "reviews, 1 example." in text
    assert "(1 layer, hidden size 128)" in text and "6 layers" in text


def test_a_student_that_began_at_random_derives_from_nothing(record):
    record.teacher |= {"name": "org/teacher", "revision": "c0ffee"}
    record.student["initialization"] = "random"
    data = render_model_card(record).data.to_dict()
    assert "base_model" not in data and "base_model_relation" not in data
    record.card["base_model"] = "org/told"
    data = render_model_card(record).data.to_dict()
    assert data["base_model"] == "org/told" and "base_model_relation" not in data


def test_without_matplotlib_a_card_has_no_plots(record, tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    record.progress = [{"step": 1, "loss": 0.5, "hidden_size": 16, "step_ms": 1.0}]
    record.save(tmp_path)
    text = write_model_card(tmp_path).read_text(encoding="utf-8")
    assert ".png" not in text and "to a hidden size of 16." in text and not list(tmp_path.glob("*.png"))
    assert 'no plots: a model card with plots needs matplotlib; install it with: pip install "hf_distill[publish]"' in (
        caplog.text
    )


def test_the_training_data_are_named_linked_and_sized(record, tmp_path):
    record.card["datasets"] = ["org/reviews"]
    link = "[org/reviews](https://huggingface.co/datasets/org/reviews)"
    assert f"- Training data: {link}, 1,234 examples." in render_model_card(record).text
    record.card |= {"datasets": "../reviews", "base_model": str(tmp_path)}
    record.save(tmp_path)
    card = ModelCard.load(write_model_card(tmp_path))
    assert "base_model" not in card.data.to_dict()
    assert "- Training data: reviews, 1,234 examples." in card.text and "datasets" not in card.data.to_dict()


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"card": {"pipeline_tag": 'x")\n```\n'}}, r"\$\.card\.pipeline_tag"),
        ({"card": {"tags": [{"a": 1}]}}, r"\$\.card\.tags"),
        ({"card": {"license": ["mit"]}}, r"\$\.card\.license"),
        ({"card": {"datasets": 7}}, r"\$\.card\.datasets"),
        ({"arguments": {"learning_rate": "<img>"}}, r"\$\.arguments\.learning_rate"),
        ({"evaluation": EVALUATION | {"this": 3}}, "must be below the number of rows, 3, got 3"),
        ({"evaluation": EVALUATION | {"metric": "f1"}}, "evaluation.metric is 'f1', which the row of 'big' lacks"),
    ],
)
def test_a_record_of_wrong_types_is_refused(record, change, place, tmp_path):
    path = record.save(tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match=place):
        write_model_card(tmp_path)


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


@pytest.mark.parametrize(
    ("initialization", "stages", "text"),
    [
        ("pretrained", 1, "those of small, which learned from large in 60 steps."),
        ("random", 2, "random, before the first stage."),
        ("random", 0, "random."),
    ],
)
def test_first_weights_that_were_trained_before_are_traced_to_their_training(record, initialization, stages, text):
    lineage = {"from": "random weights", "teacher": "large", "trainer": "DistillationTrainer", "steps": 60}
    record.student |= {"initialization": initialization, "lineage": lineage}
    stage = {"name": "one", "objective": record.objective, "arguments": {}, "data": {}, "training": record.training}
    record.stages = [stage] * stages
    assert f"- First weights: {text}" in str(render_model_card(record))
    record.student["lineage"] = None
    assert "which learned" not in str(render_model_card(record))


@pytest.mark.parametrize(
    ("low", "high", "how"), [(0.01, 0.09, "better"), (-0.09, -0.01, "worse"), (-1, 1, "not clearly better")]
)
def test_the_card_says_whether_distillation_was_worth_it(record, low, high, how):
    record.evaluation["rows"][1]["against_labels_alone"] = {"difference": 0.05, "low": low, "high": high}
    card = str(render_model_card(record))
    assert f"It is {how} than the same student trained on the labels alone (+5.0 points, 95 % interval" in card
    assert "2.1 % (0 is best), the teacher's 5.0 %." in card


def test_the_command_of_several_processes_says_so_and_a_share_of_steps_is_one(record):
    assert "accelerate launch" not in str(render_model_card(record))
    record.training["processes"] = 2
    record.arguments["warmup_steps"] = 0.1
    card = str(render_model_card(record))
    assert "`torchrun --nproc_per_node 2 --no-python`" in card and "`0.1` (10 % of all steps)" in card

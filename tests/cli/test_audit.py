"""`hf-distill label --prompt`, `hf-distill train` from its folder, and `hf-distill audit` of every kind of teacher."""

from __future__ import annotations

import csv
import json
import re

import pytest
from transformers import AutoModelForSequenceClassification, BertForTokenClassification

from hf_distill import load_teacher_outputs
from hf_distill.precomputed.provenance import provenances
from tests.cli.commands import invoke, invoke_json
from tests.teachers.test_prompted import model_of
from tests.tiny_models import tiny_bert
from tests.tiny_tokenizers import random_texts, tiny_tokenizer

pytest.importorskip("sklearn")

LABELS = ["positive", "negative"]
NAMES = {"id2label": dict(enumerate(LABELS)), "label2id": {"positive": 0, "negative": 1}}
PROMPT = ["--prompt", r"Review: {text}\nSentiment:", "--prompt", "{text} It was"]
WORDS = ["--label", "positive= good", "--label", "negative= bad film"]
QUICK = ["--max_steps", "2", "--use_cpu", "true", "--report_to", "none", "--disable_tqdm", "true"]
ROWS = 40


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """A language model, an encoder with other tokens, and labeled texts; and the outputs of the model for them."""
    folder = tmp_path_factory.mktemp("given")
    model_of("llama").save_pretrained(folder / "lm")
    tiny_tokenizer("BPE of bytes").save_pretrained(folder / "lm")
    tiny_bert(32, 2, vocab_size=800, **NAMES).save_pretrained(folder / "bert")
    tiny_tokenizer("WordPiece").save_pretrained(folder / "bert")
    texts = random_texts(ROWS, seed=3, words=12)
    with open(folder / "texts.csv", "w", newline="") as file:
        csv.writer(file).writerows(
            [("title", "text", "label"), *((f"title {row}", text, LABELS[row % 2]) for row, text in enumerate(texts))]
        )
    with open(folder / "gold.csv", "w", newline="") as file:
        rows = [(text.upper(), LABELS[row % 2]) for row, text in enumerate(texts)][::-2]  # equal but for case
        csv.writer(file).writerows([("text", "label"), *rows, ("a text without outputs", "positive")])
    command = ["label", folder / "texts.csv", "--teacher", folder / "lm", *PROMPT, *WORDS, "--calibrate"]
    invoke(*command, "--output-dir", folder / "labeled", "--rows-per-shard", 16)
    return folder


def test_a_prompted_model_labels_texts(given):
    labeled = load_teacher_outputs(given / "labeled")
    assert labeled["label"][:2] == LABELS and len(labeled["template_logits"][0]) == 2
    (provenance,) = provenances(labeled).values()
    assert provenance.teacher["templates"][0] == "Review: {text}\nSentiment:" and provenance.labels == LABELS
    assert provenance.teacher["content_free"] == ["N/A", "[MASK]", ""] and provenance.text_columns == ["text"]


def test_a_student_with_other_tokens_learns_from_them(given, tmp_path):
    """From the texts that the teacher read, not the title; also after rows were left out."""
    command = ["train", "--base-model", given / "bert", "--student", "1/32", *QUICK]
    found = invoke_json(*command, "--teacher-outputs", given / "labeled", "--output-dir", tmp_path / "student")
    assert found["teacher"]["name"] == "lm" and found["teacher"]["label_score"] == "sum"
    assert found["student"]["labels"] == LABELS and "eval_teacher_agreement" in found["metrics"]
    assert found["data"]["train_examples"] == ROWS - 4
    card = (tmp_path / "student" / "README.md").read_text()
    assert "prompted by `Review: {text} Sentiment:`, `{text} It was`" in card
    assert "First weights: layers and embeddings of the base model" in card
    student = AutoModelForSequenceClassification.from_pretrained(tmp_path / "student")
    assert student.config.vocab_size == 800 and student.config.id2label == NAMES["id2label"]
    kept = tmp_path / "kept"
    audit = invoke_json("audit", "--teacher-outputs", given / "labeled", "--max-entropy", 0.95, "--filtered-dir", kept)
    assert audit["filtered"]["before"] == ROWS and audit["filtered"]["rows"] == len(load_teacher_outputs(kept)) < ROWS
    assert load_teacher_outputs(kept).column_names == load_teacher_outputs(given / "labeled").column_names
    again = invoke_json(*command, "--teacher-outputs", kept, "--output-dir", tmp_path / "other")
    assert again["teacher"] == found["teacher"]


def test_an_audit_is_the_same_of_recorded_outputs_and_of_the_model(given, tmp_path):
    recorded = invoke_json("audit", "--teacher-outputs", given / "labeled", "--output-dir", tmp_path)
    live = invoke_json(
        "audit", given / "lm", *PROMPT, *WORDS, "--calibrate", "--dataset", given / "texts.csv", "--text-column", "text"
    )
    assert recorded["examples"] == ROWS and recorded["confusion"] == live["confusion"]
    assert recorded["metrics"]["accuracy"] == live["metrics"]["accuracy"]
    assert json.loads((tmp_path / "audit.json").read_text()) == recorded
    with open(tmp_path / "disagreements.csv", newline="") as file:
        listed = list(csv.DictReader(file))
    assert len(listed) == round(ROWS * (1 - recorded["metrics"]["accuracy"])) and "title" not in listed[0]["text"]


def test_labeled_texts_are_found_among_recorded_outputs(given):
    found = invoke_json("audit", "--teacher-outputs", given / "labeled", "--dataset", given / "gold.csv")
    assert found["examples"] == ROWS // 2
    labeled = load_teacher_outputs(given / "labeled")
    odd = [row for row in range(ROWS) if row % 2]
    right = [labeled["teacher_logits"][row][1] > labeled["teacher_logits"][row][0] for row in odd]
    assert found["metrics"]["accuracy"] == pytest.approx(sum(right) / len(right))


def test_audits_of_a_classifier_and_of_outputs_from_elsewhere(given, tmp_path):
    found = invoke_json("audit", given / "bert", "--dataset", given / "gold.csv")
    assert found["examples"] == ROWS // 2 + 1 and found["labels"] == LABELS
    lines = [
        {"text": f"w{row} is", "label": LABELS[row % 2], "teacher_label": "positive", "teacher_confidence": 0.8}
        for row in range(20)
    ]
    (tmp_path / "answers.jsonl").write_text("\n".join(map(json.dumps, lines)))
    said = invoke("audit", "--teacher-outputs", tmp_path / "answers.jsonl").output
    assert "accuracy 50.0 % (95 % interval 29.9 to 70.1) on 20 labeled rows" in said
    assert "Confused: negative taken for positive in 10 rows" in said


def test_the_column_of_labels_is_found_and_labels_alone_learn_from_the_training_split(given, tmp_path):
    rows = list(csv.reader((given / "gold.csv").read_text().splitlines()))[1:]
    for split, chosen in (("train", rows[:12]), ("test", rows[12:])):
        with open(tmp_path / f"{split}.csv", "w", newline="") as file:
            csv.writer(file).writerows([("id", "text", "team"), *(("7", *row) for row in chosen)])
    found = invoke_json("audit", given / "bert", "--dataset", tmp_path)
    assert found["examples"] == ROWS // 2 + 1 - 12
    assert "on the 12 labeled rows of train and the 9 of these rows" in found["labels_alone"]["method"]
    for split in ("train", "test"):
        path = tmp_path / f"{split}.csv"
        path.write_text(path.read_text().replace("positive", "good").replace("negative", "bad"))
    said = invoke("audit", given / "bert", "--dataset", tmp_path, exit_code=1).output.replace("\n", " ")
    assert "none of the columns ['id', 'text', 'team'] is called label or has the teacher's classes" in said


def test_a_tagger_of_words_is_refused(given, tmp_path):
    kind = BertForTokenClassification(tiny_bert(32, 1, vocab_size=800, **NAMES).config)
    kind.save_pretrained(tmp_path / "tagger")
    tiny_tokenizer("WordPiece").save_pretrained(tmp_path / "tagger")
    rows = [{"tokens": ["a", "film"], "ner_tags": ["positive", "negative"]}] * 4
    (tmp_path / "words.jsonl").write_text("\n".join(map(json.dumps, rows)))
    words = ["--dataset", tmp_path / "words.jsonl"]
    for teacher, message in (
        (
            tmp_path / "tagger",
            "is a BertForTokenClassification. Taggers of words and other models are compared .* evaluate",
        ),
        (
            given / "bert",
            r"an audit reads a column of texts \(--text-column\), not of words or images, got \['tokens', 'ner_tags'",
        ),
    ):
        said = " ".join(invoke("audit", teacher, *words, exit_code=1).output.replace("│", " ").split())
        assert re.search(message, said), said


@pytest.mark.parametrize(
    ("arguments", "exit_code", "message"),
    [
        (["label", "TEXTS", "--teacher", "LM", "--output-dir", "x", *WORDS], 2, "--label is for --prompt"),
        (["label", "TEXTS", "--teacher", "LM", "--output-dir", "x", *PROMPT, "--label", "good"], 2, "takes name=words.*got 'good'"),
        (["label", "TEXTS", "--teacher", "LM", "--output-dir", "x", *PROMPT, *WORDS, *WORDS], 2, "once per label"),
        (["label", "TEXTS", "--teacher", "LM", "--output-dir", "x", "--prompt", "Sentiment:", *WORDS], 1, r"needs the field \{text\}"),
        (["label", "TEXTS", "--teacher", "LM", "--output-dir", "x", *PROMPT, *WORDS, "--label-score", "max"], 1, r"one of \['sum', 'mean'\]"),
        (["label", "TEXTS", "--teacher", "LM", "--output-dir", "x", *PROMPT, *WORDS, "--text-columns", "body"], 2, r"no columns \['body'\]"),
        (["train", "--teacher-outputs", "LABELED", "--base-model", "BERT", "--student", "1/32", "--output-dir", "x", "--labels", "a"], 1, "says what its outputs are"),
        (["audit"], 1, "pass either TEACHER.*got neither"),
        (["audit", "LM", "--teacher-outputs", "LABELED"], 1, "got both"),
        (["audit", "BERT"], 1, "needs --dataset"),
        (["audit", "BERT", "--dataset", "GOLD", "--max-entropy", "0.5"], 2, "go with --filtered-dir"),
        (["audit", "--teacher-outputs", "LABELED", "--filtered-dir", "x"], 2, "go with --filtered-dir"),
        (["audit", "BERT", "--dataset", "GOLD", "--labels", "a"], 2, "are for --teacher-outputs"),
        (["audit", "--teacher-outputs", "LABELED", *PROMPT], 2, "got --teacher-outputs too"),
        (["audit", "--teacher-outputs", "LABELED", "--measure", "margin"], 1, "measure must be"),
    ],
)  # fmt: skip
def test_wrong_usage(arguments, exit_code, message, given, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    places = {"TEXTS": "texts.csv", "GOLD": "gold.csv", "LM": "lm", "BERT": "bert", "LABELED": "labeled"}
    given_to = [str(given / places[each]) if each in places else each for each in arguments]
    output = " ".join(invoke(*given_to, exit_code=exit_code).output.replace("│", " ").split())
    assert re.search(message, output), output

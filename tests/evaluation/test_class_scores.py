"""The F1 of each class and of each type of entity, in comparisons, tables and cards."""

from __future__ import annotations

import copy
import csv

import datasets
import jsonschema
import numpy as np
import pytest
from sklearn.metrics import f1_score
from transformers import BertForTokenClassification

from hf_distill.evaluation.class_scores import class_scores, class_table, rows_of_classes
from hf_distill.evaluation.comparison import OTHER, TEACHER, EvaluatedModel, compare
from hf_distill.evaluation.token_classification import type_scores
from hf_distill.publishing.model_card import render_model_card
from hf_distill.publishing.run_record import RunRecord, schema
from tests.cli.commands import invoke
from tests.evaluation.test_comparison import logits_one_by_one, named, sizes, texts
from tests.publishing.test_run_record import MODEL
from tests.publishing.test_run_record import record as run_record
from tests.tiny_models import tiny_bert, tiny_tokenizer

WEATHER = ("fog", "rain", "snow", "sun")
TEACHERS_AND_OWN = [
    {"name": "big", "role": "teacher", "parameters": 4, "metrics": {"accuracy": 0.9},
     "by_class": [{"name": "fog", "examples": 1200, "f1": 0.95}, {"name": "*rain*", "examples": 3, "f1": 0.5}]},
    {"name": "small", "role": "distilled", "parameters": 1, "metrics": {"accuracy": 0.8},
     "by_class": [{"name": "fog", "examples": 1200, "f1": 0.9}, {"name": "*rain*", "examples": 3, "f1": 0.0}]},
]  # fmt: skip
EVALUATION = {
    "task": "sequence_classification", "data": {"name": "weather", "split": "test", "examples": 1203, "fingerprint": "ab"},
    "metric": "accuracy", "rows": TEACHERS_AND_OWN,
}  # fmt: skip


def test_each_class_with_examples_has_the_f1_of_scikit_learn():
    generator = np.random.default_rng(0)
    labels, predictions = generator.integers(0, 3, 50), generator.integers(0, 4, 50)  # no sun, though it is predicted
    found = class_scores(labels, predictions, WEATHER)
    assert [each["name"] for each in found] == ["fog", "rain", "snow"]
    for index, each in enumerate(found):
        assert each["f1"] == pytest.approx(f1_score(labels == index, predictions == index))
        assert each["examples"] == (labels == index).sum()


def test_two_classes_and_very_many_have_no_scores_of_their_own():
    labels = np.array([0, 1, 1])
    assert class_scores(labels, labels, ("no", "yes")) == []
    assert class_scores(labels, labels, [str(index) for index in range(101)]) == []


def test_types_of_entities():
    gold = [["B-PER", "I-PER", "O", "B-ORG"], ["B-ORG", "O"]]
    predicted = [["B-PER", "O", "O", "B-ORG"], ["B-ORG", "B-LOC"]]  # half a person, and a place that is none
    assert type_scores(predicted, gold) == [
        {"name": "ORG", "examples": 2, "f1": 1.0}, {"name": "PER", "examples": 1, "f1": 0.0},
    ]  # fmt: skip


def test_a_comparison_of_classifiers_has_them_in_the_teacher_s_names():
    teacher = tiny_bert(32, 2, seed=1, num_labels=3, **named("fog", "rain", "snow"))
    turned = tiny_bert(16, 1, num_labels=3, **named("Snow", "Rain", "Fog"))
    rows = texts().remove_columns("label")
    answers = logits_one_by_one(teacher, rows).argmax(-1)
    rows = rows.add_column("label", [("fog", "rain", "snow")[index] for index in answers])
    models = [EvaluatedModel(*each, tiny_tokenizer()) for each in (("a", TEACHER, teacher), ("b", OTHER, turned))]
    found = compare(models, rows, "weather", "test", latency=None)
    jsonschema.validate(found, schema()["$defs"]["evaluation"] | {"$defs": schema()["$defs"]})
    assert {each["f1"] for each in found["rows"][0]["by_class"]} == {1.0}
    predicted = 2 - logits_one_by_one(turned, rows).argmax(-1)
    for each in found["rows"][1]["by_class"]:
        index = ("fog", "rain", "snow").index(each["name"])
        assert each["f1"] == pytest.approx(f1_score(answers == index, predicted == index, zero_division=0))


@pytest.mark.parametrize(
    ("names", "headings", "kinds"),
    [
        (("O", "B-PER", "I-PER", "B-ORG", "I-ORG"), ["type", "entities"], ["ORG", "PER"]),
        (("NOUN", "VERB", "X", "DET", "ADJ"), ["class", "words"], ["NOUN", "VERB", "X", "DET", "ADJ"]),
    ],
)
def test_taggers_have_types_of_entities_or_classes_of_words(names, headings, kinds):
    features = datasets.Features(
        tokens=datasets.List(datasets.Value("string")), tags=datasets.List(datasets.ClassLabel(names=list(names)))
    )
    words = {"tokens": [["w5", "w6", "w7", "w8", "w9"]] * 4, "tags": [[1, 2, 0, 3, 4]] * 4}
    model = EvaluatedModel("a", OTHER, BertForTokenClassification(sizes(**named(*names))), tiny_tokenizer())
    found = compare([model], datasets.Dataset.from_dict(words, features=features), "words", "test", latency=None)
    cells = rows_of_classes(found, found["rows"])
    assert cells[0] == [*headings, "a"]
    assert [row[:2] for row in cells[1:]] == [[kind, "4"] for kind in kinds]


def test_a_card_has_the_student_s_beside_the_teacher_s():
    text = str(render_model_card(RunRecord(**run_record_with(EVALUATION))))
    assert "| class | examples | teacher's F1 % | F1 % |" in text
    assert "| fog | 1,200 | 95.0 | 90.0 |" in text and "| \\*rain\\* | 3 | 50.0 | 0.0 |" in text


def test_a_card_without_them_or_with_very_many_has_no_such_table():
    without = copy.deepcopy(EVALUATION)
    del without["rows"][1]["by_class"]
    many = copy.deepcopy(EVALUATION)
    for row in many["rows"]:
        row["by_class"] = [{"name": str(index), "examples": 1, "f1": 1.0} for index in range(51)]
    for evaluation in (without, many):
        assert "F1 %" not in str(render_model_card(RunRecord(**run_record_with(evaluation))))


def run_record_with(evaluation: dict) -> dict:
    return vars(run_record(teacher=MODEL)) | {"evaluation": evaluation | {"this": 1}}


def test_the_command_prints_them_on_request(tmp_path):
    tiny_bert(16, 1, num_labels=4, **named(*WEATHER)).save_pretrained(tmp_path / "small")
    tiny_bert(16, 1).save_pretrained(tmp_path / "binary")
    for name, classes in (("small", WEATHER), ("binary", ("LABEL_0", "LABEL_1"))):
        tiny_tokenizer().save_pretrained(tmp_path / name)
        with open(tmp_path / f"{name}.csv", "w", newline="") as file:
            csv.writer(file).writerows(
                [["text", "label"], *([f"w{n + 5} w7", classes[n % len(classes)]] for n in range(8))]
            )
    options = ["--no-latency", "--by-class"]
    lines = invoke("evaluate", tmp_path / "small", "--dataset", tmp_path / "small.csv", *options).output
    assert "F1 % of each class" in lines and all(name in lines for name in WEATHER)
    lines = invoke("evaluate", tmp_path / "binary", "--dataset", tmp_path / "binary.csv", *options).output
    assert "classifiers with 3 to 100 classes" in " ".join(lines.split())


def test_without_scores_there_is_no_table():
    evaluation = copy.deepcopy(EVALUATION)
    for row in evaluation["rows"]:
        del row["by_class"]
    assert class_table(evaluation) is None and class_table(EVALUATION) is not None

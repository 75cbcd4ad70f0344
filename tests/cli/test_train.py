"""`hf-distill train` distils whatever the teacher's head is for, in one command."""

from __future__ import annotations

import json

import datasets
import numpy as np
import pytest
from transformers import (
    AutoModelForImageClassification,
    BertForQuestionAnswering,
    BertForTokenClassification,
    ViTConfig,
    ViTForImageClassification,
)

from tests.cli.commands import invoke, invoke_json
from tests.evaluation.test_comparison import sizes
from tests.tiny_models import tiny_bert, tiny_tokenizer

QUICK = ["--max_steps", "2", "--use_cpu", "--report_to", "none", "--disable_tqdm", "true", "--bf16", "false"]


def trained(folder, teacher, dataset, student, *more, processor=None):
    teacher.save_pretrained(folder / "teacher")
    (processor or tiny_tokenizer()).save_pretrained(folder / "teacher")
    places = ["--student", student, "--dataset", dataset, "--output-dir", folder / "student"]
    return invoke_json("train", folder / "teacher", *places, *QUICK, *more)


def test_images(tmp_path):
    names = {"id2label": {n: str(n) for n in range(10)}, "label2id": {str(n): n for n in range(10)}}
    size = dict(image_size=8, patch_size=4, num_channels=1, hidden_size=64, num_hidden_layers=2, num_attention_heads=2)
    teacher = ViTForImageClassification(ViTConfig(**size, intermediate_size=32, **names))
    found = trained(tmp_path, teacher, "digits", "1/64", "--recipe", "vanilla_kd", "--learning_rate", "0.002")
    assert found["arguments"]["recipe"] == "vanilla_kd" and found["arguments"]["learning_rate"] == 0.002
    assert found["data"]["name"] == "digits" and found["data"]["train_examples"] == 1197
    assert found["evaluation"]["rows"][1]["role"] == "distilled" and found["student"]["initialisation"] == "truncated"
    assert AutoModelForImageClassification.from_pretrained(tmp_path / "student").config.num_hidden_layers == 1


def saved(folder, rows: list[dict], features=None) -> str:
    """A folder as datasets saves it."""
    data = datasets.Dataset.from_list(rows, features=features)
    splits = datasets.DatasetDict(train=data, validation=data.select(range(4)))
    splits.save_to_disk(folder / "data")
    return str(folder / "data")


def test_words(tmp_path):
    names = ["O", "B-PER", "I-PER"]
    rows = [{"tokens": ["w5", "w6", "w7"], "ner_tags": [number % 3, 1, 2]} for number in range(8)]
    features = datasets.Features(
        tokens=datasets.List(datasets.Value("string")), ner_tags=datasets.List(datasets.ClassLabel(names=names))
    )
    labels = {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}
    teacher = BertForTokenClassification(sizes(**labels))
    found = trained(tmp_path, teacher, saved(tmp_path, rows, features), "1/16", "--hard_label_weight", "1")
    assert found["evaluation"]["metric"] == "f1" and len(found["objective"]) == 2


def test_questions(tmp_path):
    context = " ".join(f"w{number}" for number in range(10, 40))
    answer = {"text": ["w12 w13"], "answer_start": [context.index("w12")]}
    rows = [{"id": str(n), "question": "w4 w5", "context": context, "answers": answer} for n in range(8)]
    found = trained(tmp_path, BertForQuestionAnswering(sizes()), saved(tmp_path, rows), "1/16")
    assert found["evaluation"]["task"] == "question_answering" and found["metrics"]["eval_loss"] > 0


def test_texts_without_labels_are_learned_from_but_not_compared(tmp_path):
    (tmp_path / "texts.txt").write_text("\n".join(f"w{row % 90 + 4} w{row % 7 + 4}" for row in range(20)))
    found = trained(tmp_path, tiny_bert(16, 2), tmp_path / "texts.txt", "1/16")
    assert found["evaluation"] is None and found["data"]["name"] == "texts"
    assert "It was not evaluated" in (tmp_path / "student" / "README.md").read_text()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--student", "giant"], "giant"),
        (["--student", "1/16", "--initialisation", "magic"], "magic"),
        (["--student", "1/16", "--temperature", "-1"], "temperature"),
        (["--student", "1/16", "--text-column", "other"], "other"),
        (
            ["--student", "1/16", "--label-column", "lable"],
            "no column 'lable' for labels, they have {'texts': ['text']}",
        ),
        (["--student", "1/16", "--dataset", "text.txt"], "there is no file or folder 'text.txt'"),
    ],
)
def test_mistakes_are_told_before_training(more, message, tmp_path):
    tiny_bert(16, 2).save_pretrained(tmp_path / "teacher")
    tiny_tokenizer().save_pretrained(tmp_path / "teacher")
    (tmp_path / "texts.txt").write_text("w5 w6\nw7 w8")
    places = ["--dataset", tmp_path / "texts.txt", "--output-dir", tmp_path / "student"]
    result = invoke("train", tmp_path / "teacher", *places, *more, *QUICK, exit_code=1)
    assert "Error:" in result.output and message in result.output
    assert not (tmp_path / "student" / "model.safetensors").exists()


def test_unknown_training_arguments_are_refused(tmp_path):
    tiny_bert(16, 2).save_pretrained(tmp_path / "teacher")
    tiny_tokenizer().save_pretrained(tmp_path / "teacher")
    (tmp_path / "texts.txt").write_text("w5 w6\nw7 w8")
    places = ["--student", "1/16", "--dataset", tmp_path / "texts.txt", "--output-dir", tmp_path / "student"]
    assert "--max_stepz" in invoke("train", tmp_path / "teacher", *places, "--max_stepz", "3", exit_code=1).output


def test_checkpoints_of_another_student_are_refused(tmp_path):
    tiny_bert(16, 2).save_pretrained(tmp_path / "teacher")
    tiny_tokenizer().save_pretrained(tmp_path / "teacher")
    (tmp_path / "texts.txt").write_text("\n".join(f"w{row + 4} w9" for row in range(8)))
    places = ["--dataset", tmp_path / "texts.txt", "--output-dir", tmp_path / "student", *QUICK]
    invoke("train", tmp_path / "teacher", "--student", "1/16", *places, "--save_steps", "1")
    output = invoke("train", tmp_path / "teacher", "--student", "2/16", *places, exit_code=1).output
    assert "holds checkpoints of a student of 1/16, asked for is one of 2/16" in output.replace("\n", " ")
    afresh = ["--resume_from_checkpoint", "false"]
    invoke("train", tmp_path / "teacher", "--student", "2/16", *places, *afresh)


def test_the_saved_record_is_what_is_printed(tmp_path):
    (tmp_path / "texts.txt").write_text("\n".join(f"w{row + 4} w9" for row in range(8)))
    found = trained(tmp_path, tiny_bert(16, 2), tmp_path / "texts.txt", "1/16")
    assert found == json.loads((tmp_path / "student" / "run.json").read_text())
    assert np.isfinite(found["training"]["seconds"])

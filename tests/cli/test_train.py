"""`hf-distill train` distills whatever the teacher's head is for, in one command."""

from __future__ import annotations

import json
import re
import shutil

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    AutoModelForImageClassification,
    BertForQuestionAnswering,
    BertForTokenClassification,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessor,
)

from hf_distill import DistillationTrainer, SentenceEncoder, load_teacher_outputs
from hf_distill.cli.train_summary import _gain
from hf_distill.publishing.run_record import RunRecord
from hf_distill.scripts import labels_alone
from hf_distill.scripts.run import ScriptTrainingArguments
from hf_distill.teachers.frozen import FrozenTeacher
from tests.cli.commands import invoke, invoke_json
from tests.evaluation.test_comparison import sizes
from tests.tiny_models import parameters_of, tiny_bert, tiny_tokenizer

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
    assert found["evaluation"]["rows"][1]["role"] == "distilled" and found["student"]["initialization"] == "truncated"
    assert AutoModelForImageClassification.from_pretrained(tmp_path / "student").config.num_hidden_layers == 1


def test_a_folder_of_images(tmp_path):
    names = {"id2label": {0: "dark", 1: "light"}, "label2id": {"dark": 0, "light": 1}}
    for split, count in {"train": 12, "test": 4}.items():
        for index in range(count):
            name = names["id2label"][1 - index % 2]
            (tmp_path / "photos" / split / name).mkdir(parents=True, exist_ok=True)
            image = Image.new("RGB", (8, 8), (200 if name == "light" else 20) + index)
            image.save(tmp_path / "photos" / split / name / f"{index}.png")
    size = dict(image_size=8, patch_size=4, hidden_size=32, num_hidden_layers=2, num_attention_heads=2)
    teacher = ViTForImageClassification(ViTConfig(**size, intermediate_size=32, **names))
    processor = ViTImageProcessor(size={"height": 8, "width": 8})
    more = ["--hard_label_weight", "0.5", "--soft_label_weight", "0.5"]
    found = trained(tmp_path, teacher, str(tmp_path / "photos"), "1/32", *more, processor=processor)
    assert found["data"]["train_examples"] == 12 and found["evaluation"]["data"]["scored"] == 4
    assert (tmp_path / "student" / "teacher-outputs").exists()


def test_embeddings(tmp_path):
    pairs = [f"w{n} w{n + 1},w{n + 1} w{n + 2}" for n in range(5, 45)]
    (tmp_path / "pairs.csv").write_text("\n".join(["question,answer", *pairs]))
    teacher = SentenceEncoder.from_model(tiny_bert(32, 2))
    found = trained(tmp_path, teacher, str(tmp_path / "pairs.csv"), "1/16")
    assert found["arguments"]["recipe"] == "embedding" and found["data"]["train_examples"] == 2 * 36
    assert found["student"]["pooling"] == "mean" and "labels" not in {
        row["role"] for row in found["evaluation"]["rows"]
    }
    assert found["evaluation"]["metric"] == "mrr" and [*found["evaluation"]["rows"][1]["metrics"]] == [
        *("accuracy_at_1", "mrr", "spearman")
    ]
    assert (tmp_path / "student" / "teacher-outputs").exists()  # computed once
    result = invoke("publish", tmp_path / "student", "alice/small", "--dry-run")
    assert "1_Pooling/config.json" in result.stdout and "modules.json" in result.stdout
    shutil.rmtree(tmp_path / "student")
    (tmp_path / "texts.txt").write_text("\n".join(pairs))
    found = trained(tmp_path, teacher, str(tmp_path / "texts.txt"), "1/16", "--similarity_weight", "0")
    shutil.rmtree(tmp_path / "student")
    more = ["--transfer-set", str(tmp_path / "texts.txt"), "--learning_rate", "0.01"]
    data = trained(tmp_path, teacher, str(tmp_path / "pairs.csv"), "1/16", *more)["data"]
    assert data["train_examples"] == 2 * 36 + 40
    assert data["train_text"].startswith("36 rows of the data set, the others from texts, unlabeled; ")
    assert found["arguments"]["similarity_weight"] == 0 and found["metrics"]["eval_loss"] > 0
    assert found["evaluation"]["metric"] == "similarity_spearman" and found["evaluation"]["data"]["examples"] == 4


def test_sentence_encoders_are_compared_on_texts_alone(tmp_path):
    lines = [f"w{n} w{n * 7 % 90 + 5} w{n * 3 % 80 + 9}" for n in range(5, 35)]
    (tmp_path / "texts.txt").write_text("\n".join(lines))
    texts = ["--dataset", tmp_path / "texts.txt"]
    SentenceEncoder.from_model(tiny_bert(32, 2)).save_pretrained(tmp_path / "teacher")
    tiny_tokenizer().save_pretrained(tmp_path / "teacher")
    placed = ["--student", "1/16", "--output-dir", tmp_path / "student"]
    said = invoke("train", tmp_path / "teacher", *texts, *placed, *QUICK).output
    assert re.search(
        r"Quality: correlation with the teacher's similarities -?[\d.]+, same nearest texts [\d.]+ %, on 3 rows", said
    )
    assert "labels" not in said.split("Quality")[1] and "--dataset TEST-TEXTS" in said
    teacher = ["--teacher", tmp_path / "teacher", "--no-latency"]
    invoke("evaluate", tmp_path / "student", *teacher, *texts, "--write-cards", "--output-dir", tmp_path / "out")
    card = (tmp_path / "student" / "README.md").read_text()
    assert "| **student** (this model) | distilled | " in card and "same nearest texts" in card
    assert "*Correlation* is Spearman's" in card and (tmp_path / "out" / "evaluation.png").exists()
    assert RunRecord.load(tmp_path / "student").evaluation["metric"] == "similarity_spearman"
    refused = invoke("evaluate", tmp_path / "student", *texts, exit_code=1).output
    assert "pass the teacher (--teacher)" in refused
    exported = ["--output-dir", tmp_path / "e", "--formats", "onnx-int8", "--no-latency"]
    table = invoke("export", tmp_path / "student", *texts, *exported).output
    assert "agreement: the mean cosine with the embeddings in torch" in table


def test_a_sentence_encoder_with_two_texts_held_out_is_not_compared(tmp_path):
    (tmp_path / "texts.txt").write_text("\n".join(f"w{n} w{n + 1}" for n in range(5, 26)))
    SentenceEncoder.from_model(tiny_bert(32, 2)).save_pretrained(tmp_path / "teacher")
    tiny_tokenizer().save_pretrained(tmp_path / "teacher")
    given = [tmp_path / "teacher", "--dataset", tmp_path / "texts.txt", "--student", "1/16"]
    said = invoke("train", *given, "--output-dir", tmp_path / "student", *QUICK).output
    assert "validation rows, which are too few for a comparison" in said


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
    places = ["--student", "1/16", "--dataset", tmp_path / "data", "--output-dir", tmp_path / "other", *QUICK]
    said = invoke("train", tmp_path / "teacher", *places).output
    assert "Words are read from the column tokens (--text-column), labels from ner_tags (--label-column)." in said


def test_questions(tmp_path):
    context = " ".join(f"w{number}" for number in range(10, 40))
    answer = {"text": ["w12 w13"], "answer_start": [context.index("w12")]}
    rows = [{"id": str(n), "question": "w4 w5", "context": context, "answers": answer} for n in range(8)]
    found = trained(tmp_path, BertForQuestionAnswering(sizes()), saved(tmp_path, rows), "1/16")
    assert found["evaluation"]["task"] == "question_answering" and found["metrics"]["eval_loss"] > 0


def test_questions_without_answers_are_learned_from_besides_those_with(tmp_path):
    context = " ".join(f"w{number}" for number in range(10, 40))
    answer = {"text": ["w12 w13"], "answer_start": [context.index("w12")]}
    rows = [
        {"id": str(n), "question": f"w{n + 4} w5", "context": context, "answers": answer if n < 8 else None}
        for n in range(14)
    ]
    (tmp_path / "more.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[6:]))
    dataset = datasets.DatasetDict(
        {"train": datasets.Dataset.from_list(rows[:6]), "test": datasets.Dataset.from_list(rows[6:8])}
    )
    dataset.save_to_disk(tmp_path / "data")
    more = ["--transfer-set", tmp_path / "more.jsonl"]
    found = trained(tmp_path, BertForQuestionAnswering(sizes()), tmp_path / "data", "1/16", *more)
    assert found["data"]["train_examples"] == 6 + 6, "of the transfer set two are in the test split"
    assert [row["role"] for row in found["evaluation"]["rows"]] == ["teacher", "distilled", "labels only"]
    places = ["--student", "1/16", "--dataset", tmp_path / "data", *more, "--output-dir", tmp_path / "other", *QUICK]
    refused = invoke("train", tmp_path / "teacher", *places, "--hard_label_weight", "0.5", exit_code=1).output
    assert "hard_label_weight is above 0 but the training examples carry no" in refused.replace("\n", " ")
    (tmp_path / "texts.txt").write_text("w4 w5")
    refused = invoke(
        "train", tmp_path / "teacher", *places[:4], "--transfer-set", tmp_path / "texts.txt", *places[6:], exit_code=1
    )
    assert "has no columns ['context', 'question'], it has ['text']" in refused.output.replace("\n", " ")


def texts(folder, rows: int, name: str = "texts.txt") -> str:
    (folder / name).write_text("\n".join(f"w{row % 90 + 4} w{row % 7 + 4}" for row in range(rows)))
    return str(folder / name)


def test_texts_without_labels_are_learned_from_but_not_compared(tmp_path):
    found = trained(tmp_path, tiny_bert(16, 2), texts(tmp_path, 19), "1/16")
    assert found["evaluation"] is None and found["data"]["name"] == "texts" and found["data"]["train_examples"] == 19
    assert "It was not evaluated" in (tmp_path / "student" / "README.md").read_text()


def labeled(folder, rows: int, name: str = "tickets.csv") -> str:
    lines = [f"w{row % 90 + 4} w{row % 7 + 4},LABEL_{row % 2}" for row in range(rows)]
    (folder / name).write_text("\n".join(["text,label", *lines]))
    return str(folder / name)


def ended(folder, dataset, *more, student: str = "1/16") -> str:
    """What the command says at its end."""
    tiny_bert(16, 2).save_pretrained(folder / "teacher")
    tiny_tokenizer().save_pretrained(folder / "teacher")
    places = ["--student", student, "--dataset", dataset, "--output-dir", folder / "student"]
    output = invoke("train", folder / "teacher", *places, *QUICK, *more).output
    return output[output.index("Student:") :]


@pytest.mark.parametrize("name", ["tickets.csv", "test.csv", "validation.csv"])
def test_without_a_test_set_some_rows_are_held_out_and_the_end_says_what_there_is(name, tmp_path):
    said = ended(tmp_path, labeled(tmp_path, 40, name), "--seed", "7")
    folder = tmp_path / "student"
    assert f"Student: {folder} (weights, run.json" in said
    assert re.search(
        r"Quality: accuracy [\d.]+ %, the teacher's [\d.]+ %, on 4 rows \(validation\); 4 of the 40 rows", said
    )
    assert "held out for validation (seed 7)" in said
    assert f"hf-distill evaluate {folder} --teacher {tmp_path / 'teacher'} --dataset LABELED-TEST-DATA" in said
    assert f"hf-distill publish {folder} NAMESPACE/NAME --dry-run" in said and f"exports/{folder.name}" in said
    record = json.loads((folder / "run.json").read_text())
    assert (record["data"]["train_examples"], record["evaluation"]["data"]["examples"]) == (36, 4)
    assert (
        "4 of the 40 rows were held out for validation (seed 7), which flatters a teacher that was trained on them"
        in (folder / "README.md").read_text()
    )


def test_interrupted_while_the_models_are_compared_the_training_is_kept(tmp_path, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    call = ["train", tmp_path / "teacher", "--student", "1/16", "--dataset", labeled(tmp_path, 40)]
    call += ["--output-dir", tmp_path / "student", *QUICK]
    with monkeypatch.context() as patch:
        patch.setattr("hf_distill.scripts.finished_training.compare", interrupted)
        tiny_bert(16, 2).save_pretrained(tmp_path / "teacher")
        tiny_tokenizer().save_pretrained(tmp_path / "teacher")
        said = invoke(*call, exit_code=130).output
    assert f"The same command resumes from {tmp_path / 'student' / 'checkpoint-2'}" in said
    assert "Quality: accuracy" in invoke(*call).output


def test_without_labels_the_end_says_how_often_the_two_agree(tmp_path):
    said = ended(tmp_path, texts(tmp_path, 30))
    assert re.search(r"Quality: agrees with its teacher on [\d.]+ % of the validation rows, which have no labels", said)
    assert "3 of the 30 rows were held out" in said


def test_a_test_set_without_labels_is_no_reason_to_fail_after_the_training(tmp_path):
    rows = [{"text": f"w{row + 4} w9", "label": row % 2} for row in range(8)]
    train = datasets.Dataset.from_list(rows)
    datasets.DatasetDict(train=train, test=train.remove_columns("label")).save_to_disk(tmp_path / "data")
    assert "agrees with its teacher on" in ended(tmp_path, tmp_path / "data")


def test_few_rows_are_all_trained_on(tmp_path):
    said = ended(tmp_path, labeled(tmp_path, 8))
    assert "Quality: not measured: of 8 rows none were held out" in said
    assert "evaluate" in said and "--split" not in said


def test_a_teacher_and_a_student_in_folders_of_one_name(tmp_path):
    (tmp_path / "a").mkdir()
    tiny_bert(16, 2).save_pretrained(tmp_path / "student")
    tiny_tokenizer().save_pretrained(tmp_path / "student")
    places = ["--dataset", labeled(tmp_path, 20), "--output-dir", tmp_path / "a" / "student"]
    found = invoke_json("train", tmp_path / "student", "--student", "1/16", *places, *QUICK)
    assert [row["name"] for row in found["evaluation"]["rows"]][:2] == [f"{tmp_path.name}/student", "a/student"]


def test_a_narrower_student_starts_from_what_fits(tmp_path):
    found = trained(tmp_path, tiny_bert(16, 2), texts(tmp_path, 8), "1/8")
    assert found["student"]["initialization"] == "width"
    settings = found["training"]["settings"]
    assert settings["per_device_train_batch_size"] == 32 and settings["learning_rate"] == pytest.approx(0.06 / 8)
    found = trained(
        tmp_path / "again", tiny_bert(16, 2), texts(tmp_path, 8), "1/8", "--per_device_train_batch_size", "4"
    )
    assert found["training"]["settings"]["per_device_train_batch_size"] == 4


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--student", "giant"], "giant"),
        (["--student", "1/16", "--initialization", "magic"], "magic"),
        (["--student", "1/16", "--temperature", "-1"], "temperature"),
        (["--student", "1/16", "--text-column", "other"], "other"),
        (
            ["--student", "1/16", "--label-column", "lable"],
            "no column 'lable', they have ['text']",
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
    for wrong, message in [
        (["--max_stepz", "3"], "there is no option --max_stepz. Did you mean '--max_steps'?"),
        (["--text-colum", "a"], "there is no option --text-colum. Did you mean '--text-column'?"),
        (["--recipe", "patient"], "invalid choice: 'patient' (choose from 'pre_trained_distillation', "),
        (["--recipe", "patient"], "Did you mean 'patient_kd'?"),
        (["stray"], "unexpected value that follows no option: stray"),
    ]:
        output = invoke("train", tmp_path / "teacher", *places, *wrong, exit_code=2).output
        assert len(output.strip().splitlines()) == 1 and message in output


def test_checkpoints_of_another_student_are_refused(tmp_path):
    tiny_bert(16, 2).save_pretrained(tmp_path / "teacher")
    tiny_tokenizer().save_pretrained(tmp_path / "teacher")
    (tmp_path / "texts.txt").write_text("\n".join(f"w{row + 4} w9" for row in range(8)))
    places = ["--dataset", tmp_path / "texts.txt", "--output-dir", tmp_path / "student", *QUICK]
    invoke("train", tmp_path / "teacher", "--student", "1/16", *places, "--save_steps", "1")
    output = invoke("train", tmp_path / "teacher", "--student", "2/16", *places, exit_code=1).output
    assert "holds checkpoints of a student of shape 1/16, the requested student's is 2/16" in output.replace("\n", " ")
    refused = ["--resume_from_checkpoint", "false"]
    output = invoke("train", tmp_path / "teacher", "--student", "2/16", *places, *refused, exit_code=1).output
    assert "delete them with --overwrite_output_dir true" in output and (tmp_path / "student" / "checkpoint-1").exists()
    afresh = ["--overwrite_output_dir", "true"]
    invoke("train", tmp_path / "teacher", "--student", "2/16", *places, *afresh)


def test_the_saved_record_is_what_is_printed(tmp_path):
    (tmp_path / "texts.txt").write_text("\n".join(f"w{row + 4} w9" for row in range(8)))
    found = trained(tmp_path, tiny_bert(16, 2), tmp_path / "texts.txt", "1/16")
    assert found == json.loads((tmp_path / "student" / "run.json").read_text())
    assert np.isfinite(found["training"]["seconds"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["teacher", "--studnet", "tiny"], "Missing option '--student'. There is no option --studnet. Did you mean '--student'?"),
        (["--max_steps", "3", "teacher", "--student", "tiny"], "The teacher comes before training arguments such as --max_steps"),
    ],
)  # fmt: skip
def test_a_misspelt_option_is_told_from_a_training_argument(words, message):
    output = invoke("train", *words, "--dataset", "x.csv", "--output-dir", "out", exit_code=2).output
    assert message in re.sub(r"\s+", " ", output)


def test_the_columns_that_are_read_are_said(tmp_path):
    (tmp_path / "named.csv").write_text(
        "id,message,queue\n" + "\n".join(f"w{row + 4},w9 w{row + 5},A" for row in range(8))
    )
    tiny_bert(16, 2).save_pretrained(tmp_path / "teacher")
    tiny_tokenizer().save_pretrained(tmp_path / "teacher")
    places = ["--student", "1/16", "--dataset", tmp_path / "named.csv", "--output-dir", tmp_path / "student", *QUICK]
    output = invoke("train", tmp_path / "teacher", *places).output
    assert (
        "Texts are read from the columns id and message (--text-column), labels from nothing: no column is called label"
        in output
    )


def test_the_column_with_the_teacher_s_classes_has_the_labels(tmp_path, caplog):
    lines = [f"w{n} w{n + 1},{'Billing' if n % 2 else 'sales'}" for n in range(5, 45)]
    (tmp_path / "tickets.csv").write_text("\n".join(["ticket,team", *lines]))
    (tmp_path / "more.txt").write_text("\n".join(f"w{n} w7" for n in range(50, 60)))
    teacher = tiny_bert(16, 2, id2label={0: "billing", 1: "sales"}, label2id={"billing": 0, "sales": 1})
    more = ["--transfer-set", str(tmp_path / "more.txt")]
    for columns in ([], ["--text-column", "ticket", "--label-column", "team"]):
        caplog.clear()
        found = trained(tmp_path, teacher, str(tmp_path / "tickets.csv"), "1/16", *more, *columns)
        assert ("Labels are read from team, whose values are the classes of" in caplog.text) == (not columns)
        assert found["data"]["train_examples"] == 36 + 10 and found["evaluation"]["data"]["scored"] == 4
        again = ["--teacher", tmp_path / "teacher", "--dataset", tmp_path / "tickets.csv", "--no-latency"]
        assert invoke_json("evaluate", tmp_path / "student", *again, *columns)["data"]["scored"] == 40
        shutil.rmtree(tmp_path / "student")


def test_precomputed_outputs_are_learned_from_in_place_of_the_teacher(tmp_path, monkeypatch):
    names = {"id2label": {0: "cold", 1: "warm"}, "label2id": {"cold": 0, "warm": 1}}
    tiny_bert(32, 2, **names).save_pretrained(tmp_path / "teacher")
    tiny_tokenizer().save_pretrained(tmp_path / "teacher")
    lines = [f"w{row % 90 + 4} w{row * 7 % 90 + 4},{['cold', 'warm'][row % 2]}" for row in range(40)]
    (tmp_path / "tickets.csv").write_text("\n".join(["text,label", *lines]))
    placed = ["--teacher", tmp_path / "teacher", "--output-dir", tmp_path / "labeled"]
    invoke_json("label", tmp_path / "tickets.csv", *placed)
    calls = []
    outputs = FrozenTeacher.outputs
    monkeypatch.setattr(FrozenTeacher, "outputs", lambda self, inputs: calls.append(1) or outputs(self, inputs))
    places = ["--student", "1/32", "--dataset", tmp_path / "labeled", "--output-dir", tmp_path / "student"]
    found = invoke_json("train", tmp_path / "teacher", *places, *QUICK)
    assert not calls and found["teacher"]["name"] == "teacher" and found["data"]["train_examples"] == 36
    assert found["evaluation"]["data"]["examples"] == 4 and "accuracy" in found["evaluation"]["rows"][1]["metrics"]
    tiny_bert(32, 2, seed=5, **names).save_pretrained(tmp_path / "other")
    tiny_tokenizer().save_pretrained(tmp_path / "other")
    places[-1] = tmp_path / "another"
    told = invoke("train", tmp_path / "other", *places, *QUICK, exit_code=1).output
    assert "precomputed teacher outputs are from teacher (weights with sha256" in told.replace("\n", " ")


def test_unlabeled_texts_are_learned_from_too(tmp_path):
    """Texts of the data set among them are left out, those to evaluate on and labeled ones."""
    dataset = labeled(tmp_path, 40)
    (tmp_path / "more.txt").write_text("\n".join(["W4  w4", *(f"w{row + 50} w9 w8" for row in range(12))]))
    found = trained(tmp_path, tiny_bert(16, 2), dataset, "1/16", "--transfer-set", tmp_path / "more.txt")
    assert found["data"]["train_examples"] == 36 + 12 and found["data"]["name"] == "tickets"
    rows = load_teacher_outputs(next((tmp_path / "student" / "teacher-outputs").iterdir()))
    assert len(rows) == 48 and rows["labels"][36:] == [-100] * 12


def test_the_teacher_labels_the_rows_once(tmp_path, monkeypatch):
    calls = []
    outputs = FrozenTeacher.outputs
    monkeypatch.setattr(FrozenTeacher, "outputs", lambda self, inputs: calls.append(1) or outputs(self, inputs))
    trained(tmp_path, tiny_bert(16, 2), texts(tmp_path, 19), "1/16", "--num_train_epochs", "5", "--max_steps", "-1")
    assert len(calls) == 1, "one batch of all texts, not one per step"
    shutil.rmtree(tmp_path / "student")
    features = (
        "--recipe",
        "patient_kd",
        "--layer_map",
        "uniform",
        "--hard_label_weight",
        "0",
        "--num_train_epochs",
        "5",
        "--max_steps",
        "-1",
    )
    trained(tmp_path, tiny_bert(16, 2), texts(tmp_path, 19), "1/16", *features)
    assert len(calls) > 5 and not (tmp_path / "student" / "teacher-outputs").exists()


def test_words_without_labels_are_learned_from_too(tmp_path):
    names = {"id2label": {0: "O", 1: "B-PER"}, "label2id": {"O": 0, "B-PER": 1}}
    rows = [{"tokens": [f"w{n}", f"w{n + 1}"], "ner_tags": ["O", "B-PER"]} for n in range(5, 25)]
    more = [{"words": [f"w{n}", f"w{n + 1}", "w9"]} for n in range(30, 40)] + [{"words": row["tokens"]} for row in rows]
    for name, lines in {"rows": rows, "more": more}.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "texts.txt").write_text("w1 w2\n")
    teacher, dataset = BertForTokenClassification(sizes(**names)), str(tmp_path / "rows.jsonl")
    found = trained(tmp_path, teacher, dataset, "1/16", "--transfer-set", str(tmp_path / "more.jsonl"))
    assert found["data"]["train_examples"] == 18 + 10, "two rows are held out, and words of the data set are left out"
    (folder,) = (tmp_path / "student" / "teacher-outputs").iterdir()
    labels = load_teacher_outputs(folder)["labels"]
    assert sum(all(label == -100 for label in row) for row in labels) == 10
    places = ["--dataset", dataset, "--transfer-set", tmp_path / "texts.txt", "--output-dir", tmp_path / "other"]
    refused = invoke("train", tmp_path / "teacher", "--student", "1/16", *places, *QUICK, exit_code=1)
    assert "must have a column of lists of words, it has ['text']" in refused.output


def photos(folder, names: list[str], count: int, first: int = 0) -> None:
    """Images of which each is another shade, in turn dark and light."""
    for index in range(first, first + count):
        name = names[index % len(names)]
        (folder / name).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (200 if index % 2 else 20) + index).save(folder / name / f"{index}.png")


def test_images_without_labels_are_learned_from_besides_those_with(tmp_path):
    names = {"id2label": {0: "dark", 1: "light"}, "label2id": {"dark": 0, "light": 1}}
    for split, count, first in (("train", 12, 0), ("test", 4, 12)):
        photos(tmp_path / "photos" / split, ["dark", "light"], count, first)
    photos(tmp_path / "more", [""], 10, 10)  # two of the training images, four of the test images, four others
    size = dict(image_size=8, patch_size=4, hidden_size=32, num_hidden_layers=2, num_attention_heads=2)
    teacher = ViTForImageClassification(ViTConfig(**size, intermediate_size=32, **names))
    processor = ViTImageProcessor(size={"height": 8, "width": 8})
    found = trained(
        tmp_path, teacher, tmp_path / "photos", "1/32", "--transfer-set", tmp_path / "more", processor=processor
    )
    assert found["data"]["train_examples"] == 12 + 4 and len(found["evaluation"]["rows"]) == 3
    (folder,) = (tmp_path / "student" / "teacher-outputs").iterdir()
    assert sorted(load_teacher_outputs(folder)["label"][:], key=str) == [0] * 6 + [1] * 6 + [None] * 4


def test_images_that_are_no_files_have_no_transfer_set(tmp_path):
    names = {"id2label": {n: str(n) for n in range(10)}, "label2id": {str(n): n for n in range(10)}}
    size = dict(image_size=8, patch_size=4, num_channels=1, hidden_size=64, num_hidden_layers=2, num_attention_heads=2)
    ViTForImageClassification(ViTConfig(**size, intermediate_size=32, **names)).save_pretrained(tmp_path / "teacher")
    photos(tmp_path / "more", [""], 2)
    default = ["--student", "1/64", "--dataset", "digits", "--output-dir", tmp_path / "student", *QUICK]
    output = invoke("train", tmp_path / "teacher", *default, "--transfer-set", tmp_path / "more", exit_code=1).output
    assert "a transfer set of images needs the column image, the data set has" in output.replace("\n", " ")


def compared(difference: float, low: float, high: float, teacher: float = 0.9, labels: float = 0.8) -> dict:
    against = {"difference": difference, "low": low, "high": high}
    rows = [
        {"metrics": {"accuracy": teacher}, "name": "classifier", "role": "teacher"},
        {"metrics": {"accuracy": labels + difference}, "name": "student", "role": "distilled"},
        {
            "metrics": {"accuracy": labels},
            "name": "same student, labels alone (500 rows, 600 steps)",
            "role": "labels only",
        },
    ]
    rows[1]["against_labels_alone"] = against
    return {
        "metric": "accuracy", "task": "sequence_classification", "data": {"examples": 9, "split": "test"}, "rows": rows,
    }  # fmt: skip


THAN = "than the same student, labels alone (500 rows, 600 steps)"


@pytest.mark.parametrize(
    ("found", "start", "advice"),
    [
        (compared(0.05, 0.031, 0.07), f"Gain: +5.0 points better {THAN} (", ")"),
        (compared(0.02, -0.001, 0.05), f"Warning: not clearly better {THAN}: ", "unlabeled texts"),
        (compared(-0.02, -0.05, -0.01), f"Warning: worse {THAN}: -2.0 points (", "--transfer-set"),
        (compared(-0.02, -0.05, -0.01, teacher=0.71), "Warning: worse", "(71.0 and 80.0 %), and cannot teach more"),
        (compared(0.0, 0.0, 0.0, 1.0, 1.0), "Warning: not clearly better", "take more rows, or harder ones"),
    ],
)
def test_a_student_that_labels_alone_would_teach_as_well_is_warned_of(found, start, advice):
    (line,) = _gain(found)
    assert line.startswith(start) and f"{100 * found['rows'][1]['against_labels_alone']['low']:+.1f} to" in line
    assert advice in line
    assert _gain(None) == [] and _gain(found | {"rows": [{}, {}]}) == []


def test_the_student_on_labels_alone_is_compared_and_recorded(tmp_path):
    said = ended(tmp_path, labeled(tmp_path, 40), "--hard_label_weight", "0")
    assert re.search(r"(Gain|Warning): .* same student, labels alone \(36 rows, \d+ steps\)", said)
    (_, student, control) = json.loads((tmp_path / "student" / "run.json").read_text())["evaluation"]["rows"]
    assert control["role"] == "labels only" and re.match(r"same student, labels alone \(36 rows, ", control["name"])
    expected = student["metrics"]["accuracy"] - control["metrics"]["accuracy"]
    assert student["against_labels_alone"]["difference"] == pytest.approx(expected)
    assert "same student, labels alone" in (tmp_path / "student" / "README.md").read_text()


def test_a_training_on_labels_that_fails_takes_nothing_from_the_distilled_student(tmp_path, monkeypatch, caplog):
    train = DistillationTrainer.train

    def spoiled(self, *args, **kwargs):
        if [term.name for term in self.training_objective.terms] == ["hard_label"]:
            raise FloatingPointError("the loss is nan")
        return train(self, *args, **kwargs)

    monkeypatch.setattr(DistillationTrainer, "train", spoiled)
    said = ended(tmp_path, labeled(tmp_path, 40))
    assert "Quality: accuracy" in said and "labels alone" not in said and "the loss is nan" in caplog.text
    assert len(json.loads((tmp_path / "student" / "run.json").read_text())["evaluation"]["rows"]) == 2


def test_the_training_on_labels_is_short_starts_from_the_same_weights_and_can_be_left_out(tmp_path, monkeypatch):
    trainers = []
    train = DistillationTrainer.train

    def noted(self, *args, **kwargs):
        trainers.append((self, parameters_of(self.model).clone()))
        return train(self, *args, **kwargs)

    monkeypatch.setattr(DistillationTrainer, "train", noted)
    monkeypatch.setattr(labels_alone, "least_steps", lambda model: 3)
    ended(tmp_path, labeled(tmp_path, 40), "--max_steps", "50")
    (distilled, first), (control, also_first) = trainers
    assert torch.equal(first, also_first) and control.args.max_steps == 6, "three epochs, which are more than a tenth"
    assert [term.name for term in control.training_objective.terms] == ["hard_label"]
    assert control.args.learning_rate == distilled.args.learning_rate and len(control.train_dataset) == 36
    shutil.rmtree(tmp_path / "student")
    assert "labels alone" not in ended(tmp_path, labeled(tmp_path, 40), "--no-labels-alone") and len(trainers) == 3


def answered(folder, rows: int = 40, **more) -> str:
    """A file of a teacher's probabilities for texts."""
    lines = []
    for row in range(rows):
        p = 0.9 if row % 2 else 0.2
        outputs = {"bad": 1 - p, "good": p}
        lines.append({"text": f"w{row % 90 + 4} w{row % 7 + 4} w{row // 7 + 9}", "teacher_outputs": outputs} | more)
    (folder / "answers.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return str(folder / "answers.jsonl")


def base(folder, **config) -> str:
    tiny_bert(16, 2, **config).save_pretrained(folder / "base")
    tiny_tokenizer().save_pretrained(folder / "base")
    return str(folder / "base")


TOLD = ["--teacher-info", "name=a large model", "--teacher-info", "template=Good? {text}"]


def test_outputs_from_elsewhere_are_a_teacher(tmp_path):
    """Also where training arguments come first, of which the first is no teacher."""
    places = ["--teacher-outputs", answered(tmp_path), "--base-model", base(tmp_path), "--student", "1/16"]
    arguments = [*QUICK, *places, "--output-dir", tmp_path / "student", *TOLD]
    found = invoke_json("train", *arguments)
    assert found["teacher"]["name"] == "a large model" and found["teacher"]["template"] == "Good? {text}"
    assert found["student"]["labels"] == ["bad", "good"] and found["student"]["initialization"] == "truncated"
    assert found["data"]["train_examples"] == 36 and "eval_teacher_agreement" in found["metrics"]
    card = (tmp_path / "student" / "README.md").read_text()
    assert "distilled from recorded outputs of **a large model**" in card and "template: `Good? {text}`" in card
    assert "First weights: layers and embeddings of the base model" in card
    said = invoke("train", *arguments, "--overwrite_output_dir", "true").output
    assert "agrees with its teacher on" in said and "--teacher " not in said


def test_outputs_from_elsewhere_are_evaluated_on_a_data_set(tmp_path):
    lines = [f"w{row % 90 + 4} w{row % 7 + 4} w{row // 7 + 9},{['bad', 'good'][row % 2]}" for row in range(60)]
    (tmp_path / "tickets.csv").write_text("\n".join(["text,label", *lines]))
    places = ["--teacher-outputs", answered(tmp_path), "--base-model", base(tmp_path), "--student", "1/16"]
    more = ["--dataset", tmp_path / "tickets.csv", "--output-dir", tmp_path / "student"]
    found = invoke_json("train", *places, *more, *QUICK)
    held_out = found["data"]["eval_examples"]
    assert held_out == 6 and 40 - held_out <= found["data"]["train_examples"] < 40
    told = "with recorded outputs of the teacher; tickets is evaluated on alone"
    assert told in found["data"]["train_text"] and told in (tmp_path / "student" / "README.md").read_text()
    assert [row["role"] for row in found["evaluation"]["rows"]] == ["distilled", "labels only"]
    assert "against_labels_alone" in found["evaluation"]["rows"][0]


@pytest.mark.parametrize(
    ("arguments", "exit_code", "message"),
    [
        ([], 2, "Missing argument 'teacher', option '--dataset'. --teacher-outputs takes the place of"),
        (["BASE"], 2, "Missing option '--dataset'"),
        (["BASE", "--teacher-outputs", "FILE"], 1, "either TEACHER, a model, or --teacher-outputs.*got both"),
        (["--teacher-outputs", "FILE"], 1, "a student of size 1/16 needs an encoder.*--base-model"),
        (["--teacher-outputs", "FILE", "--base-model", "BASE", "--labels", "x", "--labels", "y"], 1, "are none of the labels"),
        (["--teacher-outputs", "FILE", "--base-model", "BASE", "--teacher-info", "x"], 1, "takes name=value.*got 'x'"),
        (["--teacher-outputs", "FILE", "--base-model", "BASE", "--transfer-set", "brown"], 1, "need a teacher that is run"),
        (["BASE", "--dataset", "FILE", "--multi-label"], 2, "are for --teacher-outputs"),
    ],
)  # fmt: skip
def test_options_of_outputs_from_elsewhere_that_do_not_fit(arguments, exit_code, message, tmp_path):
    given = {"FILE": answered(tmp_path), "BASE": base(tmp_path)}
    words = [given.get(word, word) for word in arguments]
    output = invoke(
        "train", *words, "--student", "1/16", "--output-dir", tmp_path / "student", exit_code=exit_code
    ).output
    assert re.search(message, " ".join(re.sub("[│╭╰╮╯─]", " ", output).split())), output


@pytest.mark.parametrize("logs", [True, False])
def test_of_several_processes_one_says_what_it_does(logs, tmp_path, monkeypatch):
    monkeypatch.setattr("hf_distill.scripts.student_training.train_student", lambda request, say: (say("remark"), {}))
    monkeypatch.setattr("hf_distill.cli.train._report", lambda *_: None)
    monkeypatch.setattr("hf_distill.cli.train._recipe_for", lambda teacher: ())
    monkeypatch.setattr(ScriptTrainingArguments, "should_log", logs)
    options = ["--student", "2/64", "--dataset", "rows.csv", "--output-dir", tmp_path, *QUICK]
    assert invoke("train", "teacher", *options).output.count("remark") == logs

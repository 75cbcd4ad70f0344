"""Exports are compared with their student, refused where they differ, mended by keeping layers, and served without torch."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import datasets
import jsonschema
import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForQuestionAnswering,
    BertForTokenClassification,
    ViTImageProcessor,
)

from hf_distill import SentenceEncoder, export_student
from hf_distill.evaluation.embeddings import embeddings_of
from hf_distill.exporting.agreement import AgreementError
from hf_distill.exporting.job import ExportJob
from hf_distill.exporting.layers import fewest_kept
from hf_distill.exporting.report import export_table
from hf_distill.graphs.formats import GraphFormat
from hf_distill.publishing.model_card import add_exports, write_model_card
from hf_distill.publishing.run_record import RunRecord, schema
from hf_distill.resources.digits import load_digits_dataset
from tests.evaluation.test_comparison import NAMES, texts
from tests.publishing.test_run_record import record
from tests.tiny_architectures import tiny_model
from tests.tiny_models import VOCABULARY, tiny_bert, tiny_tokenizer

ALL = tuple(each.value for each in GraphFormat)
QUICK = {"latency": None, "batch_size": 16}
DOCS = Path(__file__).parents[2] / "docs" / "exporting.md"


def saved(folder: Path, **config) -> Path:
    """A student that int8 hurts: in its second layer weights of a unit that is never active leave the others no digits."""
    model = tiny_bert(64, 2, **(NAMES | config))
    with torch.no_grad():
        model.bert.encoder.layer[1].intermediate.dense.bias[0] = -100
        model.bert.encoder.layer[1].output.dense.weight[:, 0] = 100
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("student") / "student")


def predicted(folder: Path, file: str, rows: datasets.Dataset) -> list[int]:
    """By ONNX Runtime itself, one row at a time."""
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / file, providers=["CPUExecutionProvider"])
    tokenizer, names = AutoTokenizer.from_pretrained(folder), [each.name for each in session.get_inputs()]
    found = []
    for text in rows["text"]:
        inputs = tokenizer(text, return_tensors="np", return_token_type_ids=True)
        found.append(int(session.run(None, {name: inputs[name].astype(np.int64) for name in names})[0].argmax()))
    return found


def test_all_formats_of_a_classifier_with_record_and_card(student, tmp_path):
    folder = saved(tmp_path / "student")
    record().save(folder)
    write_model_card(folder)
    rows = texts(60)
    report = export_student(folder, tmp_path / "export", rows, formats=ALL, calibration_rows=texts(33), **QUICK)
    assert {path.name for path in (tmp_path / "export").iterdir()} == {
        *(each.file_name for each in GraphFormat), "config.json", "tokenizer.json", "tokenizer_config.json", "export.json"
    }  # fmt: skip
    first, *exported = report["rows"]
    assert [row["format"] for row in exported] == list(ALL) and first["file"] is None
    assert exported[0]["agreement"] == 1 and exported[0]["largest_difference"] < 1e-4
    assert exported[0]["metrics"]["accuracy"] == first["metrics"]["accuracy"]
    for row in exported:
        assert row["megabytes"] == pytest.approx((tmp_path / "export" / row["file"]).stat().st_size / 1e6, abs=1e-3)
    own = predicted(tmp_path / "export", "model.onnx", rows)
    assert exported[0]["metrics"]["accuracy"] == pytest.approx(np.mean(np.array(own) == rows["label"]))
    assert json.loads((tmp_path / "export" / "export.json").read_text()) == report
    jsonschema.validate(report, schema()["$defs"]["exports"] | {"$defs": schema()["$defs"]})
    assert RunRecord.load(folder).exports["rows"][1]["agreement"] == 1
    card = (folder / "README.md").read_text()
    assert "## Exports" in card and re.search(r"\| onnx-int8 \| `model_quantized.onnx` \|.*\d %", card)
    assert str(tmp_path) not in card + (tmp_path / "export" / "export.json").read_text()
    assert "no quality is shown" not in card and "accuracy %" in card.partition("## Exports")[2]
    console = Console(width=160, file=io.StringIO())
    for split in ("test", "train"):  # what a student has learned from says nothing of its quality
        report["data"]["split"] = split
        console.print(export_table(report))
        shown = console.file.getvalue()
        assert ("no quality is shown" in shown) is (split == "train") and shown.count("accuracy %") == 1
    of_training = add_exports(folder, report).read_text().partition("## Exports")[2]
    assert "of rows that students learn from, no quality is shown" in of_training and "accuracy %" not in of_training


def test_an_export_that_differs_is_refused_with_the_layers_that_hurt_and_leaves_nothing(student, tmp_path):
    with pytest.raises(
        AgreementError, match=r"onnx-int8 agrees .* required are 1.0; the layers that hurt most: bert\."
    ):
        export_student(student, tmp_path / "export", texts(200), formats=["onnx-int8"], require_agreement=1.0, **QUICK)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number_format", ["onnx-int8", "onnx-int8-static"])
def test_as_few_layers_are_kept_as_the_agreement_needs(number_format, student, tmp_path):
    rows, settings = texts(200), dict(formats=[number_format], **QUICK)
    report = export_student(student, tmp_path / "a", rows, require_agreement=1.0, keep_layers="auto", **settings)
    row = report["rows"][1]
    layers = list(row["hurt_by_layer"])
    assert row["agreement"] == 1 and row["kept_layers"] == layers[: len(row["kept_layers"])]
    assert "bert.encoder.layer.1.output.dense" in layers[:3]
    fewer = export_student(student, tmp_path / "b", rows, keep_layers=row["kept_layers"][:-1], **settings)
    assert fewer["rows"][1]["agreement"] < 1


def test_layers_are_named_or_modules_that_contain_them(student, tmp_path):
    def kept(*names):
        report = export_student(student, tmp_path / "e", texts(8), formats=["onnx-int8"], keep_layers=names, **QUICK)
        return report["rows"][1]["kept_layers"]

    assert kept("classifier") == ["classifier"]
    assert len(kept("bert.encoder.layer.1")) == 6
    with pytest.raises(ValueError, match=r"got 'clasifier'\. Did you mean 'classifier'"):
        kept("clasifier")


def test_the_fewest_layers_are_found_by_bisection():
    for needed in range(1, 9):
        assert fewest_kept("abcdefgh", lambda kept, needed=needed: len(kept) >= needed) == list("abcdefgh"[:needed])


def test_regression_agrees_by_the_numbers_and_unlabeled_texts_will_do(tmp_path):
    model, rows = tiny_bert(32, 1, num_labels=1), texts(30).remove_columns("label")
    report = export_student(
        model, tmp_path / "e", rows, processing_class=tiny_tokenizer(), formats=["onnx", "onnx-int8"], **QUICK
    )
    written = json.loads((tmp_path / "e" / "config.json").read_text())
    assert written["architectures"] == ["BertForSequenceClassification"] and model.config.architectures is None
    assert report["metric"] is None and "metrics" not in report["rows"][1]
    assert report["rows"][1]["agreement"] == pytest.approx(1, abs=1e-6) and 0.5 < report["rows"][2]["agreement"] < 1


def config(**changes):
    sizes = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    return BertConfig(vocab_size=VOCABULARY, max_position_embeddings=64, initializer_range=0.3, **sizes, **changes)


def test_token_classification_and_question_answering(tmp_path):
    torch.manual_seed(0)
    names = {"id2label": {0: "O", 1: "B-X", 2: "I-X"}, "label2id": {"O": 0, "B-X": 1, "I-X": 2}}
    words = [[f"w{4 + (row * place) % 90}" for place in range(1, 4 + row % 5)] for row in range(20)]
    tags = [["O", "B-X", "I-X", "O", "O", "B-X", "O", "O"][: len(row)] for row in words]
    rows = datasets.Dataset.from_dict({"tokens": words, "ner_tags": tags})
    settings = dict(processing_class=tiny_tokenizer(), formats=["onnx", "onnx-int8"], latency=None, batch_size=4)
    report = export_student(BertForTokenClassification(config(**names)), tmp_path / "words", rows, **settings)
    assert report["rows"][1]["agreement"] == 1 and 0.5 < report["rows"][2]["agreement"] <= 1
    answers = [{"text": [row[0]], "answer_start": [0]} for row in words]
    questions = {
        "question": [row[-1] for row in words],
        "context": [" ".join(row) for row in words],
        "answers": answers,
    }
    rows = datasets.Dataset.from_dict({"id": [str(row) for row in range(20)], **questions})
    report = export_student(
        BertForQuestionAnswering(config()),
        tmp_path / "questions",
        rows,
        require_agreement=0.9,
        keep_layers="auto",
        **settings,
    )
    assert report["rows"][1]["agreement"] == 1 and report["rows"][2]["agreement"] >= 0.9


def test_the_documented_lines_tag_words_as_they_are_given(tmp_path, monkeypatch):
    torch.manual_seed(0)
    names = ["O", "B-X", "I-X", "B-Y", "I-Y"]
    model = BertForTokenClassification(
        config(id2label=dict(enumerate(names)), label2id={n: i for i, n in enumerate(names)})
    )
    words = [["w4.w5", "w6", f"w{row}!", "w9"] for row in range(4, 24)]  # the tokenizer splits words at punctuation
    rows = datasets.Dataset.from_dict({"tokens": words, "ner_tags": [["O", "B-X", "I-X", "O"]] * len(words)})
    tokenizer, folder = tiny_tokenizer(), tmp_path / "exports" / "student"
    export_student(model, folder, rows, processing_class=tokenizer, formats=["onnx", "onnx-int8"], latency=None)
    first = re.search(r"```python\n(import json\n.*?)def classify", DOCS.read_text(), re.DOTALL)[1]
    second = re.search(r"```python\n(def tag.*?)```", DOCS.read_text(), re.DOTALL)[1]
    monkeypatch.chdir(tmp_path)
    served: dict = {}
    exec(first.replace("model_quantized", "model") + second, served)
    for row in words:
        inputs = tokenizer(row, is_split_into_words=True, return_tensors="pt")
        with torch.no_grad():
            found = model.eval()(**inputs).logits[0].argmax(-1).tolist()
        expected = [names[found[inputs.word_ids().index(word)]] for word in range(len(row))]
        assert served["tag"](row) == list(zip(row, expected, strict=True))
    text = [
        ("Anna", "B-PER"),
        ("Meier", "I-PER"),
        ("in", "O"),
        ("Lima", "I-LOC"),
        ("Bo", "B-PER"),
        ("X", "B-PER"),
        ("Y", "I-LOC"),
    ]
    assert served["entities"](text) == [
        ("Anna Meier", "PER"),
        ("Lima", "LOC"),
        ("Bo", "PER"),
        ("X", "PER"),
        ("Y", "LOC"),
    ]


def test_images(tmp_path):
    names = {str(digit): digit for digit in range(10)}
    model = tiny_model(
        "vit", num_channels=1, patch_size=2, label2id=names, id2label={index: name for name, index in names.items()}
    )
    rows = load_digits_dataset()["test"].select(range(40))
    report = export_student(model, tmp_path / "e", rows, formats=["onnx", "onnx-fp16", "onnx-int8"], **QUICK)
    assert report["rows"][1]["agreement"] == 1 and report["rows"][1]["largest_difference"] < 1e-4


def test_the_documented_lines_classify_images(tmp_path, monkeypatch):
    torch.manual_seed(0)
    names = ["dark", "light", "other"]
    labels = {"id2label": dict(enumerate(names)), "label2id": {name: index for index, name in enumerate(names)}}
    model = tiny_model("vit", image_size=8, patch_size=4, num_channels=3, initializer_range=0.5, **labels).eval()
    processor = ViTImageProcessor(size={"height": 8, "width": 8})
    generator = np.random.default_rng(0)
    images = [Image.fromarray(generator.integers(0, 256, (12, 10, 3), dtype=np.uint8)) for _ in range(24)]
    for index, image in enumerate(images):
        (tmp_path / "photos" / "train" / names[index % 3]).mkdir(parents=True, exist_ok=True)
        image.save(tmp_path / "photos" / "train" / names[index % 3] / f"{index}.png")
    rows = datasets.load_dataset(str(tmp_path / "photos"), split="train", cache_dir=str(tmp_path / "cache"))
    export_student(model, tmp_path / "e", rows, processing_class=processor, formats=["onnx", "onnx-int8"], latency=None)
    code = re.search(r"```python\n(from PIL.*?)```", DOCS.read_text(), re.DOTALL)[1].replace("model_quantized", "model")
    served: dict = {}
    exec(f"import json, numpy, onnxruntime\n{code}", served)
    with torch.no_grad():
        expected = model(**processor(images, return_tensors="pt")).logits.argmax(-1).tolist()
    paths = [tmp_path / "photos" / "train" / names[index % 3] / f"{index}.png" for index in range(24)]
    found = [served["classify_image"](tmp_path / "e", path) for path in paths]
    assert found == [names[index] for index in expected] and len({*found}) > 1


def test_a_sentence_encoder_is_served_by_the_documented_line(tmp_path, monkeypatch):
    encoder, words = SentenceEncoder.from_model(tiny_bert(32, 2), "mean").eval(), texts(20).select_columns("text")
    pairs = words.rename_column("text", "question").add_column("answer", words["text"][::-1])
    folder, tokenizer = tmp_path / "exports" / "student", tiny_tokenizer()
    report = export_student(encoder, folder, pairs, processing_class=tokenizer, formats=["onnx", "onnx-int8"], **QUICK)
    assert report["metric"] == "mrr" and report["rows"][1]["agreement"] == pytest.approx(1)
    assert 0.99 < report["rows"][2]["agreement"] < 1 and report["rows"][2]["largest_difference"] > 0
    alone = export_student(encoder, folder, words, processing_class=tokenizer, formats=["onnx-int8"], **QUICK)
    assert alone["metric"] is None and 0.99 < alone["rows"][1]["agreement"] < 1
    code = re.search(r"```python\n(import json\n.*?)def classify", DOCS.read_text(), re.DOTALL)[1]
    (line,) = re.findall(r"`(return session.run[^`]*)`", DOCS.read_text())
    (inputs,) = re.findall(r"    rows = .*\n    inputs = .*\n", DOCS.read_text())
    monkeypatch.chdir(tmp_path)
    served: dict = {}
    exec(f"{code}\ndef embed(texts):\n{inputs}    {line}", served)
    both = (
        torch.from_numpy(served["embed"](words["text"][:])),
        torch.from_numpy(embeddings_of(encoder, tokenizer, words["text"])),
    )
    assert torch.cosine_similarity(*both).mean() > 0.99


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"formats": ["onnx-int4"]}, "format must be one of .*'onnx-int8-static'.*got 'onnx-int4'"),
        ({"formats": []}, "formats must be some of .*got none"),
        ({"require_agreement": 99}, "require_agreement must be above 0 and at most 1, got 99"),
        ({"keep_layers": "auto"}, "as few layers as require_agreement needs, which is not set"),
    ],
)
def test_settings_that_do_not_fit_are_refused_at_once(settings, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        export_student("nowhere", tmp_path / "e", texts(4), **settings)


def test_the_student_s_own_folder_is_not_written_into(student):
    with pytest.raises(ValueError, match="output_dir must be another folder than the student's"):
        export_student(student, student, texts(4))


def test_the_documented_lines_serve_an_export_without_torch(student, tmp_path):
    rows = texts(20)
    export_student(student, tmp_path / "exports" / "student", rows, formats=["onnx", "onnx-int8"], **QUICK)
    code = re.search(r"```python\n(import json\n.*?)```", DOCS.read_text(), re.DOTALL)[1]
    assert len([line for line in code.splitlines() if line.strip()]) <= 17
    program = (
        code
        + f"\nimport sys\nassert not {{'torch', 'transformers'}} & {{*sys.modules}}\nprint(json.dumps(classify({rows['text'][:]!r})))\n"
    )
    result = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    served = json.loads(result.stdout.splitlines()[-1])
    file = re.search(r"model\w*\.onnx", code)[0]
    by_torch = predicted(tmp_path / "exports" / "student", file, rows)
    assert np.mean([NAMES["label2id"][name] == index for (name, _), index in zip(served, by_torch, strict=True)]) >= 0.9
    assert all(0.5 <= share <= 1 for _, share in served)  # of two classes


def test_agreement_of_dynamic_int8_is_that_of_single_rows_where_it_is_lower(student, monkeypatch, tmp_path):
    sizes = []
    predicted = ExportJob._predicted

    def noted(self, run, rows=None, batch_size=None):
        sizes.append(batch_size)
        found = predicted(self, run, rows, batch_size)
        return found if batch_size is None else replace(found, predictions=np.roll(found.predictions, 1))

    monkeypatch.setattr(ExportJob, "_predicted", noted)
    found = export_student(student, tmp_path / "export", texts(20), formats=("onnx", "onnx-int8"), **QUICK)
    agreements = {row["format"]: row.get("agreement") for row in found["rows"]}
    assert sizes.count(1) == 1 and agreements["onnx"] == 1.0 and agreements["onnx-int8"] < 1.0

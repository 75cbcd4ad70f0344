"""The code of a card runs as it is copied, and prints an answer, for every kind of student."""

from __future__ import annotations

import re

import pytest
import torch
from huggingface_hub import ModelCard
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    PreTrainedTokenizerFast,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessor,
)
from transformers.pipelines import PIPELINE_REGISTRY

from hf_distill import SentenceEncoder
from hf_distill.publishing.model_card import write_model_card
from hf_distill.publishing.run_record import describe_model, schema
from hf_distill.publishing.student_folder import describe_file, with_repository
from hf_distill.publishing.usage import HERE, pipeline_of, usage, widget
from tests.publishing.test_run_record import TRAINING, record

WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "a",
    "text",
    "like",
    "those",
    "it",
    "was",
    "trained",
    "on",
    ".",
    "the",
    "student",
    "by",
    "its",
    "teacher",
]
THREE = {0: "low", 1: "middle's", 2: "high"}
CLASSES = dict(id2label=THREE, label2id={name: index for index, name in THREE.items()})
ADAPTED = ["query", "value"]


def word_tokenizer() -> PreTrainedTokenizerFast:
    made = Tokenizer(models.WordPiece({word: index for index, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = dict(unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]")
    return PreTrainedTokenizerFast(tokenizer_object=made, **names)


def bert(kind: type = BertForSequenceClassification, **options):
    torch.manual_seed(0)
    sizes = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    return kind(BertConfig(vocab_size=len(WORDS), max_position_embeddings=64, **sizes, **options))


def vit(channels: int):
    torch.manual_seed(0)
    sizes = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    return ViTForImageClassification(ViTConfig(image_size=8, patch_size=4, num_channels=channels, **sizes, **CLASSES))


STUDENTS = {
    "text classification": (lambda: bert(**CLASSES), {}, {}),
    "text pairs": (lambda: bert(**CLASSES), {}, {"text_pairs": True}),
    "regression": (lambda: bert(num_labels=1), {"problem_type": "regression"}, {}),
    "multi-label": (lambda: bert(**CLASSES), {"problem_type": "multi_label_classification"}, {}),
    "token classification": (lambda: bert(BertForTokenClassification, **CLASSES), {}, {}),
    "question answering": (lambda: bert(BertForQuestionAnswering), {}, {}),
    "masked words": (lambda: bert(BertForMaskedLM), {"mask_token": "[MASK]"}, {}),
    "encoder to fine-tune": (lambda: bert(BertForMaskedLM), {"mask_token": "[MASK]", "has_trained_head": False}, {}),
    "images": (lambda: vit(3), {"num_channels": 3, "image_size": 8}, {}),
    "gray images": (lambda: vit(1), {"num_channels": 1, "image_size": 8}, {}),
}
EXPECTED = {
    "regression": "'score'",
    "token classification": "entity_group",
    "multi-label": "middle's",
    "masked words": "token_str",
    "encoder to fine-tune": "tensor",
    "gray images": "tensor",
}


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_the_code_of_a_sentence_encoder_s_card_prints_similarities(tmp_path, capsys, pooling):
    pytest.importorskip("sentence_transformers")
    save(tmp_path, SentenceEncoder.from_model(bert(), pooling), {}, {})
    similarities = [float(each) for each in re.findall(r"[\d.]+", printed_by(tmp_path, capsys).replace("tensor", ""))]
    assert len(similarities) == 4 and similarities[0] == pytest.approx(1, abs=1e-4)
    content = ModelCard.load(tmp_path / "README.md").data.to_dict()
    assert content["library_name"] == "sentence-transformers" and content["pipeline_tag"] == "sentence-similarity"
    assert {"sentence-transformers", "feature-extraction", "sentence-similarity"} <= set(content["tags"])


def printed_by(folder, capsys, **namespace) -> str:
    (code,) = re.findall(r"```python\n(.*?)\n```", (folder / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    capsys.readouterr()
    exec(code.replace(HERE, str(folder)), namespace)
    return capsys.readouterr().out


def save(folder, model, told, data, **options):
    model.save_pretrained(folder)
    (ViTImageProcessor(size={"height": 8, "width": 8}) if "image_size" in told else word_tokenizer()).save_pretrained(
        folder
    )
    described = describe_model(model.get_base_model() if hasattr(model, "get_base_model") else model)
    record(student=described | told, data=data, training=TRAINING).save(folder)
    write_model_card(folder)


@pytest.mark.parametrize("kind", STUDENTS)
def test_the_code_of_a_card_runs_and_prints_an_answer(kind, tmp_path, capsys):
    make, told, data = STUDENTS[kind]
    save(tmp_path, make(), told, data)
    printed = printed_by(tmp_path, capsys)
    assert printed.strip() and EXPECTED.get(kind, "") in printed, printed
    assert kind != "multi-label" or printed.count("'label'") == 3


@pytest.mark.parametrize(
    "kind", ["text classification", "regression", "token classification", "question answering", "images"]
)
def test_the_code_of_an_adapter_s_card_runs_with_its_base(kind, tmp_path, capsys):
    peft = pytest.importorskip("peft")
    make, told, data = STUDENTS[kind]
    base = make()
    base.config.id2label = {0: "LABEL_0", 1: "LABEL_1"}  # it had another head
    base.base_model.save_pretrained(tmp_path / "base")
    model = make()
    model.config._name_or_path = model.name_or_path = str(tmp_path / "base")
    head = "qa_outputs" if kind == "question answering" else "classifier"
    adapted = peft.get_peft_model(
        model,
        peft.LoraConfig(
            r=2,
            target_modules=["query", "q_proj", "value"],
            modules_to_save=[head],
            base_model_name_or_path=str(tmp_path / "base"),
        ),
    )
    save(tmp_path / "student", adapted, told | {"adapter": {"type": "LORA", "base": "base"}}, data)
    printed = printed_by(tmp_path / "student", capsys)
    assert printed.strip(), printed
    if kind == "text classification":
        assert any(name in printed for name in THREE.values())


def test_code_names_what_it_is_told_and_nothing_else():
    student = {"architecture": 'x")\nimport os\n#ForQuestionAnswering', "labels": ['")\nimport os']}
    assert "import os" not in usage(student, {})
    adapted = student | {"architecture": "XForSequenceClassification", "adapter": {"type": "LORA"}}
    assert "\nimport os" not in usage(adapted, {})
    assert usage({"architecture": "BertModel"}, {}) is None


def test_the_hub_is_not_told_that_an_untrained_head_fills_masks():
    make, told, data = STUDENTS["encoder to fine-tune"]
    student = describe_model(make()) | told
    assert pipeline_of(student) == "feature-extraction" and widget(student, data) == []
    assert pipeline_of(student | {"has_trained_head": True}) == pipeline_of(describe_model(make())) == "fill-mask"


@pytest.mark.parametrize("kind", [kind for kind in STUDENTS if "images" not in kind and "encoder" not in kind])
def test_there_are_two_examples_for_the_page_on_the_hub(kind):
    make, told, data = STUDENTS[kind]
    shown = widget(describe_model(make()) | told, data)
    assert len(shown) == 2 and all(each["text"] for each in shown)
    assert ("[MASK]" in shown[0]["text"]) == (kind == "masked words")


def test_published_code_names_the_repository(tmp_path):
    make, told, data = STUDENTS["text classification"]
    save(tmp_path, make(), told, data)
    own = describe_file(tmp_path / "README.md")
    sent = with_repository(own, "alice/tiny")
    assert b'pipeline("text-classification", "alice/tiny")' in sent.read() and HERE.encode() not in sent.read()
    assert own.content is None and HERE.encode() in own.path.read_bytes() and sent.size == len(sent.read())
    assert with_repository(sent, "bob/other") is sent


def test_every_task_of_transformers_may_be_said_in_a_card():
    known = schema()["properties"]["card"]["properties"]["pipeline_tag"]["enum"]
    assert not set(PIPELINE_REGISTRY.get_supported_tasks()) - set(known)

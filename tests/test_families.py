"""What the table of architectures in docs/students.md says of each, cell by cell."""

import functools
import re
from pathlib import Path

import datasets
import pytest
import torch

from hf_distill import DistillationTrainer, create_student
from hf_distill.graphs.export import export_onnx, traced_inputs
from hf_distill.graphs.runner import GraphRunner
from hf_distill.pruning import trim_vocabulary, vocabulary_map
from hf_distill.recipes import RECIPES
from tests.tiny_architectures import tiny_model
from tests.tiny_tokenizers import random_texts, tiny_tokenizer

KINDS = {"roberta": "BPE of bytes", "modernbert": "BPE of bytes"} | dict.fromkeys(
    ["xlm-roberta", "albert", "deberta-v2"], "Unigram"
)
TEXTS = random_texts(8, seed=1)
OF_LOGITS_AND_STATES = {"pre_trained_distillation", "vanilla_kd", "distilbert", "patient_kd"}


def table():
    """The cells of each architecture, by the names of the columns."""
    text = (Path(__file__).parents[1] / "docs" / "students.md").read_text(encoding="utf-8")
    lines = [line for line in text.partition("## Architectures")[2].splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if "---" not in line]
    return {row[0].strip("`"): dict(zip(rows[0], row, strict=True)) for row in rows[1:]}


FAMILIES = table()
each_family = pytest.mark.parametrize("family", FAMILIES)


@functools.cache
def tokenizer_of(family):
    return tiny_tokenizer(KINDS.get(family, "WordPiece"))


def model_of(family, seed=0, **config):
    tokenizer = tokenizer_of(family)
    config |= {"embedding_size": 4} if family == "electra" else {}
    size = dict(vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id)
    return tiny_model(family, "SequenceClassification", seed, **size | config)


def inputs(tokenizer, model, texts=TEXTS):
    return traced_inputs(model, tokenizer(texts, padding=True, return_tensors="pt"), tokenizer)


def logits(model, batch):
    with torch.no_grad():
        return model.eval()(**batch).logits


def test_the_table_has_every_family_of_encoders_that_the_tests_have():
    assert len(FAMILIES) == 10 and all(len(cells) == 7 for cells in FAMILIES.values())


@each_family
def test_fewer_layers(family):
    teacher, cell = model_of(family), FAMILIES[family]["fewer layers"]
    for layers in ("bottom", "uniform", "top"):
        if (cell, layers) == ("from the first", "top"):
            with pytest.raises(ValueError, match=r"attn_norm.*\('bottom' always fits\)"):
                create_student("2/16", teacher, "truncated", layers=layers)
            continue
        student = create_student("2/16", teacher, "truncated", layers=layers)
        assert student.config.num_hidden_layers == 2
        assert logits(student, inputs(tokenizer_of(family), student)).isfinite().all()


@each_family
def test_narrower(family):
    teacher, cell = model_of(family), FAMILIES[family]["narrower"]
    if cell == "no":
        with pytest.raises(ValueError, match=rf"the units of {family} models"):
            create_student("2/8", teacher, "width")
        return
    student = create_student("2/8", teacher, "width")
    assert student.config.hidden_size == 8 and student.num_parameters() < teacher.num_parameters()
    assert logits(student, inputs(tokenizer_of(family), student)).isfinite().all()
    assert cell == "yes" or (cell == "whole heads" and student.config.num_attention_heads == 1)


@each_family
def test_fewer_tokens(family):
    model, tokenizer = model_of(family), tokenizer_of(family)
    smaller, trimmed = trim_vocabulary(model, tokenizer, TEXTS)
    before, after = inputs(tokenizer, model), inputs(trimmed, smaller)
    assert FAMILIES[family]["fewer tokens"] == "yes" and len(trimmed) < len(tokenizer)
    assert torch.equal(vocabulary_map(trimmed, tokenizer)[after["input_ids"]], before["input_ids"])
    torch.testing.assert_close(logits(smaller, after), logits(model, before), rtol=0, atol=1e-6)


def trainer_for(family, recipe, arguments):
    tokenizer = tokenizer_of(family)
    rows = [{**tokenizer(text), "labels": row % 2} for row, text in enumerate(TEXTS)]
    args = arguments(recipe=recipe, max_steps=1, per_device_train_batch_size=len(TEXTS))
    return DistillationTrainer(
        model_of(family, 1), args, train_dataset=datasets.Dataset.from_list(rows), processing_class=tokenizer,
        teacher_model=model_of(family),
    )  # fmt: skip


@pytest.mark.parametrize("recipe", sorted(set(RECIPES) - {"embedding"}))  # which is for sentence encoders
@each_family
def test_recipes(family, recipe, arguments):
    column = "logits, hidden states" if recipe in OF_LOGITS_AND_STATES else "attention, relations"
    if FAMILIES[family][column] == "no":
        name = type(model_of(family)).__name__
        with pytest.raises(ValueError, match=rf"{re.escape(name)} handed over no queries, keys and values"):
            trainer_for(family, recipe, arguments)
        return
    trainer = trainer_for(family, recipe, arguments)
    before = trainer.model.get_input_embeddings().weight.detach().clone()
    assert 0 < trainer.train().training_loss < float("inf")
    assert not torch.equal(trainer.model.get_input_embeddings().weight, before)


@each_family
def test_onnx(family, tmp_path):
    model, tokenizer = model_of(family), tokenizer_of(family)
    export_onnx(model, inputs(tokenizer, model, TEXTS[:2]), tmp_path / "model.onnx")
    batch = inputs(tokenizer, model)
    assert FAMILIES[family]["ONNX"] == "yes"
    torch.testing.assert_close(
        GraphRunner(tmp_path / "model.onnx")(batch)["logits"], logits(model, batch), rtol=1e-4, atol=1e-5
    )

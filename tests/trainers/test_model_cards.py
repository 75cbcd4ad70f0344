"""Every trainer leaves a record as the schema says, and the card that Trainer's own methods write is rendered from it."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from datasets import Dataset
from huggingface_hub import ModelCard
from tokenizers import processors
from transformers import TrainerCallback

from hf_distill import (
    DistillationTrainer,
    ProgressiveTrainer,
    ProgressiveTrainingArguments,
    PruningDistillTrainer,
    PruningDistillTrainingArguments,
)
from hf_distill.publishing.run_record import RunRecord, schema
from hf_distill.trainers import model_cards
from hf_distill.trainers.callbacks import reads_pairs
from tests.tiny_models import tiny_bert


@pytest.fixture
def trained(student, teacher, arguments, sentences, tokenizer):
    """A trainer after two steps; keywords are arguments."""

    def make(**options):
        callbacks = options.pop("callbacks", None)
        trainer = DistillationTrainer(
            student, arguments(max_steps=2, **options), train_dataset=sentences, eval_dataset=sentences,
            processing_class=tokenizer, teacher_model=teacher, callbacks=callbacks,
        )  # fmt: skip
        trainer.train()
        return trainer

    return make


def test_records_of_all_trainers_are_as_the_schema_says(trained, teacher, sentences, tokenizer, tmp_path):
    trainer = trained()
    trainer.evaluate()
    for step in (1, 2):
        teacher.save_pretrained(tmp_path / "teacher" / f"checkpoint-{step}")
    common = dict(max_steps=2, report_to="none", use_cpu=True, disable_tqdm=True, bf16=False)
    steps = ProgressiveTrainingArguments(
        str(tmp_path / "steps"), teacher_checkpoints=[str(tmp_path / "teacher")], final_stage_steps=1, **common
    )
    ProgressiveTrainer(tiny_bert(), steps, train_dataset=sentences, processing_class=tokenizer).train()
    prune = PruningDistillTrainingArguments(str(tmp_path / "prune"), target_hidden_size=16, pruning_events=1, **common)
    pruning = PruningDistillTrainer(
        tiny_bert(32), prune, train_dataset=sentences, processing_class=tokenizer, teacher_model=tiny_bert(32)
    )
    pruning.train()
    for folder, name in ((trainer.args.output_dir, "Distillation"), (tmp_path / "steps", "Progressive"),
                         (tmp_path / "prune", "PruningDistill")):  # fmt: skip
        record = RunRecord.load(folder)  # validates
        assert record.trainer == f"{name}Trainer" and record.training["steps"] >= 1
        assert record.student["saved_as"] == Path(folder).name and "text_pairs" not in record.data
        assert record.data["train_examples"] == len(sentences) and record.data["train_fingerprint"]
        assert record.git is None or len(record.git["commit"]) == 40
    assert RunRecord.load(trainer.args.output_dir).data["eval_examples"] == len(sentences)
    assert set(vars(record)) == set(schema()["properties"])


def test_the_card_of_a_trainer_is_ours(trained):
    trainer = trained()
    trainer.evaluate()
    trainer.create_model_card(
        language="en", license="mit", tags="mine", model_name="My student", finetuned_from="org/base",
        dataset_tags="org/data", dataset="data",
    )  # fmt: skip
    card = ModelCard.load(f"{trainer.args.output_dir}/README.md")
    data = card.data
    assert (data.language, data.license, data.base_model) == ("en", "mit", "org/base")
    assert data.tags == ["hf_distill", "knowledge-distillation", "mine"] and data.datasets == "org/data"
    assert data.pipeline_tag == "text-classification" and "# My student" in card.text
    assert "soft labels (`forward_kl`" in card.text and "teacher agreement" in card.text
    trainer.create_model_card()  # what was said before is kept
    assert ModelCard.load(f"{trainer.args.output_dir}/README.md").data.license == "mit"


def test_values_that_the_hub_would_refuse_are_said(trained, monkeypatch):
    said = []
    monkeypatch.setattr(model_cards.logger, "warning", said.append)
    trained().create_model_card(language="english", license="mitt")
    assert [bool(re.search(each, text)) for each, text in zip(("'mit'", "'en'"), said, strict=True)] == [True, True]


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_pairs_of_texts_are_told_by_their_tokens(kind, tokenizer):
    post_processors = {
        "bert": processors.BertProcessing(("w3", 3), ("w2", 2)),
        "roberta": processors.RobertaProcessing(("w3", 3), ("w2", 2)),
    }
    tokenizer.backend_tokenizer.post_processor = post_processors[kind]
    tokenizer.add_special_tokens({"cls_token": "w2", "sep_token": "w3"})
    for texts, is_pair in ((["w5 w6"], False), (["w5 w6", "w7"], True)):
        inputs = dict(tokenizer(*([text] for text in texts)))
        assert reads_pairs(tokenizer, Dataset.from_dict(inputs)) is is_pair
        inputs.pop("token_type_ids", None)
        assert reads_pairs(tokenizer, Dataset.from_dict(inputs)) is is_pair
    assert reads_pairs(tokenizer, None) is reads_pairs(None, Dataset.from_dict(inputs)) is False


def test_push_to_hub_writes_it_too(trained, monkeypatch):
    trainer = trained()
    uploaded = {}
    monkeypatch.setattr(trainer, "init_hf_repo", lambda **options: setattr(trainer, "hub_model_id", "me/student"))
    api = SimpleNamespace(upload_folder=lambda **options: uploaded.update(options))
    monkeypatch.setattr("hf_distill.trainers.pushing.hf_api", lambda: api)
    trainer.push_to_hub(license="mit", tags=["mine"])
    card = ModelCard.load(f"{uploaded['folder_path']}/README.md")
    assert card.data.license == "mit" and "mine" in card.data.tags and "distilled from" in card.text


def test_a_model_that_was_not_trained_gets_trainer_s_card(student, arguments, sentences):
    trainer = DistillationTrainer(student, arguments(), eval_dataset=sentences)
    trainer.create_model_card(license="mit")
    text = ModelCard.load(f"{trainer.args.output_dir}/README.md").content
    assert "license: mit" in text and "generated_from_trainer" in text


def test_measured_emissions_are_told(trained):
    class Measured(TrainerCallback):
        """As transformers' CodeCarbonCallback."""

        tracker = SimpleNamespace(final_emissions=0.00123)

    trainer = trained(callbacks=[Measured()])
    trainer.create_model_card()
    record = RunRecord.load(trainer.args.output_dir)
    assert record.training["co2_eq_grams"] == pytest.approx(1.23)
    card = ModelCard.load(f"{trainer.args.output_dir}/README.md")
    assert card.data.co2_eq_emissions["emissions"] == pytest.approx(1.23) and "1.23 g CO₂" in card.text

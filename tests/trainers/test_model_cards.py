"""Every trainer leaves a record as the schema says, and the card that Trainer's own methods write is rendered from it."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
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
from hf_distill.trainers import publishing_trainer
from hf_distill.trainers.callbacks import reads_pairs, short_log
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
    monkeypatch.setattr(publishing_trainer.logger, "warning", said.append)
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
    monkeypatch.setattr("hf_distill.trainers.publishing_trainer.hf_api", lambda: api)
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


def test_a_record_tells_batch_optimizer_schedule_and_a_short_log(trained):
    trainer = trained(
        logging_steps=1, eval_strategy="steps", eval_steps=1, per_device_train_batch_size=3, gradient_accumulation_steps=2,
        lr_scheduler_type="cosine", report_to="none",
    )  # fmt: skip
    training = RunRecord.load(trainer.args.output_dir).training
    assert training["settings"] == {
        "learning_rate": trainer.args.learning_rate, "per_device_train_batch_size": 3, "gradient_accumulation_steps": 2,
        "train_batch_size": 6, "optimizer": "AdamW (betas 0.9 and 0.999, epsilon 1e-08)", "lr_scheduler_type": "cosine",
        "precision": "float32",
    }  # fmt: skip
    assert [entry["step"] for entry in training["log"]] == [1, 2]
    assert {"loss", "eval_loss", "eval_teacher_agreement"} <= set(training["log"][0])
    trainer.create_model_card()
    text = ModelCard.load(f"{trainer.args.output_dir}/README.md").text
    log = text.partition("### Training log\n\n")[2]
    assert "| step | loss | validation loss |" in log and "\n| 2 | " in log and "| optimizer | AdamW (" in text
    assert (
        "`lr_scheduler_type` | `cosine`" in text
        and "| examples of an optimizer step | 6 |" in text
        and "| precision | float32 |" in text
    )
    assert (
        "logging_steps" not in text.partition("### Reproduce")[0] and "report_to" not in text.partition("### Repr")[0]
    )


def test_own_optimizers_are_recorded_as_they_were(trained, student, teacher, arguments, sentences, tokenizer):
    optimizer = torch.optim.SGD(student.parameters(), lr=0.25)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    trainer = DistillationTrainer(
        student, arguments(max_steps=1), train_dataset=sentences, processing_class=tokenizer, teacher_model=teacher,
        optimizers=(optimizer, schedule),
    )  # fmt: skip
    trainer.train()
    settings = RunRecord.load(trainer.args.output_dir).training["settings"]
    assert (settings["optimizer"], settings["lr_scheduler_type"], settings["learning_rate"]) == ("SGD", "StepLR", 0.25)


def test_a_log_is_short_and_ends_with_the_last_step():
    history = [{"step": step, "loss": 1 / step, "learning_rate": 0.1} for step in range(1, 100)]
    log = short_log(history)
    assert len(log) == 10 and (log[0]["step"], log[-1]["step"]) == (1, 99) and set(log[0]) == {"step", "loss"}
    evaluated = [{"step": step, "eval_loss": 0.5, "eval_runtime": 1.0, "eval_accuracy": 0.1} for step in (10, 50)]
    log = short_log([*history, *evaluated, {"step": 99, "train_runtime": 3.0}])
    assert [entry["step"] for entry in log] == [10, 50] and set(log[0]) == {
        "step",
        "loss",
        "eval_loss",
        "eval_accuracy",
    }
    assert short_log([]) == []


@pytest.mark.parametrize("merge", [False, True])
def test_an_adapter_s_card_says_so(merge, teacher, arguments, sentences, tokenizer):
    peft = pytest.importorskip("peft")
    base = tiny_bert(seed=1)
    base.config._name_or_path, base.config._commit_hash = "org/base", "c0ffee"
    adapted = peft.get_peft_model(base, peft.LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query"]))
    options = arguments(max_steps=1, merge_adapters=merge)
    trainer = DistillationTrainer(
        adapted, options, teacher_model=teacher, train_dataset=sentences, processing_class=tokenizer
    )
    trainer.train()
    trainer.save_model()
    trainer.create_model_card()
    card = ModelCard.load(f"{options.output_dir}/README.md")
    told = card.data.library_name, card.data.base_model, card.data.base_model_relation
    assert told == (("transformers", "org/base", "finetune") if merge else ("peft", "org/base", "adapter"))
    is_said = "LORA adapter of [org/base](https://huggingface.co/org/base), which it needs." in card.text
    assert is_said != merge and ("lora" in card.data.tags) != merge and ("PeftModel" in card.text) != merge


def test_a_task_that_the_hub_does_not_know_is_refused_and_nothing_written(trained):
    trainer = trained()
    before = Path(trainer.args.output_dir, "run.json").read_text()
    evil = 'text-classification", "evil/model", trust_remote_code=True)  #'
    with pytest.raises(ValueError, match=r"card\.pipeline_tag must be one of those that run\.json's schema lists, got"):
        trainer.create_model_card(tasks=evil)
    assert Path(trainer.args.output_dir, "run.json").read_text() == before
    trainer.create_model_card(tasks="zero-shot-classification")
    assert 'pipeline("text-classification"' in Path(trainer.args.output_dir, "README.md").read_text()

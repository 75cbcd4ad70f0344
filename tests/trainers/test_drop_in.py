"""Without a teacher, DistillationTrainer is Trainer."""

import inspect

import pytest
import torch
from transformers import BertConfig, BertForMaskedLM, DataCollatorForLanguageModeling, Trainer, TrainingArguments

from hf_distill import DistillationTrainer, DistillationTrainingArguments
from hf_distill.trainers import distillation_arguments
from tests.tiny_models import encoded_sentences, parameters_of, tiny_bert, tiny_tokenizer

TIMING = {"train_runtime", "train_samples_per_second", "train_steps_per_second"}
TIMING |= {name.replace("train", "eval") for name in TIMING}


def logs_of(trainer):
    return [{key: value for key, value in entry.items() if key not in TIMING} for entry in trainer.state.log_history]


def run(trainer_class, tmp_path, make_model, dataset, **keywords):
    torch.manual_seed(0)
    args = TrainingArguments(
        str(tmp_path / trainer_class.__name__),
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        num_train_epochs=2,
        per_device_train_batch_size=4,
        logging_steps=1,
        eval_strategy="epoch",
        save_strategy="no",
        **keywords.pop("args", {}),
    )
    trainer = trainer_class(
        make_model(), args, train_dataset=dataset, eval_dataset=dataset, processing_class=tiny_tokenizer(), **keywords
    )
    trainer.train()
    return trainer


def masked_lm():
    config = BertConfig(
        vocab_size=100, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    return BertForMaskedLM(config)


CASES = {
    "classes": dict(make_model=lambda: tiny_bert(dropout=0.1)),
    "label_smoothing": dict(make_model=lambda: tiny_bert(dropout=0.1), args={"label_smoothing_factor": 0.1}),
    "regression": dict(make_model=lambda: tiny_bert(num_labels=1), labels="float"),
    "multi_label": dict(make_model=lambda: tiny_bert(num_labels=3), labels="multi"),
    "masked_lm": dict(make_model=masked_lm, labels=None, collate="mlm"),
    "compute_loss_func": dict(make_model=lambda: tiny_bert(), loss="own"),
}


@pytest.mark.parametrize("case", CASES)
def test_same_logs_and_same_weights_as_trainer_bit_for_bit(case, tmp_path):
    options = dict(CASES[case])
    dataset = encoded_sentences(29, options.pop("labels", "class"))
    if options.pop("collate", None):
        options["data_collator"] = DataCollatorForLanguageModeling(tiny_tokenizer_with_mask(), mlm_probability=0.3)
    if options.pop("loss", None):
        options["compute_loss_func"] = summed_cross_entropy
    stock, ours = (run(each, tmp_path, dataset=dataset, **options) for each in (Trainer, DistillationTrainer))
    assert logs_of(ours) == logs_of(stock)
    assert torch.equal(parameters_of(ours.model), parameters_of(stock.model))


def summed_cross_entropy(outputs, labels, num_items_in_batch=None):
    return torch.nn.functional.cross_entropy(outputs["logits"], labels, reduction="sum") / num_items_in_batch


def tiny_tokenizer_with_mask():
    tokenizer = tiny_tokenizer()
    tokenizer.mask_token = "w2"
    return tokenizer


def test_takes_what_trainer_takes_in_the_same_positions(student, sentences, tokenizer, tmp_path):
    names = list(inspect.signature(Trainer.__init__).parameters)[1:6]
    assert names == ["model", "args", "data_collator", "train_dataset", "eval_dataset"]
    args = TrainingArguments(str(tmp_path), report_to="none", use_cpu=True)
    collator = object()
    trainer = DistillationTrainer(student, args, lambda rows: collate(rows, tokenizer), sentences, sentences, tokenizer)
    assert trainer.train_dataset is sentences and trainer.processing_class is tokenizer
    with pytest.raises(TypeError, match="no_such_argument"):
        DistillationTrainer(student, args, no_such_argument=collator)


def collate(rows, tokenizer):
    return tokenizer.pad(rows, return_tensors="pt")


def test_plain_training_arguments_distil_with_the_defaults(student, teacher, sentences, tokenizer, tmp_path):
    args = TrainingArguments(
        str(tmp_path), report_to="none", use_cpu=True, max_steps=2, logging_steps=1, save_strategy="no"
    )
    trainer = DistillationTrainer(
        student, args, train_dataset=sentences, processing_class=tokenizer, teacher_model=teacher
    )
    trainer.train()
    assert [term.name for term in trainer.training_objective.terms] == ["soft_label"]
    assert "soft_label_loss" in trainer.state.log_history[0]
    assert trainer.args is args and type(args) is TrainingArguments


@pytest.mark.skipif(torch.accelerator.is_available(), reason="about machines without an accelerator")
@pytest.mark.parametrize("fast", [False, True])
def test_arguments_deviate_from_training_arguments_only_where_they_say_so(tmp_path, monkeypatch, fast):
    monkeypatch.setattr(distillation_arguments, "fast_bfloat16", lambda device: fast)
    ours = DistillationTrainingArguments(str(tmp_path)).to_dict()
    stock = TrainingArguments(str(tmp_path)).to_dict()
    different = {name: ours[name] for name, value in stock.items() if ours[name] != value}
    assert different == ({"bf16": True, "use_cpu": True, "dataloader_pin_memory": False} if fast else {})

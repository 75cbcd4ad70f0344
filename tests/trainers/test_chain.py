"""The trainers below DistillationTrainer, each alone."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import pytest
import torch
from transformers import Trainer, TrainingArguments
from transformers.trainer_utils import set_seed

from hf_distill.trainers.base_trainer import BaseTrainer
from hf_distill.trainers.budget_arguments import BudgetArguments
from hf_distill.trainers.budget_trainer import BudgetTrainer
from hf_distill.trainers.distillation_trainer import DistillationTrainer
from hf_distill.trainers.progressive_trainer import ProgressiveTrainer
from hf_distill.trainers.pruning_distill_trainer import PruningDistillTrainer
from hf_distill.trainers.publishing_trainer import PublishingTrainer
from tests.tiny_models import encoded_sentences, parameters_of, tiny_bert, tiny_tokenizer


@dataclass
class Arguments(BudgetArguments, TrainingArguments):
    """Plain arguments with a budget."""


def trained(kind: type[Trainer], folder, labels=None, **options) -> Trainer:
    set_seed(0)
    rows = encoded_sentences(24)
    if labels is not None:
        rows = rows.remove_columns("labels").add_column("labels", labels)
    arguments = Arguments if issubclass(kind, BudgetTrainer) else TrainingArguments
    defaults = dict(use_cpu=True, report_to="none", disable_tqdm=True, save_strategy="no", max_steps=3, optim="sgd")
    args = arguments(str(folder), **(defaults | dict(learning_rate=0.1, logging_steps=1) | options))
    trainer = kind(tiny_bert(), args, train_dataset=rows, processing_class=tiny_tokenizer())
    trainer.train()
    return trainer


def test_the_chain():
    chain = [PruningDistillTrainer, DistillationTrainer, PublishingTrainer, BudgetTrainer, BaseTrainer, Trainer]
    for lower, upper in itertools.pairwise(chain):
        assert lower.__bases__ == (upper,)
    assert ProgressiveTrainer.__bases__ == (DistillationTrainer,)


@pytest.mark.parametrize("kind", [BaseTrainer, BudgetTrainer, PublishingTrainer])
def test_bit_identical_to_trainer_in_one_piece(kind, tmp_path):
    stock, ours = (trained(each, tmp_path, per_device_train_batch_size=8) for each in (Trainer, kind))
    assert torch.equal(parameters_of(stock.model), parameters_of(ours.model))


@pytest.mark.parametrize("kind", [BaseTrainer, BudgetTrainer, PublishingTrainer])
def test_the_same_gradient_however_a_batch_is_split(kind, tmp_path):
    labels = [-100 if index % 5 in (0, 1) else index % 2 for index in range(24)]  # unequal numbers in the micro-batches
    whole = trained(kind, tmp_path, labels, per_device_train_batch_size=8)
    split = trained(kind, tmp_path, labels, per_device_train_batch_size=2, gradient_accumulation_steps=4)
    torch.testing.assert_close(parameters_of(split.model), parameters_of(whole.model), rtol=1e-4, atol=1e-6)
    stock = trained(Trainer, tmp_path, labels, per_device_train_batch_size=2, gradient_accumulation_steps=4)
    assert not torch.allclose(parameters_of(stock.model), parameters_of(whole.model), rtol=1e-4, atol=1e-6)


def test_no_row_counts_twice_in_evaluation(tmp_path):
    trainer = trained(BaseTrainer, tmp_path, per_device_eval_batch_size=7)
    together = trainer.evaluate(encoded_sentences(10))["eval_loss"]
    trainer.args.per_device_eval_batch_size = 10
    assert trainer.evaluate(encoded_sentences(10))["eval_loss"] == pytest.approx(together, rel=1e-5)


@pytest.mark.parametrize("limit", [dict(max_tokens=200), dict(max_flops=3e6)])
def test_any_training_ends_with_its_budget(limit, tmp_path):
    trainer = trained(BudgetTrainer, tmp_path, per_device_train_batch_size=4, max_steps=-1, **limit)
    ((name, most),) = limit.items()
    cost = trainer.cost()[name.removeprefix("max_")]
    last = 4 * 32 if name == "max_tokens" else 2 * trainer.cost_tracker.step_flops
    assert most <= cost < most + last and trainer.state.global_step > 1
    assert trainer.cost()["student_flops"] > 0 and trainer.cost()["teacher_flops"] == 0
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert logged[-1]["budget_left"] == 0 and logged[0]["budget_left"] > 0


def test_a_training_is_trained_and_evaluated_again(tmp_path):
    trainer = trained(BaseTrainer, tmp_path, per_device_train_batch_size=8)
    before = parameters_of(trainer.model).clone()
    trainer.eval_dataset = encoded_sentences(8)
    trainer.evaluate()
    trainer.train()
    assert not torch.equal(parameters_of(trainer.model), before)

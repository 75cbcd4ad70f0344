"""A student of NaN is never trained to a normal end, nor saved."""

import pytest
import torch
from transformers import TrainerCallback, TrainingArguments

from hf_distill import DistillationTrainer
from hf_distill.trainers.finite_checks import FiniteLossCheck
from tests.tiny_models import encoded_sentences, tiny_bert, tiny_tokenizer


def make(args, **kwargs):
    rows = encoded_sentences(24)
    return DistillationTrainer(tiny_bert(), args, train_dataset=rows, processing_class=tiny_tokenizer(), **kwargs)


class Spoil(TrainerCallback):
    """Makes a weight of the student NaN after a step."""

    def __init__(self, after):
        self.after = after

    def on_step_end(self, args, state, control, model=None, **kwargs):
        if state.global_step == self.after:
            with torch.no_grad():
                model.classifier.bias[0] = float("nan")


@pytest.mark.parametrize("logging_steps", [1, 100])
def test_a_loss_that_is_not_finite_stops_the_run(arguments, tmp_path, logging_steps):
    args = arguments(max_steps=6, save_strategy="steps", save_steps=2, logging_steps=logging_steps)
    trainer = make(args, teacher_model=tiny_bert(seed=1), callbacks=[Spoil(after=3)])
    with pytest.raises(FloatingPointError, match="has not been finite since optimizer step 4"):
        trainer.train()
    assert sorted(path.name for path in (tmp_path / "output").glob("checkpoint-*")) == ["checkpoint-2"]
    assert not (tmp_path / "output" / "run.json").exists()


def test_a_last_step_that_spoils_the_weights(arguments):
    trainer = make(arguments(max_steps=4), teacher_model=tiny_bert(seed=1), callbacks=[Spoil(after=4)])
    with pytest.raises(FloatingPointError, match=r"weights are not finite in 1 parameters \(classifier.bias\)"):
        trainer.train()


def test_a_learning_rate_that_blows_up(arguments):
    with pytest.raises(FloatingPointError, match=r"not (been )?finite"):
        make(arguments(learning_rate=1e30, max_steps=6, hard_label_weight=1.0)).train()


def test_plain_arguments_without_a_teacher_go_on_as_trainer_does(tmp_path):
    args = TrainingArguments(str(tmp_path), max_steps=4, report_to="none", use_cpu=True, save_strategy="no")
    make(args, callbacks=[Spoil(after=2)]).train()


def test_single_overflows_under_fp16_are_tolerated():
    watch = FiniteLossCheck(is_scaled=True)
    for step in range(1, 22):
        watch.add(torch.tensor(float("inf")), step)
        if step == 20:
            watch.require_finite_loss()
    with pytest.raises(FloatingPointError, match="since optimizer step 1,"):
        watch.require_finite_loss()
    watch.add(torch.tensor(1.0), 22)
    watch.require_finite_loss()

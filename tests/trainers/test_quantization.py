"""A student that trains with fake int8: what it computes, what is saved of it, and how it is resumed."""

import copy
import json

import pytest
import torch
from torch import nn
from transformers import AutoModelForSequenceClassification, TrainerCallback

from hf_distill import (
    DistillationTrainer,
    DistillationTrainingArguments,
    FrozenTeacher,
    ProgressiveTrainer,
    ProgressiveTrainingArguments,
    PruningDistillTrainer,
    PruningDistillTrainingArguments,
)
from hf_distill.evaluation.formats import in_format
from hf_distill.publishing.model_card import write_model_card
from hf_distill.publishing.run_record import RunRecord
from hf_distill.quantization import Int8Embedding, Int8Linear, Quantization, set_quantization
from tests.tiny_models import encoded_sentences, named_as_here, parameters_of, tiny_bert, tiny_tokenizer

INSIDE = dict(recipe="tinybert_task")
OWN = {
    "distillation": (DistillationTrainer, DistillationTrainingArguments, {}),
    "hidden states": (DistillationTrainer, DistillationTrainingArguments, INSIDE),
    "progressive": (ProgressiveTrainer, ProgressiveTrainingArguments, dict(final_stage_steps=3, max_temperature=3)),
    "pruning": (
        PruningDistillTrainer,
        PruningDistillTrainingArguments,
        dict(recipe="homodistil", target_hidden_size=16, pruning_events=3),
    ),
}  # fmt: skip
FAKE = {Int8Linear, Int8Embedding}


def teacher_of():
    return tiny_bert(hidden_size=32, layers=2, seed=1)


@pytest.fixture
def quantized(tmp_path):
    """Makes a trainer of a kind; keywords are arguments."""

    def make(kind="distillation", student=None, teacher=None, callbacks=None, init=None, **overrides):
        trainer_class, arguments_class, own = OWN[kind]
        defaults = dict(
            output_dir=str(tmp_path / "output"), report_to="none", disable_tqdm=True, use_cpu=True, bf16=False,
            learning_rate=1e-2, per_device_train_batch_size=8, max_steps=6, save_steps=2, logging_steps=1, quantization="int8",
        )  # fmt: skip
        given = {}
        if kind == "progressive":
            teacher_of().save_pretrained(tmp_path / "teacher" / "checkpoint-1")
            defaults["teacher_checkpoints"] = [str(tmp_path / "teacher")]
        else:
            given["teacher_model"] = teacher_of() if teacher is None else teacher
        if student is None and kind != "pruning" and init is None:
            student = tiny_bert(dropout=0.1)
        return trainer_class(
            student, arguments_class(**named_as_here(defaults | own | overrides)), train_dataset=encoded_sentences(29),
            eval_dataset=encoded_sentences(11), processing_class=tiny_tokenizer(), callbacks=callbacks, model_init=init, **given,
        )  # fmt: skip

    return make


def kinds(model):
    return {type(module) for module in model.modules()}


def logits(model):
    rows = encoded_sentences(11).remove_columns("labels").to_list()
    with torch.no_grad():
        return model.eval()(**tiny_tokenizer().pad(rows, return_tensors="pt")).logits


@pytest.mark.parametrize("kind", OWN)
def test_the_student_computes_in_int8_and_is_saved_as_an_ordinary_model(kind, quantized, tmp_path):
    trainer, exact = quantized(kind), quantized(kind, quantization=None, output_dir=str(tmp_path / "exact"))
    for each in (trainer, exact):
        each.train()
    assert kinds(trainer.model) >= FAKE and not kinds(exact.model) & FAKE
    first, of_exact = (
        next(log["loss"] for log in each.state.log_history if "loss" in log) for each in (trainer, exact)
    )
    assert first != of_exact and first == pytest.approx(of_exact, rel=0.2, abs=0.1)
    trainer.save_model(tmp_path / "saved")
    saved, report = AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved", output_loading_info=True)
    assert not any(report[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert not kinds(saved) & FAKE and all(
        torch.equal(weight, trainer.model.state_dict()[name]) for name, weight in saved.state_dict().items()
    )
    config = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert "quantization_config" not in config and config["architectures"] == ["BertForSequenceClassification"]
    assert not torch.equal(logits(saved), logits(trainer.model))
    set_quantization(saved, Quantization.INT8)
    assert torch.equal(logits(saved), logits(trainer.model))


@pytest.mark.parametrize("kind", ["distillation", "hidden states", "pruning"])
def test_the_teacher_and_the_projections_stay_exact(kind, quantized):
    teacher = teacher_of()
    expected, weights = logits(teacher), parameters_of(teacher).clone()
    trainer = quantized(kind, teacher=teacher)
    trainer.train()
    assert not kinds(teacher) & FAKE and torch.equal(parameters_of(teacher), weights)
    assert torch.equal(logits(trainer.teacher.model), expected)
    if kind == "hidden states":
        assert (
            kinds(trainer.feature_hooks.projections) & {nn.Linear}
            and not kinds(trainer.feature_hooks.projections) & FAKE
        )


def test_a_student_that_was_trained_with_int8_teaches_as_it_is_saved():
    model = tiny_bert()
    expected = logits(model)
    set_quantization(model, Quantization.INT8)
    assert torch.equal(logits(FrozenTeacher(model).model), expected) and not torch.equal(logits(model), expected)


class StopAt(TrainerCallback):
    def __init__(self, step):
        self.step = step

    def on_save(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            raise KeyboardInterrupt


@pytest.mark.parametrize("kind", OWN)
def test_stopped_and_resumed_equals_undisturbed(kind, quantized):
    whole = quantized(kind)
    whole.train()
    with pytest.raises(KeyboardInterrupt):
        quantized(kind, callbacks=[StopAt(4 if kind == "pruning" else 2)]).train()
    resumed = quantized(kind)
    resumed.train(resume_from_checkpoint=True)
    assert kinds(resumed.model) >= FAKE and torch.equal(parameters_of(resumed.model), parameters_of(whole.model))


def test_a_run_is_not_resumed_with_another_number_format(quantized):
    with pytest.raises(KeyboardInterrupt):
        quantized(callbacks=[StopAt(2)]).train()
    with pytest.raises(ValueError, match="quantization is 'int8' there and None now"):
        quantized(quantization=None).train(resume_from_checkpoint=True)


def test_evaluation_is_that_of_int8(quantized):
    trainer = quantized(hard_label_weight=1.0, soft_label_weight=0.0, per_device_eval_batch_size=11)
    labels = torch.tensor(encoded_sentences(11)["labels"])
    found, exact = trainer.evaluate()["eval_loss"], copy.deepcopy(trainer.model)
    assert found == pytest.approx(nn.functional.cross_entropy(logits(trainer.model), labels).item(), rel=1e-5)
    set_quantization(exact, None)
    assert found != pytest.approx(nn.functional.cross_entropy(logits(exact), labels).item(), rel=1e-5)


@pytest.mark.parametrize("kind", ["hidden states", "pruning"])
def test_activation_checkpointing_changes_nothing(kind, quantized, tmp_path):
    trainers = [
        quantized(
            kind, student=None if kind == "pruning" else tiny_bert(), optim="sgd", output_dir=str(tmp_path / str(checkpoints)),
            activation_checkpointing=checkpoints,
        )
        for checkpoints in (False, True)
    ]  # fmt: skip
    for trainer in trainers:
        trainer.train()
    usual, other = (parameters_of(trainer.model) for trainer in trainers)
    torch.testing.assert_close(other, usual, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["hidden states", "pruning"])
def test_it_learns_in_bfloat16_and_is_compared_in_single_precision(kind, quantized, tmp_path):
    trainer = quantized(kind, bf16=True)
    trainer.train()
    assert parameters_of(trainer.model).isfinite().all()
    assert trainer.model.classifier.weight.dtype == torch.float32
    trainer.save_model(tmp_path / "saved")
    saved = AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved")
    rows = encoded_sentences(11).remove_columns("labels").to_list()
    inputs = dict(tiny_tokenizer().pad(rows, return_tensors="pt"))
    assert torch.equal(in_format(trainer.model, "fp32", inputs)(inputs)["logits"], logits(saved))
    assert not torch.equal(logits(trainer.model), logits(saved))


def test_the_record_and_the_card_say_so_and_the_cost_is_the_same(quantized, tmp_path):
    trainer, exact = quantized(), quantized(quantization=None, output_dir=str(tmp_path / "exact"))
    for each in (trainer, exact):
        each.train()
    assert trainer.cost()["flops"] == exact.cost()["flops"] > 0
    record = RunRecord.load(tmp_path / "output")
    assert record.arguments["quantization"] == "int8"
    assert record.training["settings"]["precision"] == "float32, fake int8 in linear layers and embeddings"
    card = write_model_card(tmp_path / "output").read_text(encoding="utf-8")
    assert "computed with the int8 values of an export (`onnx-int8`); the weights are saved in full precision" in card
    assert "quantization" not in RunRecord.load(tmp_path / "exact").arguments
    assert "int8" not in write_model_card(tmp_path / "exact").read_text(encoding="utf-8")


def test_students_of_model_init_compute_in_int8(quantized):
    trainer = quantized(init=lambda: tiny_bert())
    assert kinds(trainer.model) >= FAKE
    first = trainer.model
    trainer.train()
    assert trainer.model is not first and kinds(trainer.model) >= FAKE


def test_a_trainer_without_it_makes_its_student_exact(quantized):
    student = tiny_bert()
    quantized(student=student)
    quantized(student=student, quantization=None)
    assert not kinds(student) & FAKE


@pytest.mark.parametrize("kind", ["distillation", "progressive", "pruning"])
def test_another_number_format_is_refused(kind, quantized):
    with pytest.raises(ValueError, match=r"quantization must be one of .*int8.*got 'int4'"):
        quantized(kind, quantization="int4")

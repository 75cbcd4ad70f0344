"""Every task learns from a teacher: tokens, answers, masked and next words, images."""

import copy

import datasets
import pytest
import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForQuestionAnswering,
    BertForTokenClassification,
    DataCollatorForLanguageModeling,
    DataCollatorForTokenClassification,
    DefaultDataCollator,
    LlamaConfig,
    LlamaForCausalLM,
    Trainer,
    TrainingArguments,
    ViTConfig,
    ViTForImageClassification,
)

from hf_distill import DistillationTrainer, create_student
from hf_distill.objectives.logits import forward_kl
from tests.tiny_models import VOCABULARY, FixedMasks, encoded_sentences, parameters_of, tiny_tokenizer

TEXT = dict(vocab_size=VOCABULARY, num_attention_heads=2, max_position_embeddings=64, initializer_range=0.3)
TEXT |= dict(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)


def bert(kind, hidden_size, layers, seed, **more):
    torch.manual_seed(seed)
    sizes = dict(hidden_size=hidden_size, intermediate_size=2 * hidden_size, num_hidden_layers=layers)
    return kind(BertConfig(**TEXT, **sizes, **more))


def pair(kind, **more):
    return bert(kind, 16, 1, 0, **more), bert(kind, 32, 2, 1, **more)


def token_sentences(rows, labels=True):
    def tags(row):
        return {"labels": [-100, *(token % 3 for token in row["input_ids"][1:])]}

    data = encoded_sentences(rows, labels=None)
    return data.map(tags) if labels else data


def questions(rows):
    data = encoded_sentences(rows, labels=None)
    return data.map(lambda row: {"start_positions": 1, "end_positions": len(row["input_ids"]) - 1})


def images(rows):
    generator = torch.Generator().manual_seed(3)
    pixels = torch.rand(rows, 1, 8, 8, generator=generator)
    data = datasets.Dataset.from_dict({"pixel_values": pixels.tolist(), "labels": [row % 4 for row in range(rows)]})
    return data.with_format("torch")


def vit(hidden_size, seed):
    torch.manual_seed(seed)
    config = ViTConfig(
        image_size=8, patch_size=4, num_channels=1, hidden_size=hidden_size, intermediate_size=2 * hidden_size,
        num_hidden_layers=2, num_attention_heads=2, num_labels=4, initializer_range=0.3, hidden_dropout_prob=0.0,
    )  # fmt: skip
    return ViTForImageClassification(config)


def llama(hidden_size, seed):
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=hidden_size, intermediate_size=2 * hidden_size, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=64, initializer_range=0.3, pad_token_id=0,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def case(task):
    tokenizer = tiny_tokenizer()
    texts = encoded_sentences(29, labels=None)
    return {
        "tokens": lambda: (
            *pair(BertForTokenClassification, num_labels=3),
            token_sentences(29),
            DataCollatorForTokenClassification(tokenizer),
        ),
        "answers": lambda: (*pair(BertForQuestionAnswering), questions(29), PaddedAnswers()),
        "masked_lm": lambda: (*pair(BertForMaskedLM), texts, FixedMasks()),
        "causal_lm": lambda: (llama(16, 0), llama(32, 1), texts, DataCollatorForLanguageModeling(tokenizer, mlm=False)),
        "images": lambda: (vit(16, 0), vit(32, 1), images(29), DefaultDataCollator()),
    }[task]()


class PaddedAnswers:
    """One length for all batches: the head's own loss also counts padding among the wrong answers."""

    def __call__(self, rows):
        return dict(tiny_tokenizer().pad(rows, padding="max_length", max_length=20, return_tensors="pt"))


OF_PREDICTIONS = {"eval_teacher_agreement", "eval_teacher_kl", "eval_hard_label_loss"}
TASKS = ["tokens", "answers", "masked_lm", "causal_lm", "images"]


def trainer_for(arguments, task, **overrides):
    student, teacher, data, collator = case(task)
    args = arguments(learning_rate=5e-3, **overrides)
    return DistillationTrainer(
        student, args, collator, train_dataset=data, eval_dataset=data, teacher_model=teacher,
        processing_class=None if task == "images" else tiny_tokenizer(),
    )  # fmt: skip


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("recipe", ["pre_trained_distillation", "vanilla_kd", "minilmv2", "tinybert_task"])
def test_task_learns(arguments, task, recipe):
    if task == "causal_lm" and recipe == "minilmv2":
        pytest.skip("one key head cannot be split into relation heads of the student's width")
    trainer = trainer_for(arguments, task, recipe=recipe, num_train_epochs=6)
    before = trainer.evaluate()
    trainer.train()
    after = trainer.evaluate()
    assert after["eval_loss"] < before["eval_loss"]
    if (task, recipe) == ("masked_lm", "minilmv2"):  # its head predicts nothing
        assert not OF_PREDICTIONS & after.keys()
    else:
        assert 0 <= after["eval_teacher_agreement"] <= 1 and after["eval_teacher_kl"] > 0


def test_a_head_of_the_teacher_is_evaluated_though_no_term_reaches_it(arguments):
    teacher, data = pair(BertForMaskedLM)[1], encoded_sentences(9, labels=None)
    for start, expected in (("truncated", OF_PREDICTIONS), ("embeddings", set())):
        student = create_student(f"1/{teacher.config.hidden_size}", teacher, start)
        args = arguments(recipe="minilmv2")
        trainer = DistillationTrainer(
            student, args, FixedMasks(), eval_dataset=data, teacher_model=teacher, processing_class=tiny_tokenizer()
        )
        assert OF_PREDICTIONS & trainer.evaluate().keys() == expected, start


@pytest.mark.parametrize("task", TASKS)
def test_task_is_exact_under_accumulation(arguments, task):
    weights = []
    for batch_size, accumulation in ((8, 1), (2, 4)):
        trainer = trainer_for(
            arguments, task, recipe="vanilla_kd", optim="sgd", num_train_epochs=2,
            per_device_train_batch_size=batch_size, gradient_accumulation_steps=accumulation,
        )  # fmt: skip
        trainer.train()
        weights.append(parameters_of(trainer.model))
    torch.testing.assert_close(*weights, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("task", ["tokens", "answers", "masked_lm"])
def test_loss_is_the_formula_over_the_positions_that_count(arguments, task):
    trainer = trainer_for(arguments, task, per_device_eval_batch_size=29)
    batch = trainer._prepare_inputs(next(iter(trainer.get_eval_dataloader())))
    names = trainer.label_names
    inputs = {name: value for name, value in batch.items() if name not in names}
    with torch.no_grad():
        student, teacher = trainer.model.eval()(**inputs), trainer.teacher.model(**inputs)
    if task == "answers":
        valid = batch["attention_mask"].bool()
        rows = range(len(valid))
        values = [
            forward_kl(getattr(student, side)[row, valid[row]], getattr(teacher, side)[row, valid[row]])
            for row in rows
            for side in ("start_logits", "end_logits")
        ]
        expected = torch.stack(values).mean()
    else:
        counted = batch["labels"] != -100
        expected = forward_kl(student.logits[counted], teacher.logits[counted]).mean()
    assert trainer.evaluate()["eval_soft_label_loss"] == pytest.approx(expected.item(), rel=1e-4)


def test_token_task_without_labels_compares_all_but_padding(arguments):
    student, teacher = pair(BertForTokenClassification, num_labels=3)
    trainer = DistillationTrainer(
        student, arguments(max_steps=2), DataCollatorForTokenClassification(tiny_tokenizer()),
        train_dataset=token_sentences(9, labels=False), teacher_model=teacher, processing_class=tiny_tokenizer(),
    )  # fmt: skip
    batch = trainer.data_collator([row for row in trainer.train_dataset])
    assert trainer.training_objective.num_items(batch).tolist() == [batch["attention_mask"].sum().item()]


def test_vocabulary_projection_runs_at_the_masked_positions_only(arguments):
    seen = []
    trainer = trainer_for(arguments, "masked_lm", recipe="vanilla_kd", max_steps=3)
    for model in (trainer.model, trainer.teacher.model):
        model.cls.register_forward_pre_hook(lambda module, args: seen.append(args[0].shape))
    trainer.train()
    assert len(seen) == 6 and all(len(shape) == 2 for shape in seen)
    seen.clear()
    trainer.compute_metrics = lambda evaluation: {"columns": evaluation.predictions.shape[-1]}
    assert trainer.evaluate()["eval_columns"] == VOCABULARY
    assert all(len(shape) == 3 for shape in seen)


def test_masked_positions_give_the_same_training_as_all_positions(arguments, caplog):
    weights = []
    for dense in (False, True):
        trainer = trainer_for(arguments, "masked_lm", recipe="vanilla_kd", optim="sgd", max_steps=5)
        if dense:
            trainer.feature_hooks._heads = []
        trainer.train()
        weights.append(parameters_of(trainer.model))
    torch.testing.assert_close(*weights, rtol=1e-4, atol=1e-6)


def test_masked_words_are_compared_at_all_attended_positions_where_asked(arguments):
    trainer = trainer_for(
        arguments, "masked_lm", recipe="distilbert", soft_label_positions="attended", per_device_eval_batch_size=29
    )
    batch = trainer._prepare_inputs(next(iter(trainer.get_eval_dataloader())))
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    with torch.no_grad():
        student, teacher = trainer.model.eval()(**inputs).logits, trainer.teacher.model(**inputs).logits
    attended, masked = batch["attention_mask"].bool(), batch["labels"] != -100
    found = trainer.evaluate()
    assert found["eval_soft_label_loss"] == pytest.approx(
        forward_kl(student[attended], teacher[attended], 2.0).mean().item(), rel=1e-4
    )
    assert found["eval_teacher_kl"] == pytest.approx(
        forward_kl(student[masked], teacher[masked]).mean().item(), rel=1e-4
    )
    hard_label_loss = torch.nn.functional.cross_entropy(student[masked], batch["labels"][masked])
    assert found["eval_hard_label_loss"] == pytest.approx(hard_label_loss.item(), rel=1e-4)
    counted = trainer.training_objective.num_items(batch).tolist()
    assert counted == [attended.sum().item(), masked.sum().item(), attended.sum().item()]


def test_all_attended_positions_are_exact_under_accumulation(arguments):
    weights = []
    for batch_size, accumulation in ((8, 1), (2, 4)):
        trainer = trainer_for(
            arguments, "masked_lm", recipe="vanilla_kd", soft_label_positions="attended", optim="sgd", max_steps=4,
            per_device_train_batch_size=batch_size, gradient_accumulation_steps=accumulation,
        )  # fmt: skip
        trainer.train()
        weights.append(parameters_of(trainer.model))
    torch.testing.assert_close(*weights, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("task", ["tokens", "images"])
def test_all_attended_positions_are_for_masked_words(arguments, task):
    with pytest.raises(ValueError, match="soft_label_positions 'attended' is for masked-language models; the task is "):
        trainer_for(arguments, task, soft_label_positions="attended")


def test_positions_that_do_not_exist_are_refused(arguments):
    with pytest.raises(ValueError, match=r"soft_label_positions must be one of \['masked', 'attended'\], got 'all'"):
        arguments(soft_label_positions="all")


@pytest.mark.parametrize("plain", [False, True], ids=["distillation_arguments", "plain_arguments"])
def test_without_a_teacher_too_unless_the_arguments_are_plain(arguments, plain, tmp_path):
    student, _, data, collator = case("masked_lm")
    options = dict(max_steps=3, optim="sgd", learning_rate=5e-3, length_bucketing=False)
    args = arguments(hard_label_weight=1.0, **options)
    if plain:
        del options["length_bucketing"]
        args = TrainingArguments(str(tmp_path / "plain"), report_to="none", use_cpu=True, disable_tqdm=True, **options)
    expected = Trainer(copy.deepcopy(student), args, collator, data)
    trainer = DistillationTrainer(student, args, collator, data, eval_dataset=data, processing_class=tiny_tokenizer())
    seen = []
    trainer.model.cls.register_forward_pre_hook(lambda module, args: seen.append(args[0].dim()))
    trainer.train()
    expected.train()
    assert set(seen) == ({3} if plain else {2})
    weights = parameters_of(trainer.model), parameters_of(expected.model)
    assert torch.equal(*weights) if plain else torch.allclose(*weights, rtol=1e-4, atol=1e-6)
    seen.clear()
    trainer.compute_metrics = lambda evaluation: {"columns": evaluation.predictions.shape[-1]}
    assert trainer.evaluate()["eval_columns"] == VOCABULARY and set(seen) == {3}


def test_masked_lm_without_masks_is_refused(arguments):
    student, teacher = pair(BertForMaskedLM)
    trainer = DistillationTrainer(
        student, arguments(max_steps=1), train_dataset=encoded_sentences(9, labels=None), teacher_model=teacher,
        processing_class=tiny_tokenizer(),
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"masked positions, which the labels mark"):
        trainer.train()

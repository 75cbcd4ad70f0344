"""One tokenizer, heads of different sizes: rows that stand for no token are left out, others refused."""

import pytest
import torch
from datasets import Dataset
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    DataCollatorForLanguageModeling,
    DataCollatorForTokenClassification,
    LlamaConfig,
    LlamaForCausalLM,
)

from hf_distill import DistillationTrainer, FrozenTeacher, TeacherOutputs, label_transfer_set
from hf_distill.objectives.logits import forward_kl
from hf_distill.pruning import trim_vocabulary, vocabulary_map
from tests.tiny_models import FixedMasks, encoded_sentences, tiny_tokenizer
from tests.tiny_tokenizers import random_texts
from tests.tiny_tokenizers import tiny_tokenizer as tokenizer_of_kind

SIZES = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, initializer_range=0.3)


def masked(words, seed):
    torch.manual_seed(seed)
    dropout = dict(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    return BertForMaskedLM(BertConfig(vocab_size=words, max_position_embeddings=64, **dropout, **SIZES)).eval()


def causal(words, seed):
    torch.manual_seed(seed)
    return LlamaForCausalLM(LlamaConfig(vocab_size=words, max_position_embeddings=64, **SIZES)).eval()


def with_mask_token():
    tokenizer = tiny_tokenizer()
    tokenizer.mask_token = "w3"
    return tokenizer


def saved(model, folder, tokenizer=None):
    model.save_pretrained(folder)
    (tokenizer or with_mask_token()).save_pretrained(folder)
    return str(folder)


def make(arguments, student, teacher, data=None, collator=None, tokenizer=None, **overrides):
    return DistillationTrainer(
        student, arguments(max_steps=3, **overrides), processing_class=tokenizer or with_mask_token(),
        train_dataset=encoded_sentences(9, labels=None) if data is None else data,
        data_collator=collator or FixedMasks(), teacher_model=teacher,
    )  # fmt: skip


@pytest.mark.parametrize(("own", "theirs"), [(100, 112), (112, 100), (104, 112)])
@pytest.mark.parametrize("kind", [masked, causal])
def test_the_loss_is_that_over_the_words_of_both(arguments, tmp_path, kind, own, theirs):
    student, teacher = kind(own, 0), kind(theirs, 1)
    collator = FixedMasks() if kind is masked else DataCollatorForLanguageModeling(with_mask_token(), mlm=False)
    trainer = make(arguments, student, saved(teacher, tmp_path / "teacher"), collator=collator)
    batch = collator([trainer.train_dataset[index] for index in range(9)])
    labels = batch.pop("labels")
    items = labels != -100
    if kind is causal:
        items = torch.cat([items[:, 1:], torch.zeros_like(items[:, :1])], dim=1)
    with torch.no_grad():
        logits = [model(**batch).logits[..., : min(own, theirs)] for model in (student.eval(), teacher)]
    expected = forward_kl(*logits)[items].mean()
    metrics = trainer.evaluate(trainer.train_dataset.select(range(8)))
    assert metrics["eval_teacher_kl"] > 0
    trainer.args.per_device_eval_batch_size = 9
    torch.testing.assert_close(
        trainer.evaluate(trainer.train_dataset)["eval_teacher_kl"], float(expected), rtol=1e-4, atol=1e-5
    )
    assert trainer.train().training_loss > 0


def test_rows_that_are_tokens_are_not_left_out(arguments, tmp_path):
    more = with_mask_token()
    more.add_tokens(["<user>"])
    teacher = saved(masked(101, 1), tmp_path / "teacher", more)
    with pytest.raises(
        ValueError, match=r"'<user>' has the id 100, but the student \(BertForMaskedLM\) .* of 100 rows"
    ):
        make(arguments, masked(100, 0), teacher, tokenizer=more)


def test_without_a_tokenizer_that_says_so_sizes_must_be_equal(arguments, tmp_path):
    with pytest.raises(ValueError, match=r"vocabulary has 112 tokens, the student's 100.*by name"):
        make(arguments, masked(100, 0), masked(112, 1))
    with pytest.raises(ValueError, match=r"over 112 tokens, the student's over 100, and the tokenizer has 107 tokens"):
        shifted = tiny_tokenizer(shift=7)
        trainer = make(arguments, causal(112, 0), causal(112, 1), tokenizer=shifted,
                       collator=DataCollatorForLanguageModeling(shifted, mlm=False))  # fmt: skip
        trainer.shared_vocabulary.require(student=100, teacher=112)


def test_a_teacher_of_ones_own_is_cut_too(arguments):
    class Own:
        def outputs(self, inputs):
            return TeacherOutputs(torch.zeros(*inputs["input_ids"].shape, 112))

    collator = DataCollatorForLanguageModeling(with_mask_token(), mlm=False)
    assert make(arguments, causal(100, 0), Own(), collator=collator).train().training_loss > 0


def test_recorded_words_are_those_there_are(arguments):
    rows, tokenizer = encoded_sentences(9, labels=None), with_mask_token()
    teacher = masked(112, 1)
    with torch.no_grad():
        teacher.cls.predictions.bias[100:] += 20.0  # the likeliest are no tokens
    labeled = label_transfer_set(
        rows, FrozenTeacher(teacher), DataCollatorForLanguageModeling(tokenizer), disable_tqdm=True, top_k=8
    )
    assert max(word for row in labeled["teacher_classes"] for item in row for word in item) < 100
    assert make(arguments, masked(100, 0), None, labeled, DataCollatorForTokenClassification(tokenizer)).train()
    beyond = [[[104] * 8 for _ in row] for row in labeled["teacher_classes"]]
    wrong = labeled.remove_columns("teacher_classes").add_column("teacher_classes", beyond)
    with pytest.raises(ValueError, match=r"row 0 of train_dataset hold token id 104, but the student has 100"):
        make(arguments, masked(100, 0), None, wrong, DataCollatorForTokenClassification(tokenizer))


def test_columns_of_other_kinds_are_left_alone(arguments):
    rows = Dataset.from_dict({"input_ids": [[5, 6, 7]] * 4, "attention_mask": [[1] * 3] * 4})
    assert make(arguments, masked(100, 0), masked(100, 1), rows).train()


@pytest.mark.parametrize("theirs", ["all tokens", "another trim"])
def test_teacher_and_student_with_different_trims_of_one_vocabulary(arguments, theirs):
    """The trimmed teacher itself as the student: over the student's tokens both are the same model."""
    tokenizer, texts = tokenizer_of_kind("Unigram"), random_texts(9, seed=1)
    teacher = masked(len(tokenizer), 1)
    student, trimmed = trim_vocabulary(teacher, tokenizer, texts)
    if theirs == "another trim":
        teacher, tokenizer = trim_vocabulary(teacher, tokenizer, [*texts, *random_texts(9, seed=2)])
    assert len(trimmed) < len(tokenizer) == teacher.config.vocab_size
    with pytest.raises(ValueError, match=r"pass FrozenTeacher\(teacher, token_ids=vocabulary_map"):
        make(arguments, student, teacher, collator=DataCollatorForLanguageModeling(trimmed), tokenizer=trimmed)
    frozen = FrozenTeacher(teacher, "float32", token_ids=vocabulary_map(trimmed, tokenizer))
    rows = Dataset.from_dict(dict(trimmed(texts)))
    trainer = make(arguments, student, frozen, rows, DataCollatorForLanguageModeling(trimmed), trimmed)
    assert abs(trainer.evaluate(rows)["eval_teacher_kl"]) < 1e-6
    labeled = label_transfer_set(
        rows, frozen, DataCollatorForLanguageModeling(trimmed), disable_tqdm=True, top_k=8, processing_class=trimmed
    )
    assert trainer.train().training_loss >= 0
    assert make(arguments, student, None, labeled, DataCollatorForTokenClassification(trimmed), trimmed).train()
    inputs = trimmed(texts, padding=True, return_tensors="pt")
    expected = teacher(**tokenizer(texts, padding=True, return_tensors="pt")).logits[..., frozen.token_ids]
    torch.testing.assert_close(frozen.outputs(inputs).logits, expected.detach(), rtol=0, atol=1e-6)
    assert frozen.identity() != FrozenTeacher(teacher, "float32").identity()


def test_token_ids_of_a_classifier_and_wrong_ones():
    torch.manual_seed(0)
    model = BertForSequenceClassification(BertConfig(vocab_size=9, **SIZES)).eval()
    inputs = {"input_ids": torch.tensor([[0, 2, 1]])}
    logits = FrozenTeacher(model, "float32", token_ids=[4, 8, 5]).outputs(inputs).logits
    torch.testing.assert_close(logits, model(torch.tensor([[4, 5, 8]])).logits.detach())
    with pytest.raises(ValueError, match=r"token_ids must be from 0 to 8, got 3 to 9"):
        FrozenTeacher(model, "float32", token_ids=[3, 9])

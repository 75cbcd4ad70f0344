"""A teacher answers, and nothing else ever happens to it."""

from dataclasses import dataclass

import pytest
import torch
from transformers import AutoModelForSequenceClassification, TrainerCallback

from hf_distill import DistillationTrainer, FrozenTeacher, TeacherOutputs, label_transfer_set
from hf_distill.fingerprints import weights_sha256
from hf_distill.teachers import frozen
from tests.tiny_models import encoded_sentences, parameters_of, tiny_bert


class LooksAtTheTeacher(TrainerCallback):
    """Asserts at every step and after every evaluation that the teacher is frozen."""

    looks = 0

    def __init__(self, teacher):
        self.teacher = teacher

    def on_step_end(self, args, state, control, optimizer=None, **kwargs):
        self.looks += 1
        assert not self.teacher.training
        assert not any(parameter.requires_grad or parameter.grad is not None for parameter in self.teacher.parameters())
        optimized = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        assert not optimized & {id(parameter) for parameter in self.teacher.parameters()}

    def on_evaluate(self, args, state, control, **kwargs):
        assert not self.teacher.training


def test_teacher_is_the_same_after_training_and_is_not_saved(arguments, student, sentences, tokenizer, tmp_path):
    teacher = tiny_bert(hidden_size=32, layers=2, seed=1, dropout=0.5).train()
    before, watcher = weights_sha256(teacher), LooksAtTheTeacher(teacher)
    args = arguments(eval_strategy="steps", eval_steps=2, max_steps=6, save_strategy="steps", save_steps=6)
    trainer = DistillationTrainer(
        student, args, train_dataset=sentences, eval_dataset=sentences, processing_class=tokenizer,
        teacher_model=teacher, callbacks=[watcher],
    )  # fmt: skip
    trainer.train()
    assert watcher.looks == 6 and weights_sha256(teacher) == before
    trainer.save_model(tmp_path / "saved")
    saved, report = AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved", output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    assert torch.equal(parameters_of(saved), parameters_of(student))


def test_teacher_answers_without_dropout_and_without_gradient(student, sentences, tokenizer):
    teacher = FrozenTeacher(tiny_bert(dropout=0.5).train())
    batch = tokenizer.pad(sentences.to_list(), return_tensors="pt")
    first, second = teacher.outputs(batch).logits, teacher.outputs(batch).logits
    assert torch.equal(first, second) and not first.requires_grad and not first.is_inference()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_teacher_dtype(dtype, arguments, student, teacher, sentences, tokenizer):
    trainer = DistillationTrainer(
        student, arguments(teacher_dtype=dtype), train_dataset=sentences, processing_class=tokenizer,
        teacher_model=teacher,
    )  # fmt: skip
    assert trainer.teacher.dtype == getattr(torch, dtype)
    assert next(teacher.parameters()).dtype == torch.float32, "the model passed in keeps its own precision"
    batch = tokenizer.pad(sentences.remove_columns("labels").to_list(), return_tensors="pt")
    torch.testing.assert_close(trainer.teacher.outputs(batch).logits, teacher(**batch).logits, rtol=0.1, atol=0.1)
    trainer.train()


def test_auto_dtype_is_bfloat16_only_where_fast_and_harmless(monkeypatch, sentences, tokenizer):
    batch = tokenizer.pad(sentences.remove_columns("labels").to_list(), return_tensors="pt")

    def settled(scale, fast, offset=0.0):
        monkeypatch.setattr(frozen, "fast_bfloat16", lambda device: fast)
        model = tiny_bert(seed=3)
        with torch.no_grad():
            model.classifier.weight.mul_(scale)
            model.classifier.bias.add_(offset)
        teacher = FrozenTeacher(model)
        teacher.resolve_dtype(batch)
        return teacher.dtype

    assert settled(scale=0.1, fast=True) == torch.bfloat16
    assert settled(scale=0.1, fast=False) == torch.float32
    assert settled(scale=8.0, fast=True) == torch.bfloat16, "a few probabilities that move by more than 0.02 do no harm"
    assert settled(scale=1.0, fast=True, offset=300.0) == torch.float32, "bfloat16 has steps of 2 there"


@pytest.mark.parametrize(
    ("rows", "others", "same"), [(128, 1, True), (128, 2, False), (1000, 5, True), (1000, 6, False)]
)
def test_one_prediction_or_one_of_200_may_be_another(rows, others, same):
    reference = torch.tensor([[0.05, 0.0]]).repeat(rows, 1)  # probabilities of 0.512 and 0.488: decided, but hardly
    candidate = reference.clone()
    candidate[:others] = candidate[:others].flip(1)
    assert frozen._same_predictions(reference, candidate, None) is same


def test_teacher_given_by_path(arguments, student, teacher, sentences, tokenizer, tmp_path):
    teacher.save_pretrained(tmp_path / "teacher")
    tokenizer.save_pretrained(tmp_path / "teacher")
    args = arguments(teacher_model_init_kwargs='{"attn_implementation": "eager"}')
    trainer = DistillationTrainer(
        student, args, train_dataset=sentences, processing_class=tokenizer, teacher_model=str(tmp_path / "teacher")
    )
    assert trainer.teacher.model.config._attn_implementation == "eager"
    assert torch.equal(parameters_of(trainer.teacher.model), parameters_of(teacher))
    trainer.train()


def test_labels_are_aligned_by_name(arguments, sentences, tokenizer):
    names = {0: "bad", 1: "good"}, {0: "GOOD", 1: "BAD"}
    student, teacher = (
        tiny_bert(seed=5, id2label=id2label, label2id={label: index for index, label in id2label.items()})
        for id2label in names
    )
    trainer = DistillationTrainer(
        student, arguments(), train_dataset=sentences, processing_class=tokenizer, teacher_model=teacher
    )
    batch = tokenizer.pad(sentences.remove_columns("labels").to_list(), return_tensors="pt")
    torch.testing.assert_close(trainer.teacher.outputs(batch).logits, teacher(**batch).logits.flip(-1))


@pytest.mark.parametrize("names", [["crane", "sparrow", "crane"], ["a", "A", "b"], ["it", "IT", "it"]], ids=str)
def test_labels_of_one_name_or_of_one_but_for_case_stay_where_they_are(arguments, sentences, tokenizer, names):
    labels = {"id2label": dict(enumerate(names)), "label2id": {name: index for index, name in enumerate(names)}}
    student, teacher = tiny_bert(seed=5, **labels), tiny_bert(seed=5, **labels)
    texts = sentences.remove_columns("labels")
    trainer = DistillationTrainer(
        student,
        arguments(),
        train_dataset=texts,
        eval_dataset=texts,
        processing_class=tokenizer,
        teacher_model=teacher,
    )
    metrics = trainer.evaluate()
    assert metrics["eval_teacher_agreement"] == 1 and metrics["eval_teacher_kl"] == pytest.approx(0, abs=1e-6)


def test_labels_that_differ_by_case_alone_are_aligned(arguments, sentences, tokenizer):
    student, teacher = (
        tiny_bert(seed=5, id2label=dict(enumerate(names)), label2id={name: i for i, name in enumerate(names)})
        for names in (["it", "IT", "sports"], ["Sports", "IT", "it"])
    )
    trainer = DistillationTrainer(
        student, arguments(), train_dataset=sentences, processing_class=tokenizer, teacher_model=teacher
    )
    assert trainer.teacher.label_permutation.tolist() == [2, 1, 0]


def test_a_student_without_label_names_takes_the_teachers(arguments, student, sentences, tokenizer):
    teacher = tiny_bert(id2label={0: "bad", 1: "good"}, label2id={"bad": 0, "good": 1})
    DistillationTrainer(
        student, arguments(), train_dataset=sentences, processing_class=tokenizer, teacher_model=teacher
    )
    assert student.config.id2label == {0: "bad", 1: "good"}


def test_anything_with_outputs_is_a_teacher(arguments, student, sentences, tokenizer):
    @dataclass
    class ConstantTeacher:
        calls: int = 0

        def outputs(self, inputs):
            self.calls += 1
            assert "labels" not in inputs
            return TeacherOutputs(logits=torch.tensor([[0.0, 5.0]]).expand(len(inputs["input_ids"]), 2))

    teacher = ConstantTeacher()
    trainer = DistillationTrainer(
        student, arguments(num_train_epochs=10), train_dataset=sentences, processing_class=tokenizer,
        teacher_model=teacher,
    )  # fmt: skip
    trainer.train()
    assert teacher.calls > 80
    assert (trainer.predict(sentences).predictions.argmax(-1) == 1).all()


def test_teacher_reads_inputs_the_student_does_not(arguments, teacher, tokenizer):
    """A DistilBERT student has no token types, its BERT teacher does."""
    from transformers import DistilBertConfig, DistilBertForSequenceClassification

    config = DistilBertConfig(vocab_size=100, dim=16, n_layers=1, n_heads=2, hidden_dim=32, max_position_embeddings=64)
    rows = [row | {"token_type_ids": [1] * len(row["input_ids"])} for row in encoded_sentences(8).to_list()]
    dataset = encoded_sentences(8).from_list(rows)
    trainer = DistillationTrainer(
        DistilBertForSequenceClassification(config), arguments(), train_dataset=dataset, processing_class=tokenizer,
        teacher_model=teacher,
    )  # fmt: skip
    seen = []
    teacher.register_forward_pre_hook(lambda module, args, kwargs: seen.append(kwargs), with_kwargs=True)
    trainer.train()
    assert all((inputs["token_type_ids"][inputs["attention_mask"] == 1] == 1).all() for inputs in seen) and seen


def test_a_labeled_transfer_set_teaches_as_the_live_teacher_does(arguments, teacher, tokenizer):
    from transformers import DataCollatorWithPadding

    unlabeled = encoded_sentences(29, labels=None)
    labeled = label_transfer_set(
        unlabeled, FrozenTeacher(teacher), DataCollatorWithPadding(tokenizer), batch_size=4, disable_tqdm=True
    )
    assert labeled["input_ids"] == unlabeled["input_ids"]
    live, recorded = tiny_bert(), tiny_bert()
    for student, dataset, source in ((live, unlabeled, teacher), (recorded, labeled, None)):
        trainer = DistillationTrainer(
            student, arguments(num_train_epochs=3, optim="sgd"), train_dataset=dataset, processing_class=tokenizer,
            teacher_model=source,
        )  # fmt: skip
        trainer.train()
    torch.testing.assert_close(parameters_of(recorded), parameters_of(live), rtol=1e-3, atol=1e-4)
    # An evaluation set nobody labeled for the teacher still has the student's own loss and predictions.
    metrics = trainer.evaluate(encoded_sentences(29))
    assert metrics["eval_loss"] > 0 and "eval_teacher_kl" not in metrics
    assert "eval_teacher_kl" in trainer.evaluate(labeled)


def test_a_kept_labeled_set_is_given_back_for_the_same_rows_and_teacher(teacher, tokenizer, tmp_path, monkeypatch):
    from transformers import DataCollatorWithPadding

    asked = []
    outputs = FrozenTeacher.outputs
    monkeypatch.setattr(FrozenTeacher, "outputs", lambda self, inputs: asked.append(self) or outputs(self, inputs))

    def label(rows, model, **options):
        collator = DataCollatorWithPadding(tokenizer)
        return label_transfer_set(rows, FrozenTeacher(model, **options), collator, cache_folder=tmp_path / "labels")

    rows = encoded_sentences(29, labels=None)
    first = label(rows, teacher)
    times = len(asked)
    assert label(rows, teacher)[:] == first[:] and len(asked) == times
    fewer, other = label(rows.select(range(28)), teacher), label(rows, tiny_bert(hidden_size=32, layers=2, seed=2))
    swapped = label(rows, teacher, label_permutation=[1, 0])
    answers = [torch.tensor(each["teacher_logits"][:]) for each in (first, fewer, other, swapped)]
    torch.testing.assert_close(answers[1], answers[0][:28])
    torch.testing.assert_close(answers[3], answers[0].flip(-1))
    assert fewer["input_ids"][:] == rows["input_ids"][:28] and (answers[2] - answers[0]).abs().max() > 1e-2
    assert len(asked) > 2 * times

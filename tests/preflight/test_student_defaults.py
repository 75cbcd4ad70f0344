"""The learning rate, warm-up and length of a student's training, where the user left them open."""

import pytest
import torch
from transformers import TrainingArguments

from hf_distill import DistillationTrainer, DistillationTrainingArguments, SentenceEncoder, create_student
from hf_distill.preflight.student_defaults import RATE_TIMES_HIDDEN_SIZE, STOCK, WARMUP, planned_steps, student_defaults
from hf_distill.pretrained.origin import note_initialization, note_random_weights
from hf_distill.publishing.run_record import RunRecord
from tests.tiny_models import tiny_bert


def chosen(args, student, sentences, tokenizer, teacher) -> tuple[float, float]:
    trainer = DistillationTrainer(
        student, args, train_dataset=sentences, processing_class=tokenizer, teacher_model=teacher
    )
    return trainer.args.learning_rate, trainer.args.warmup_steps


@pytest.fixture
def plain(tmp_path):
    """Makes arguments with transformers' own defaults but for where and how to run."""

    def make(kind=DistillationTrainingArguments, **options):
        return kind(str(tmp_path / "out"), use_cpu=True, report_to="none", max_steps=2, **options)

    return make


def test_a_created_student_with_a_teacher_gets_its_own_rate(plain, teacher, sentences, tokenizer):
    for shape, hidden in {"1/32": 32, "1/16": 16}.items():
        found = chosen(plain(), create_student(shape, teacher), sentences, tokenizer, teacher)
        assert found == (pytest.approx(RATE_TIMES_HIDDEN_SIZE / hidden, rel=0.05), WARMUP)


def test_so_does_a_student_that_a_script_made_of_a_configuration(plain, teacher, sentences, tokenizer):
    student = tiny_bert(32, 1)
    note_random_weights(student)
    assert chosen(plain(), student, sentences, tokenizer, teacher)[0] == pytest.approx(0.06 / 32, rel=0.05)
    assert chosen(plain(), student, sentences, tokenizer, None)[0] == STOCK["learning_rate"]


@pytest.mark.parametrize(("hidden", "rate"), [(16, 1e-3), (384, 1e-3), (768, 5e-4)])
def test_sentence_encoders_need_larger_steps(hidden, rate):
    student = SentenceEncoder.from_model(tiny_bert(hidden, 1))
    note_initialization(student, "truncated")
    assert student_defaults(student, None)["learning_rate"] == pytest.approx(rate)


@pytest.mark.parametrize(("rows", "batch", "epochs"), [(29, 8, 150), (29, 1, 21), (2, 8, 600), (29, 8, 7.0)])
def test_few_rows_are_read_more_often(plain, teacher, sentences, tokenizer, rows, batch, epochs):
    """As often as makes 600 steps, unless the user says how often."""
    said = {"num_train_epochs": epochs} if isinstance(epochs, float) else {}
    args = plain(per_device_train_batch_size=batch, **said)
    chosen(args, create_student("1/32", teacher), sentences.select(range(rows)), tokenizer, teacher)
    assert args.num_train_epochs == epochs


@pytest.mark.parametrize(("classes", "steps", "rate"), [(20, 600, 0.06 / 16), (21, 1800, 0.12 / 16)])
def test_many_classes_take_longer_and_larger_steps(classes, steps, rate):
    names = {
        "id2label": {index: str(index) for index in range(classes)},
        "label2id": {str(index): index for index in range(classes)},
    }
    student = create_student("1/16", tiny_bert(32, 2, **names))
    assert student_defaults(student, 10)["num_train_epochs"] == steps / 10
    assert student_defaults(student, 10)["learning_rate"] == pytest.approx(rate, rel=0.05)
    assert student_defaults(student, 1000)["num_train_epochs"] == 3
    args = DistillationTrainingArguments("out", per_device_train_batch_size=8, use_cpu=True, report_to="none")
    assert planned_steps(args, 80, student) == steps


def test_what_the_user_says_counts(plain, teacher, sentences, tokenizer):
    given = plain(learning_rate=5e-5, warmup_steps=0)
    assert chosen(given, create_student("1/32", teacher), sentences, tokenizer, teacher) == (5e-5, 0)
    half = plain(warmup_steps=0.0)
    assert chosen(half, create_student("1/32", teacher), sentences, tokenizer, teacher)[1] == 0.0


@pytest.mark.parametrize("case", ["no teacher", "a trained model", "plain arguments", "a published student"])
def test_everything_else_has_the_defaults_of_transformers(case, plain, teacher, sentences, tokenizer):
    student = tiny_bert(32, 1) if case == "a trained model" else create_student("1/32", teacher)
    if case == "a published student":
        note_initialization(student, "pretrained")
    args = plain(TrainingArguments if case == "plain arguments" else DistillationTrainingArguments)
    found = chosen(args, student, sentences, tokenizer, None if case == "no teacher" else teacher)
    assert found == (STOCK["learning_rate"], STOCK["warmup_steps"])
    stock = TrainingArguments(args.output_dir)
    assert found == (stock.learning_rate, stock.warmup_steps) and args.num_train_epochs == stock.num_train_epochs


def test_one_object_of_arguments_serves_several_students(plain, teacher, sentences, tokenizer):
    args = plain()
    rates = [
        chosen(args, student, sentences, tokenizer, teacher)[0]
        for student in (create_student("1/32", teacher), tiny_bert(32, 1), create_student("1/16", teacher))
    ]
    assert rates[1] == 5e-5 and rates[2] == pytest.approx(2 * rates[0], rel=0.05)


def test_the_record_says_which_rate_it_was(plain, teacher, sentences, tokenizer):
    args = plain(bf16=False)
    trainer = DistillationTrainer(
        create_student("1/32", teacher),
        args,
        train_dataset=sentences,
        processing_class=tokenizer,
        teacher_model=teacher,
    )
    trainer.train()
    trainer.save_model()
    record = RunRecord.load(args.output_dir)
    assert record.training["settings"]["learning_rate"] == record.arguments["learning_rate"] == args.learning_rate
    assert args.learning_rate == pytest.approx(0.06 / 32, rel=0.05)


def test_a_module_without_configuration_has_the_defaults_of_transformers():
    assert student_defaults(torch.nn.Linear(2, 2), 10) == STOCK

"""Mistakes are named before any training: what was given, what is allowed."""

import datasets
import pytest
import torch

from hf_distill import DistillationTrainer, create_student
from hf_distill.preflight import training as checks
from tests.tiny_models import encoded_sentences, tiny_bert, tiny_tokenizer


def named(*labels):
    return dict(id2label=dict(enumerate(labels)), label2id={label: i for i, label in enumerate(labels)})


def make(arguments, student=None, dataset=None, tokenizer=None, teacher_model=None, **overrides):
    return DistillationTrainer(
        student or tiny_bert(),
        arguments(**overrides),
        train_dataset=encoded_sentences(5) if dataset is None else dataset,
        processing_class=tokenizer or tiny_tokenizer(),
        teacher_model=teacher_model,
    )


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (dict(temperature=0.0), r"temperature must be .* above 0, .*, got 0.0"),
        (dict(temperature=float("nan")), r"temperature must be .* above 0, .*, got nan"),
        (dict(soft_label_weight=-1.0), r"soft_label_weight must be .* at least 0 .*, got -1.0"),
        (dict(soft_label_weight=0.0, hard_label_weight=0.0), r"at least one weight must be above 0"),
        (dict(soft_label_loss="kl"), r"soft_label_loss must be one of .*forward_kl.*, got 'kl'"),
        (dict(teacher_dtype="int4"), r"teacher_dtype must be one of .*got 'int4'"),
    ],
)
def test_arguments(arguments, overrides, message):
    with pytest.raises(ValueError, match=message):
        arguments(**overrides)


def test_soft_labels_without_a_teacher(arguments):
    with pytest.raises(ValueError, match=r"soft_label_weight is 1\.0 but there is no teacher: pass teacher_model"):
        make(arguments, soft_label_weight=1.0)


def test_a_teacher_but_no_weight_left(arguments, teacher):
    with pytest.raises(ValueError, match=r"hard_label_weight 0.0 \(its default with a teacher\)"):
        make(arguments, teacher_model=teacher, soft_label_weight=0.0)


def test_relations_alone_under_checkpoints_of_zero3(arguments, teacher, monkeypatch):
    monkeypatch.setattr(checks, "is_deepspeed_zero3_enabled", lambda: True)
    relations = dict(recipe="minilmv2", activation_checkpointing=True)
    with pytest.raises(
        ValueError, match=r"\['relation'\] alone cannot be learned under DeepSpeed ZeRO-3 .* soft_label_w"
    ):
        make(arguments, teacher_model=teacher, **relations)
    make(arguments, teacher_model=teacher, **relations, soft_label_weight=1.0)


def test_other_number_of_classes(arguments):
    with pytest.raises(ValueError, match=r"teacher has 3 labels .* student 2 .*num_labels=3"):
        make(arguments, teacher_model=tiny_bert(num_labels=3))


def test_other_class_names(arguments):
    with pytest.raises(ValueError, match=r"teacher's labels are \['cat', 'dog'\], the student's \['bad', 'good'\]"):
        make(arguments, student=tiny_bert(**named("bad", "good")), teacher_model=tiny_bert(**named("cat", "dog")))


def test_equal_class_names_in_another_order(arguments):
    student, teacher = tiny_bert(**named("crane", "crane", "tit")), tiny_bert(**named("crane", "tit", "crane"))
    with pytest.raises(ValueError, match=r"several classes are called \['crane'\], .* which is which cannot be told"):
        make(arguments, student=student, teacher_model=teacher)


def test_other_vocabulary_size(arguments):
    with pytest.raises(ValueError, match=r"teacher's vocabulary has 120 tokens, the student's 100.*create_student"):
        make(arguments, teacher_model=tiny_bert(vocab_size=120))


@pytest.mark.parametrize(
    ("tokenizer", "message"),
    [
        (tiny_tokenizer(prefix="v"), "differ in 200 entries"),
        (tiny_tokenizer(lowercase=False), "split text differently"),
    ],
    ids=["words", "case"],
)
def test_other_tokenizer(arguments, teacher, tmp_path, tokenizer, message, monkeypatch):
    monkeypatch.setattr("hf_distill.teachers.alignment._PROBE_TEXT", "W5 w6")
    teacher.save_pretrained(tmp_path / "teacher")
    tokenizer.save_pretrained(tmp_path / "teacher")
    with pytest.raises(ValueError, match=message):
        make(arguments, teacher_model=str(tmp_path / "teacher"))


def test_teacher_without_a_trained_head(arguments, teacher, tmp_path):
    teacher.bert.save_pretrained(tmp_path / "encoder")
    with pytest.raises(ValueError, match=r"no trained weights for \['classifier.bias', 'classifier.weight'"):
        make(arguments, teacher_model=str(tmp_path / "encoder"))


def test_the_student_as_its_own_teacher(arguments):
    student = tiny_bert()
    with pytest.raises(ValueError, match="the student itself"):
        make(arguments, student=student, teacher_model=student)


def test_loading_options_for_a_loaded_teacher(arguments, teacher):
    with pytest.raises(ValueError, match=r"already a model \(BertForSequenceClassification\)"):
        make(arguments, teacher_model=teacher, teacher_revision="v2")


@pytest.mark.parametrize("poison", ["weights", "one_text"])
def test_teacher_that_yields_nan(arguments, teacher, poison):
    dataset = encoded_sentences(70)
    with torch.no_grad():
        if poison == "weights":
            teacher.classifier.bias.fill_(float("nan"))
            with pytest.raises(FloatingPointError, match=r"not finite in 64 of 64 rows of a batch of optimizer step 1"):
                make(arguments, teacher_model=teacher, dataset=dataset)
            return
        teacher.bert.embeddings.word_embeddings.weight[99] = float("nan")
    rows = [{**row, "input_ids": [5 if token == 99 else token for token in row["input_ids"]]} for row in dataset]
    rows[69]["input_ids"][0] = 99
    trainer = make(arguments, teacher_model=teacher, dataset=datasets.Dataset.from_list(rows))
    with pytest.raises(FloatingPointError, match=r"1 of \d rows of a batch of optimizer step \d+ .*reads 'w99 "):
        trainer.train()


def test_empty_training_set(arguments, teacher):
    with pytest.raises(ValueError, match="train_dataset holds 0 examples"):
        make(arguments, teacher_model=teacher, dataset=encoded_sentences(5).select([]))


def test_labels_needed_but_missing(arguments, teacher):
    with pytest.raises(
        ValueError, match=r"hard_label_weight is above 0 but the training examples carry no \['labels'\]"
    ):
        make(arguments, teacher_model=teacher, dataset=encoded_sentences(5, labels=None), hard_label_weight=1.0)


def test_divergence_for_a_regression_head(arguments):
    with pytest.raises(ValueError, match=r"soft_label_loss is 'reverse_kl'.*regression"):
        make(
            arguments, student=tiny_bert(num_labels=1), teacher_model=tiny_bert(num_labels=1, seed=1),
            dataset=encoded_sentences(5, "float"), soft_label_loss="reverse_kl",
        )  # fmt: skip


def test_output_folder_that_cannot_be_written(arguments, teacher, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match=r"output_dir '.*file/output' cannot be written"):
        make(arguments, teacher_model=teacher, output_dir=str(tmp_path / "file" / "output"))
    assert (tmp_path / "file").read_text() == "in the way"


@pytest.mark.parametrize(
    ("shape", "initialization", "message"),
    [
        ("huge", "random", r"a shape is one of \['tiny', .*got 'huge'"),
        ("2/100", "random", r"multiple of 64, got 100"),
        ("9/32", "truncated", r"at most its 2 layers, got 9/32"),
        ("2/64", "embeddings", r"hidden size 32 cannot fill a student of 64"),
        ("1/32", "best", r"initialization must be one of .*got 'best'"),
    ],
)
def test_students_that_cannot_be_made(teacher, shape, initialization, message):
    with pytest.raises(ValueError, match=message):
        create_student(shape, teacher, initialization)

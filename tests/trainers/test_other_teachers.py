"""Teachers with a tokenizer of their own, and several teachers at once."""

import datasets
import pytest
import torch

from hf_distill import DistillationTrainer, FrozenTeacher, encode_for_teacher
from hf_distill.publishing.run_record import RunRecord
from hf_distill.teachers.ensemble import TeacherEnsemble
from tests.tiny_models import encoded_sentences, parameters_of, tiny_bert, tiny_tokenizer


def texts(rows=21):
    sentences = encoded_sentences(rows)
    return datasets.Dataset.from_dict(
        {
            "text": [" ".join(f"w{token}" for token in row) for row in sentences["input_ids"]],
            "labels": sentences["labels"],
        }
    )


def other_tokenizer():
    """Knows the same words under other numbers."""
    return tiny_tokenizer(shift=7)


def encoded_twice(data):
    student = data.map(lambda rows: dict(tiny_tokenizer()(rows["text"])), batched=True)
    return encode_for_teacher(student, other_tokenizer(), "text", max_length=30)


def test_teacher_reads_its_own_encoding_of_the_same_example(arguments):
    teacher = tiny_bert(hidden_size=32, layers=2, seed=1, vocab_size=110)
    data = encoded_twice(texts())
    trainer = DistillationTrainer(
        tiny_bert(), arguments(), train_dataset=data, processing_class=tiny_tokenizer(),
        teacher_model=teacher, teacher_processing_class=other_tokenizer(),
    )  # fmt: skip
    rows = [data[index] for index in range(5)]
    batch = trainer.data_collator([{k: v for k, v in row.items() if k != "text"} for row in rows])
    answer = trainer.teacher.outputs(batch).logits
    alone = teacher(**other_tokenizer()([row["text"] for row in rows], padding=True, return_tensors="pt")).logits
    torch.testing.assert_close(answer, alone.detach())
    before = trainer.evaluate(data)
    trainer.train()
    assert trainer.evaluate(data)["eval_teacher_kl"] < before["eval_teacher_kl"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (dict(recipe="minilmv2"), r"the terms \['relation'\] compare position by position"),
        (dict(hidden_state_weight=1.0), r"the terms \['hidden_state'\] compare position by position"),
    ],
)
def test_what_compares_positions_is_refused(arguments, overrides, message):
    with pytest.raises(ValueError, match=message):
        DistillationTrainer(
            tiny_bert(), arguments(**overrides), train_dataset=encoded_twice(texts()),
            processing_class=tiny_tokenizer(), teacher_model=tiny_bert(seed=1, vocab_size=110),
            teacher_processing_class=other_tokenizer(),
        )  # fmt: skip


def test_missing_encoding_is_refused_before_training(arguments, sentences):
    with pytest.raises(ValueError, match=r"no columns that start with 'teacher_'.*encode_for_teacher"):
        DistillationTrainer(
            tiny_bert(), arguments(), train_dataset=sentences, processing_class=tiny_tokenizer(),
            teacher_model=tiny_bert(seed=1, vocab_size=110), teacher_processing_class=other_tokenizer(),
        )  # fmt: skip
    with pytest.raises(ValueError, match=r"no columns \['txt'\], it has \['text', 'labels'\]"):
        encode_for_teacher(texts(), other_tokenizer(), "txt")


@pytest.mark.parametrize("kind", ["single", "multi", "regression"])
def test_ensemble_averages_probabilities(sentences, kind):
    problem = {
        "single": "single_label_classification",
        "multi": "multi_label_classification",
        "regression": "regression",
    }
    members = [tiny_bert(seed=seed, num_labels=1 if kind == "regression" else 3) for seed in (1, 2)]
    batch = dict(tiny_tokenizer().pad([sentences[0], sentences[1]], return_tensors="pt"))
    answers = [FrozenTeacher(member).outputs(batch).logits for member in members]
    temperature = 2.0
    ensemble = TeacherEnsemble(
        [FrozenTeacher(member) for member in members], [3.0, 1.0], lambda: problem[kind], lambda: temperature
    )
    soften = {
        "single": lambda logits: (logits / temperature).softmax(-1),
        "multi": lambda logits: (logits / temperature).sigmoid(),
        "regression": lambda logits: logits,
    }[kind]
    expected = 0.75 * soften(answers[0]) + 0.25 * soften(answers[1])
    torch.testing.assert_close(soften(ensemble.outputs(batch).logits), expected)


def test_ensemble_of_equals_teaches_like_one(arguments, sentences):
    weights = []
    for teacher_model in (tiny_bert(seed=1), [tiny_bert(seed=1), tiny_bert(seed=1)]):
        trainer = DistillationTrainer(
            tiny_bert(), arguments(optim="sgd", max_steps=5), train_dataset=sentences,
            processing_class=tiny_tokenizer(), teacher_model=teacher_model,
        )  # fmt: skip
        trainer.train()
        weights.append(parameters_of(trainer.model))
    torch.testing.assert_close(*weights, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("given", [[1.0], [1.0, 0.0], [1.0, float("nan")]])
def test_impossible_teacher_weights_are_refused(arguments, sentences, given):
    with pytest.raises(ValueError, match=r"teacher_weights must be 2 numbers above 0, one per teacher; got"):
        DistillationTrainer(
            tiny_bert(), arguments(teacher_weights=given), train_dataset=sentences,
            processing_class=tiny_tokenizer(), teacher_model=[tiny_bert(seed=1), tiny_bert(seed=2)],
        )  # fmt: skip


def test_features_of_several_teachers_are_refused(arguments, sentences):
    with pytest.raises(ValueError, match=r"two live transformers models.*TeacherEnsemble"):
        DistillationTrainer(
            tiny_bert(), arguments(recipe="minilmv2"), train_dataset=sentences, processing_class=tiny_tokenizer(),
            teacher_model=[tiny_bert(seed=1), tiny_bert(seed=2)],
        )  # fmt: skip


def test_own_and_shared_tokenizers_side_by_side(arguments):
    teachers = [tiny_bert(seed=1), tiny_bert(seed=2, vocab_size=110)]
    data = texts().map(lambda rows: dict(tiny_tokenizer()(rows["text"])), batched=True)
    data = encode_for_teacher(data, other_tokenizer(), "text", prefix="teacher1_")
    trainer = DistillationTrainer(
        tiny_bert(), arguments(max_steps=2), train_dataset=data, processing_class=tiny_tokenizer(),
        teacher_model=teachers, teacher_processing_class=[None, other_tokenizer()],
    )  # fmt: skip
    trainer.train()
    teacher = RunRecord.load(trainer.args.output_dir).teacher
    assert teacher["name"] == "the mean of 2 teachers" and len(teacher["members"]) == 2

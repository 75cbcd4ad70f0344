"""Students are stock models of the right size, started from the right weights."""

import pytest
import torch
from transformers import AutoModelForSequenceClassification, RobertaConfig, RobertaForSequenceClassification

from hf_distill import create_student
from hf_distill.publishing.run_record import weights_sha256
from tests.tiny_models import tiny_bert


def test_truncated_student_is_the_teachers_bottom(teacher):
    before = weights_sha256(teacher)
    student = create_student("1/32", teacher, "truncated")
    assert student.config.num_hidden_layers == 1 and student.training
    weights, source = student.state_dict(), teacher.state_dict()
    assert weights.keys() < source.keys() and all(torch.equal(weights[name], source[name]) for name in weights)
    assert weights_sha256(teacher) == before and teacher.config.num_hidden_layers == 2


def test_whole_teacher_answers_the_same_when_truncated_to_its_own_depth(teacher):
    student = create_student("2/32", teacher).eval()
    batch = dict(input_ids=torch.randint(4, 100, (3, 9)), attention_mask=torch.ones(3, 9, dtype=torch.long))
    assert torch.equal(student(**batch).logits, teacher.eval()(**batch).logits)


def test_embeddings_on_principal_directions_keep_the_similarities():
    teacher = tiny_bert(hidden_size=128, layers=1, seed=1)
    words = teacher.bert.embeddings.word_embeddings.weight
    with torch.no_grad():  # only 64 of the 128 directions carry anything, so 64 can carry it all
        words.copy_(torch.randn(100, 64) @ torch.randn(64, 128))
    student = create_student("1/64", teacher, "embeddings")
    projected = student.bert.embeddings.word_embeddings.weight
    assert projected.shape == (100, 64)
    torch.testing.assert_close(projected @ projected.T, words @ words.T, rtol=1e-3, atol=1e-2)


def test_random_student_does_not_know_its_teacher(teacher):
    student = create_student("tiny", teacher, "random")
    shape = student.config
    assert (shape.num_hidden_layers, shape.hidden_size, shape.num_attention_heads) == (2, 128, 2)
    assert shape.intermediate_size == 512 and shape.vocab_size == teacher.config.vocab_size


def test_mini_and_tiny_have_the_published_sizes():
    """Parameters without the masked-LM and next-sentence heads of the published counts."""
    teacher = tiny_bert(hidden_size=64, vocab_size=30522)
    teacher.config.max_position_embeddings = 512
    heads = {"tiny": 128 * 128 + 3 * 128 + 30522 + 2 * 128 + 2, "mini": 256 * 256 + 3 * 256 + 30522 + 2 * 256 + 2}
    for (name, head), published in zip(heads.items(), (4_433_468, 11_267_900), strict=True):
        student = create_student(name, teacher, "random")
        size = student.config.hidden_size
        assert student.num_parameters() - (2 * size + 2) == published - head


def test_labels_and_head_are_the_teachers_and_the_student_saves_as_a_stock_model(tmp_path):
    names = dict(id2label={0: "bad", 1: "good"}, label2id={"bad": 0, "good": 1})
    student = create_student("1/32", tiny_bert(hidden_size=32, layers=2, **names), "truncated")
    student.save_pretrained(tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert loaded.config.id2label == names["id2label"] and weights_sha256(loaded) == weights_sha256(student)


@pytest.mark.parametrize("initialisation", ["truncated", "embeddings", "random"])
def test_other_families(initialisation):
    config = RobertaConfig(
        vocab_size=100, hidden_size=128, num_hidden_layers=3, num_attention_heads=2, intermediate_size=64
    )
    shape = "2/64" if initialisation == "embeddings" else "2/128"
    student = create_student(shape, RobertaForSequenceClassification(config), initialisation)
    assert type(student) is RobertaForSequenceClassification
    assert student(input_ids=torch.randint(4, 100, (2, 5))).logits.shape == (2, 2)

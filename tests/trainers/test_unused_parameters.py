"""Whether DDP has to search for parameters that the loss does not depend on is found out before it wraps the student."""

import pytest
import torch
from transformers import BertModel

from hf_distill import DistillationTrainer
from tests.tiny_models import encoded_sentences, parameters_of, tiny_bert, tiny_tokenizer


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({}, False),
        ({"hard_label_weight": 1.0}, False),
        ({"hidden_state_weight": 1.0}, False),  # the projection is trained with the student
        ({"soft_label_weight": 0.0, "hidden_state_weight": 1.0}, True),  # the head is not
        ({"recipe": "minilmv2"}, True),
    ],
    ids=str,
)
def test_what_the_loss_depends_on(arguments, teacher, overrides, expected):
    student = tiny_bert(dropout=0.1).train()
    trainer = DistillationTrainer(
        student, arguments(**overrides), train_dataset=encoded_sentences(8), processing_class=tiny_tokenizer(),
        teacher_model=teacher,
    )  # fmt: skip
    before, random = parameters_of(student), torch.get_rng_state()
    assert trainer.feature_hooks.has_unused_parameters(student, trainer.training_objective) is expected
    assert student.training and torch.equal(parameters_of(student), before)
    assert torch.equal(torch.get_rng_state(), random) and all(each.grad is None for each in student.parameters())


def test_frozen_parameters_are_not_looked_for(arguments, teacher):
    student = tiny_bert()
    student.classifier.requires_grad_(False)
    trainer = DistillationTrainer(
        student, arguments(soft_label_weight=0.0, hidden_state_weight=1.0), train_dataset=encoded_sentences(8),
        processing_class=tiny_tokenizer(), teacher_model=teacher,
    )  # fmt: skip
    found = trainer.feature_hooks.has_unused_parameters(student, trainer.training_objective)
    assert found is any(isinstance(each, BertModel) and each.pooler is not None for each in student.children())


def test_layers_left_out_at_random_are_not_judged_by_one_pass(arguments, teacher):
    student = tiny_bert()
    trainer = DistillationTrainer(
        student, arguments(), train_dataset=encoded_sentences(8), processing_class=tiny_tokenizer(),
        teacher_model=teacher,
    )  # fmt: skip
    student.config.layerdrop = 0.1
    assert trainer.feature_hooks.has_unused_parameters(student, trainer.training_objective) is None

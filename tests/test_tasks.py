"""Tasks read off model classes, and outputs read as logits."""

from __future__ import annotations

import pytest
import torch
import transformers
from torch import nn

from hf_distill.tasks import Task, auto_class_of, logits_of, task_of, unwrapped
from tests.tiny_architectures import tiny_model

HEADS = {
    Task.SEQUENCE_CLASSIFICATION: "SequenceClassification",
    Task.TOKEN_CLASSIFICATION: "TokenClassification",
    Task.QUESTION_ANSWERING: "QuestionAnswering",
    Task.MASKED_LM: "MaskedLM",
}


@pytest.mark.parametrize("architecture", ["bert", "roberta", "electra", "distilbert", "modernbert", "albert"])
@pytest.mark.parametrize(("task", "head"), HEADS.items())
def test_the_task_is_read_off_the_head(architecture, task, head):
    model = tiny_model(architecture, head)
    assert task_of(model) is task
    assert auto_class_of(model) is task.auto_class is getattr(transformers, f"AutoModelFor{head}")


@pytest.mark.parametrize(
    ("architecture", "task", "auto_class"),
    [
        ("llama", Task.CAUSAL_LM, transformers.AutoModelForCausalLM),
        ("vit", Task.IMAGE_CLASSIFICATION, transformers.AutoModelForImageClassification),
    ],
)
def test_language_and_image_models_have_their_tasks(architecture, task, auto_class):
    assert task_of(tiny_model(architecture)) is task
    assert task.auto_class is auto_class


def test_an_architecture_with_two_classes_for_a_task_has_it_in_both():
    config = transformers.DeiTConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, image_size=8, patch_size=4
    )
    for model_class in (transformers.DeiTForImageClassification, transformers.DeiTForImageClassificationWithTeacher):
        assert task_of(model_class(config)) is Task.IMAGE_CLASSIFICATION


@pytest.mark.parametrize("model", [nn.Linear(2, 2), tiny_model("bert", "MaskedLM").bert], ids=["module", "body"])
def test_other_classes_have_no_task_and_no_auto_class(model):
    assert task_of(model) is None
    with pytest.raises(ValueError, match=rf"{type(model).__name__}.*AutoModelForSequenceClassification.*as a model"):
        auto_class_of(model)


def test_a_compiled_model_is_looked_into():
    model = tiny_model("bert", "TokenClassification")
    compiled = torch.compile(model)
    assert unwrapped(compiled) is model and unwrapped(model) is model
    assert task_of(compiled) is Task.TOKEN_CLASSIFICATION


def test_per_token_tasks_are_those_whose_logits_speak_of_positions():
    of_whole_inputs = [Task.SEQUENCE_CLASSIFICATION, Task.IMAGE_CLASSIFICATION, Task.SENTENCE_EMBEDDING]
    assert [task for task in Task if not task.is_per_token] == of_whole_inputs


def test_logits_are_the_outputs_own():
    logits = torch.randn(2, 3)
    assert logits_of({"logits": logits}, None) is logits
    assert logits_of({"logits": logits}, torch.ones(2, 5, dtype=torch.bool)) is logits


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_answers_are_start_and_end_with_padding_all_but_impossible(dtype):
    start, end = torch.randn(2, 4, dtype=dtype), torch.randn(2, 4, dtype=dtype)
    output = {"start_logits": start, "end_logits": end}
    assert torch.equal(logits_of(output, None), torch.stack([start, end], dim=1))
    valid = torch.tensor([[True] * 4, [True, True, False, False]])
    logits = logits_of(output, valid)
    assert logits.shape == (2, 2, 4) and logits.dtype == dtype and logits.isfinite().all()
    assert torch.equal(logits[0], torch.stack([start[0], end[0]]))
    assert torch.equal(logits[1, :, :2], torch.stack([start[1, :2], end[1, :2]]))
    assert not logits.float().softmax(dim=-1)[1, :, 2:].any()

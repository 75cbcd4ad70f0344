"""A folder that holds only an adapter is the base it names with the adapter in it."""

import sys

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from hf_distill import DistillationTrainer
from hf_distill.evaluation.loading import load_evaluated_model
from hf_distill.pretrained.loading import SavedModel
from hf_distill.tasks import Task
from tests.tiny_models import encoded_sentences, tiny_bert, tiny_tokenizer

peft = pytest.importorskip("peft")


@pytest.fixture
def base(tmp_path):
    """A body without a head, with a tokenizer."""
    tiny_bert(hidden_size=32, layers=2, seed=1).bert.save_pretrained(tmp_path / "base")
    tiny_tokenizer().save_pretrained(tmp_path / "base")
    return str(tmp_path / "base")


def adapted(base, folder, num_labels=3, **config):
    """A model with an adapter that is saved alone."""
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=num_labels)
    settings = dict(r=2, target_modules=["query"], init_lora_weights=False) | config
    model = peft.get_peft_model(model, peft.LoraConfig(**settings))
    model.save_pretrained(folder)
    return model.eval()


def answers(model):
    with torch.no_grad():
        return model.eval()(input_ids=torch.arange(5, 17).reshape(3, 4)).logits


def test_adapter_and_head_are_merged_into_the_base(base, tmp_path):
    expected = answers(adapted(base, tmp_path / "adapter", task_type="SEQ_CLS"))
    saved = SavedModel.find(str(tmp_path / "adapter"))
    assert saved.task is Task.SEQUENCE_CLASSIFICATION and saved.config.num_labels == 3
    model, missing = saved.load(AutoModelForSequenceClassification)
    assert not missing and not any("lora" in name for name in model.state_dict())
    torch.testing.assert_close(answers(model), expected)
    assert len(saved.tokenizer()) == 100 and model.config._name_or_path == str(tmp_path / "adapter")


def test_it_teaches_and_is_compared_by_name(base, tmp_path, arguments):
    expected = answers(adapted(base, tmp_path / "adapter", task_type="SEQ_CLS", num_labels=2))
    trainer = DistillationTrainer(
        tiny_bert(), arguments(max_steps=2), train_dataset=encoded_sentences(9), processing_class=tiny_tokenizer(),
        teacher_model=str(tmp_path / "adapter"),
    )  # fmt: skip
    torch.testing.assert_close(answers(trainer.teacher.model), expected)
    trainer.train()
    evaluated = load_evaluated_model(str(tmp_path / "adapter"), "adapter", "teacher")
    torch.testing.assert_close(answers(evaluated.model), expected)


def test_a_head_that_nobody_trained_is_refused(base, tmp_path, arguments):
    adapted(base, tmp_path / "adapter", num_labels=2)  # without a task PEFT keeps no head
    with pytest.raises(ValueError, match=r"no trained weights for \['classifier.bias', 'classifier.weight'\]"):
        DistillationTrainer(
            tiny_bert(), arguments(), train_dataset=encoded_sentences(9), processing_class=tiny_tokenizer(),
            teacher_model=str(tmp_path / "adapter"),
        )  # fmt: skip
    with pytest.raises(ValueError, match=r"no trained weights for \['classifier.bias', 'classifier.weight'\]"):
        load_evaluated_model(str(tmp_path / "adapter"), "adapter")


def test_another_number_of_labels_is_found_before_the_base_is_read(base, tmp_path, arguments):
    adapted(base, tmp_path / "adapter", task_type="SEQ_CLS")
    with pytest.raises(ValueError, match=r"the teacher has 3 labels"):
        DistillationTrainer(
            tiny_bert(), arguments(), train_dataset=encoded_sentences(9), processing_class=tiny_tokenizer(),
            teacher_model=str(tmp_path / "adapter"),
        )  # fmt: skip


def test_what_is_missing_is_named(base, tmp_path, monkeypatch):
    adapted(base, tmp_path / "adapter", task_type="SEQ_CLS")
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "peft", None)
        with pytest.raises(ImportError, match=r'adapter needs peft; install it with: pip install "hf_distill\[peft\]"'):
            SavedModel.find(str(tmp_path / "adapter"))
    (tmp_path / "base").rename(tmp_path / "elsewhere")
    with pytest.raises(OSError, match=r"adapter holds a PEFT adapter of .*base, which cannot be loaded"):
        SavedModel.find(str(tmp_path / "adapter"))
    with pytest.raises(OSError, match=r"/nowhere/teacher is no folder with a model, nor one on the Hub"):
        SavedModel.find("/nowhere/teacher")


def test_an_adapter_that_cannot_be_merged_is_refused(base, tmp_path):
    model = AutoModelForSequenceClassification.from_pretrained(base)
    config = peft.PromptTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=2)
    peft.get_peft_model(model, config).save_pretrained(tmp_path / "adapter")
    saved = SavedModel.find(str(tmp_path / "adapter"))
    with pytest.raises(ValueError, match=r"must hold an adapter that can be merged, such as LoRA, got PROMPT_TUNING"):
        saved.load(AutoModelForSequenceClassification)

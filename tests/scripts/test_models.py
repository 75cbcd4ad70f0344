"""Models as the scripts name them: half precision becomes single precision, adapters are teachers."""

import logging

import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification
from transformers.utils import logging as transformers_logging

from hf_distill.scripts.models import config_of_teacher, load_student, tokenizer_of_teacher
from tests.pretrained.test_loading import adapted
from tests.tiny_models import tiny_bert, tiny_tokenizer


@pytest.fixture
def warnings(caplog):
    transformers_logging.enable_propagation()
    with caplog.at_level(logging.WARNING, logger="transformers"):
        yield caplog
    transformers_logging.disable_propagation()


@pytest.mark.parametrize("saved", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("wanted", [None, "bfloat16"])
def test_the_model_to_train_is_in_single_precision(tmp_path, warnings, saved, wanted):
    tiny_bert().to(getattr(torch, saved)).save_pretrained(tmp_path)
    config = AutoConfig.from_pretrained(tmp_path)
    model = load_student(AutoModelForSequenceClassification, str(tmp_path), config, wanted)
    assert model.dtype == getattr(torch, wanted or "float32")
    says_so = f"is saved in {saved} and is trained in float32" in warnings.text
    assert says_so == (saved != "float32" and wanted is None)


def test_configuration_and_tokenizer_of_an_adapter(tmp_path, arguments):
    pytest.importorskip("peft")
    tiny_bert().bert.save_pretrained(tmp_path / "base")
    tiny_tokenizer().save_pretrained(tmp_path / "base")
    adapted(str(tmp_path / "base"), tmp_path / "adapter", task_type="SEQ_CLS")
    adapter, args = str(tmp_path / "adapter"), arguments()
    assert config_of_teacher(adapter, args).num_labels == 3 and config_of_teacher(None, args) is None
    assert len(tokenizer_of_teacher(adapter, args)) == 100

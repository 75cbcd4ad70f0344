"""Models as the scripts name them: half precision becomes single precision, adapters are teachers."""

import logging

import pytest
import torch
from datasets import Dataset
from transformers import AutoConfig, AutoModelForSequenceClassification
from transformers.utils import logging as transformers_logging

from hf_distill.scripts.models import (
    config_of_teacher,
    load_student,
    require_training_labels,
    tokenizer_of_teacher,
)
from hf_distill.scripts.run import ScriptTrainingArguments
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


def test_training_rows_need_labels_where_there_is_no_teacher(tmp_path):
    splits = {"train": Dataset.from_dict({"image": [1], "queue": ["a"]})}
    quiet = {"report_to": "none", "use_cpu": True, "bf16": False}
    training = ScriptTrainingArguments(str(tmp_path), do_train=True, **quiet)
    for column in ("label", None):
        with pytest.raises(ValueError, match=r"needs labels, got only the columns \['image', 'queue'\]: pass a flag"):
            require_training_labels(training, None, splits, column, "pass a flag")
    require_training_labels(training, None, splits, "queue", "")
    require_training_labels(training, "a teacher", splits, None, "")
    in_stages = ScriptTrainingArguments(str(tmp_path), do_train=True, teacher_checkpoints=["a teacher"], **quiet)
    require_training_labels(in_stages, None, splits, None, "")
    require_training_labels(ScriptTrainingArguments(str(tmp_path), do_eval=True, **quiet), None, {}, None, "")

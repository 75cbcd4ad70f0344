"""A new head is no cause for a warning when a model is loaded; weights of the encoder that are missing or left over are."""

from __future__ import annotations

import logging

import pytest
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForMaskedLM, AutoModelForSequenceClassification, BertForMaskedLM

from hf_distill import SentenceEncoder
from hf_distill.pretrained.reports import from_pretrained
from tests.tiny_models import tiny_bert


@pytest.fixture
def reported(caplog, monkeypatch):
    """Loads a model; returns the warnings of that and the remarks at INFO."""
    library = transformers.logging.get_logger("transformers")
    verbosity = transformers.logging.get_verbosity()  # whatever earlier tests have left
    transformers.logging.set_verbosity_warning()
    monkeypatch.setattr(library, "propagate", False)
    library.addHandler(caplog.handler)

    def load(model_class, folder, **kwargs):
        caplog.clear()
        with caplog.at_level(logging.INFO, "hf_distill"):
            model, _ = from_pretrained(model_class, str(folder), **kwargs)
        assert model.num_parameters() > 0
        by_level = {
            level: [each.getMessage() for each in caplog.records if each.levelno == level] for level in (30, 20)
        }
        return by_level[logging.WARNING], by_level[logging.INFO]

    yield load
    library.removeHandler(caplog.handler)
    transformers.logging.set_verbosity(verbosity)


@pytest.fixture(params=["headless", "masked language model"])
def folder(request, tmp_path):
    model = tiny_bert(16, 2)
    saved = model.base_model if request.param == "headless" else BertForMaskedLM(model.config)
    saved.save_pretrained(tmp_path)
    return tmp_path


def test_a_new_head_is_one_line_at_info(folder, reported):
    warnings, remarks = reported(AutoModelForSequenceClassification, folder)
    assert warnings == []
    (remark,) = [text for text in remarks if "to be trained" in text]
    assert "classifier.bias" in remark and "encoder" not in remark


def test_a_new_head_with_tied_weights_is_no_corrupted_checkpoint(folder, reported):
    warnings, remarks = reported(AutoModelForMaskedLM, folder)
    assert warnings == []
    assert [text for text in remarks if "to be trained" in text] == [text for text in remarks if "cls." in text]


def test_a_sentence_encoder_of_a_model_with_a_head_needs_no_remark(folder, reported):
    assert reported(SentenceEncoder, folder, pooling="mean")[0] == []


@pytest.mark.parametrize("model_class", [AutoModelForSequenceClassification, SentenceEncoder])
def test_a_layer_left_over_is_reported(folder, reported, model_class):
    options = {"pooling": "mean"} if model_class is SentenceEncoder else {}
    config = AutoConfig.from_pretrained(folder, num_hidden_layers=1)
    (warning,) = reported(model_class, folder, config=config, **options)[0]
    assert "LOAD REPORT" in warning and "layer.1.attention" in warning


def test_a_layer_missing_is_reported(folder, reported):
    file = folder / "model.safetensors"
    save_file({name: each for name, each in load_file(file).items() if "layer.1" not in name}, file, {"format": "pt"})
    (warning,) = reported(AutoModelForSequenceClassification, folder)[0]
    assert "layer.1.attention" in warning and "MISSING" in warning


def test_a_report_before_an_error_is_shown(folder, reported, caplog):
    with pytest.raises(RuntimeError, match="ignore_mismatched_sizes"):
        reported(AutoModelForSequenceClassification, folder, hidden_size=32)
    assert "MISMATCH" in caplog.text


def test_whoever_wants_all_messages_of_transformers_gets_it(folder, reported):
    verbosity = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_info()
    try:
        warnings = reported(AutoModelForSequenceClassification, folder)[0]
    finally:
        transformers.logging.set_verbosity(verbosity)
    assert len(warnings) == 1

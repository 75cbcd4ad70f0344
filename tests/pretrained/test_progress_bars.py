"""Progress bars of libraries are hidden for a while; trainers and loaders say in one line what they do."""

from __future__ import annotations

import sys

import datasets
import pytest
import transformers
from transformers import BertForSequenceClassification

from hf_distill import DistillationTrainer
from hf_distill.pretrained.progress_bars import without_progress_bars
from hf_distill.pretrained.reports import from_pretrained


@pytest.mark.parametrize("own", [None, False, True])
def test_bars_of_datasets_are_hidden_for_a_while_unless_the_user_decides(own, monkeypatch, recwarn):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_DISABLE_PROGRESS_BARS", own)
    bars = sys.modules["datasets.utils.tqdm"]
    monkeypatch.setattr(bars, "HF_DATASETS_DISABLE_PROGRESS_BARS", own)
    monkeypatch.setattr(bars, "_hf_datasets_progress_bars_disabled", bool(own))
    with without_progress_bars():
        assert datasets.are_progress_bars_disabled() is (own is None or own)
        assert not transformers.logging.is_progress_bar_enabled()
    assert datasets.are_progress_bars_disabled() is bool(own)
    assert transformers.logging.is_progress_bar_enabled()
    assert not [each for each in recwarn if "progress bars" in str(each.message)]


def test_a_model_is_saved_and_loaded_from_its_folder_without_a_bar(
    student, teacher, sentences, arguments, tmp_path, capsys
):
    trainer = DistillationTrainer(student, arguments())
    trainer.save_model(str(tmp_path / "student"))
    from_pretrained(BertForSequenceClassification, str(tmp_path / "student"))
    assert "it/s" not in capsys.readouterr().err
    BertForSequenceClassification.from_pretrained(tmp_path / "student")
    assert "it/s" in capsys.readouterr().err  # transformers' own bars are as they were

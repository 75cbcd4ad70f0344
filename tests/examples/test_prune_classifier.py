"""A classifier becomes smaller in three ways, together and each alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from hf_distill.publishing.run_record import RunRecord
from tests.examples.test_run_glue import QUIET, REVIEWS, save_bert, write_csv


@pytest.fixture
def prune(run_main, tmp_path):
    """Calls main; the output folder is the first argument."""
    train = write_csv(tmp_path / "train.csv", ["text", "label"], REVIEWS * 3)
    classifier = save_bert(tmp_path / "classifier", hidden_size=32, layers=3, seed=1, labels=["negative", "positive"])

    def call(output: str, *arguments: str) -> Path:
        data = ["--train_file", train, "--validation_file", train, "--do_train", "--do_eval"]
        training = ["--max_steps", "8", "--pruning_events", "3", "--logging_steps", "1", "--save_strategy", "no"]
        places = ["--model_name_or_path", classifier, "--output_dir", str(tmp_path / output)]
        run_main(*places, *data, *training, *QUIET, *arguments)
        return tmp_path / output

    return call


def test_narrower_and_shallower_with_a_card_that_shows_it(prune):
    folder = prune("out", "--target_hidden_size", "16", "--target_layers", "2", "--recipe", "homodistil")
    model, report = AutoModelForSequenceClassification.from_pretrained(folder, output_loading_info=True)
    assert (model.config.hidden_size, model.config.num_hidden_layers) == (16, 2)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    assert RunRecord.load(folder).progress[-1]["hidden_size"] == 16 and (folder / "shrinking.png").exists()
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "| accuracy |" in card and "to a hidden size of 16" in card and "distilled from **classifier**" in card


def test_layers_alone(prune):
    folder = prune("out", "--target_layers", "1")
    assert AutoModelForSequenceClassification.from_pretrained(folder).config.num_hidden_layers == 1
    assert json.loads((folder / "all_results.json").read_text())["eval_teacher_agreement"] > 0


def test_words_alone(prune, tmp_path):
    folder = prune("out", "--vocabulary_min_count", "4")  # every review is there three times
    words = AutoTokenizer.from_pretrained(folder).get_vocab()
    known = AutoTokenizer.from_pretrained(tmp_path / "classifier").get_vocab()
    assert set(words) < set(known)
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    assert model.config.vocab_size == len(words) == model.get_input_embeddings().num_embeddings


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "pass a target_... size, target_layers or vocabulary_min_count"),
        (["--target_layers", "4"], "1 to 3 layers can be kept, got 4"),
        (["--target_layers", "2", "--teacher_model_name_or_path", "x"], "is its own teacher; pass no other"),
        (["--target_layers", "2", "--do_train", "false"], "pruning reads the training data: pass --do_train"),
        (["--vocabulary_min_count", "0"], "min_count must be at least 1, got 0"),
    ],
)
def test_bad_input(prune, arguments, message):
    with pytest.raises(ValueError, match=message):
        prune("out", *arguments)

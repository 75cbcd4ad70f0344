"""The columns of words and of their labels."""

import pytest
from datasets import ClassLabel, Features, List, Value

from hf_distill.data.words import word_columns

WORDS = {"words": List(Value("string")), "tags": List(ClassLabel(names=["X"]))}
INPUTS = {"input_ids": List(Value("int32")), "attention_mask": List(Value("int8")), "labels": List(Value("int64"))}
LOGITS = {"teacher_logits": List(List(Value("float32")))}


@pytest.mark.parametrize(
    ("features", "columns"),
    [
        (WORDS, ("words", "tags")),
        (WORDS | INPUTS | LOGITS, ("words", "tags")),  # labeled by a teacher
        ({"tokens": List(Value("string")), "labels": List(Value("int64"))}, ("tokens", "labels")),
        (WORDS | {"ner_tags": List(Value("string")), "tokens": List(Value("string"))}, ("tokens", "ner_tags")),
    ],
)
def test_words_and_labels_are_found_among_other_lists(features, columns):
    assert word_columns(Features(features)) == columns


def test_model_inputs_are_no_labels_of_words():
    with pytest.raises(ValueError, match="need a column of lists of words and one of their labels"):
        word_columns(Features({"words": WORDS["words"]} | INPUTS | LOGITS))

"""The columns of words and of their labels."""

import pytest
from datasets import ClassLabel, Features, List, Value

from hf_distill.data.words import word_columns, word_label_column

WORDS = {"words": List(Value("string")), "tags": List(ClassLabel(names=["X"]))}
INPUTS = {"input_ids": List(Value("int32")), "attention_mask": List(Value("int8")), "labels": List(Value("int64"))}
LOGITS = {"teacher_logits": List(List(Value("float32")))}


@pytest.mark.parametrize(
    ("features", "columns"),
    [
        (WORDS, ("words", "tags")),
        (WORDS | INPUTS | LOGITS, ("words", "tags")),  # labeled by a teacher
        ({"tokens": List(Value("string")), "labels": List(Value("int64"))}, ("tokens", "labels")),
        (
            WORDS | {"label": List(Value("string")), "ner_tags": List(Value("string"))},
            ("words", "label"),
        ),  # named by the user
        (WORDS | {"ner_tags": List(Value("string")), "tokens": List(Value("string"))}, ("tokens", "ner_tags")),
    ],
)
def test_words_and_labels_are_found_among_other_lists(features, columns):
    assert word_columns(Features(features)) == columns


def test_model_inputs_are_no_labels_of_words():
    with pytest.raises(ValueError, match="need a column of lists of words and one of their labels"):
        word_columns(Features({"words": WORDS["words"]} | INPUTS | LOGITS))


def test_the_right_one_of_several_columns_of_labels_is_not_guessed():
    features = WORDS | {"chunks": List(Value("string"))}
    with pytest.raises(
        ValueError, match=r"\['tags', 'chunks'\] may hold the labels of words; name the right one with --label-"
    ):
        word_columns(Features(features))
    assert word_label_column(Features(features | {"pos_tags": List(Value("string"))}), "words", "pos") == "pos_tags"

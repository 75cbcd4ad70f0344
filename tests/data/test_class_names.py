"""Classes are matched by name: exactly, else without regard to case where that is clear."""

from __future__ import annotations

import datasets
import pytest
from transformers import BertConfig

from hf_distill.data.class_names import ClassIds, in_same_order, label_names, positions
from hf_distill.data.images import image_labels
from hf_distill.data.sequences import SequenceEncoder, encode_label, label_ids
from hf_distill.data.words import WordEncoder
from tests.tiny_models import tiny_tokenizer


@pytest.mark.parametrize(
    ("wanted", "given", "expected"),
    [
        (["a", "b"], ["a", "b"], [0, 1]),
        (["b", "a"], ["a", "b"], [1, 0]),
        (["Good", "Bad"], ["bad", "GOOD"], [1, 0]),
        (["it", "IT", "Sports"], ["sports", "IT", "it"], [2, 1, 0]),  # case is folded where it tells nothing apart
        (["a", "A", "b"], ["a", "A", "b"], [0, 1, 2]),
        (["crane", "sparrow", "crane"], ["crane", "sparrow", "crane"], [0, 1, 2]),
        (["Crane", "Sparrow", "Crane"], ["crane", "sparrow", "crane"], [0, 1, 2]),
        (["it", "IT"], ["it", "It"], None),
        (["it", "IT"], ["it", "it"], None),
        (["a", "b"], ["a", "c"], None),
        (["a", "b"], ["a", "b", "b"], None),
    ],
)
def test_names_are_matched_one_to_one(wanted, given, expected):
    assert positions(wanted, given) == expected
    assert in_same_order(wanted, given) == (expected == list(range(len(wanted))))


def test_equal_names_in_another_order_are_refused():
    with pytest.raises(ValueError, match=r"several classes are called \['crane'\].* which is which cannot be told"):
        positions(["crane", "crane", "sparrow"], ["crane", "sparrow", "crane"])


def test_the_names_of_a_configuration_are_in_the_order_of_its_classes():
    names = {"10": "k", "2": "c", "0": "a", "1": "b"} | {str(index): f"n{index}" for index in range(3, 10)}
    assert label_names(BertConfig(id2label=names)) == ["a", "b", "c", *(f"n{index}" for index in range(3, 10)), "k"]


class TestLabels:
    """What the labels of rows mean."""

    def test_exact_names_come_first_and_case_is_folded_where_that_is_clear(self):
        ids = ClassIds.of(["it", "IT", "sports"])
        assert [encode_label(label, ids) for label in ("it", "IT", "SPORTS", 1, "2", 1.0)] == [0, 1, 2, 1, 2, 1]
        with pytest.raises(
            ValueError,
            match=r"the label 'It'; allowed are .*\['It'\] may be any of several classes.*: give the classes the names of your labels in id2label and label2id",
        ):
            encode_label("It", ids)

    def test_a_name_that_several_classes_have_is_refused_and_its_numbers_are_not(self):
        names = ["crane", "sparrow", "crane"]
        ids = label_ids(BertConfig(id2label=dict(enumerate(names)), label2id={"crane": 2, "sparrow": 1}))
        assert [encode_label(label, ids) for label in ("Sparrow", 0, 2)] == [1, 0, 2]
        with pytest.raises(
            ValueError, match=r"the label 'crane'; allowed are \['0', '1', '2', 'sparrow'\]; \['crane'\]"
        ):
            encode_label("crane", ids)

    def test_numbers_are_names_where_names_are_numbers(self):
        ids = ClassIds.of(["1", "2", "3"])
        assert [encode_label(label, ids) for label in (1, "3", 2.0)] == [0, 2, 1]
        with pytest.raises(ValueError, match=r"the label 0; allowed are \['1', '2', '3'\]"):
            encode_label(0, ids)

    @pytest.mark.parametrize("missing", [None, float("nan")])
    def test_a_missing_label_does_not_count_and_cannot_be_a_number(self, missing):
        assert encode_label(missing, ClassIds.of(["None", "nan"])) == -100
        assert encode_label(-100, ClassIds.of(["None", "nan"])) == -100 and encode_label(-100, ClassIds()) == -100.0
        with pytest.raises(ValueError, match="allowed are numbers"):
            encode_label(missing, ClassIds())

    @pytest.mark.parametrize("word", ["nan", "inf", "good"])
    def test_words_are_no_numbers(self, word):
        with pytest.raises(ValueError, match=f"the label '{word}'; allowed are numbers"):
            encode_label(word, ClassIds())

    def test_words_called_none_are_classes(self):
        ids = ClassIds.of(["None", "nan"])
        assert [encode_label(label, ids) for label in ("None", "nan", "none")] == [0, 1, 0]

    def test_a_column_of_classes_may_have_gaps(self):
        config = BertConfig(id2label={0: "None", 1: "warm"}, label2id={"None": 0, "warm": 1})
        features = datasets.Features(text=datasets.Value("string"), label=datasets.ClassLabel(names=["warm", "None"]))
        rows = datasets.Dataset.from_dict({"text": ["w5"] * 4, "label": [0, 1, None, -1]}, features=features)
        encoded = SequenceEncoder(tiny_tokenizer(), label_ids(config))(rows, ["text"])
        assert encoded["labels"][:] == image_labels(rows, config)(rows["label"]) == [1, 0, -100, -100]
        words = datasets.Dataset.from_dict({"text": ["w5"] * 2, "label": ["None", None]})
        assert image_labels(words, config)(words["label"]) == [0, -100]

    def test_words_of_a_text_are_labeled_by_the_same_rule(self):
        ids = ClassIds.of(["O", "B-Per", "I-Per", "B-PER"])
        encode = WordEncoder(tiny_tokenizer(), ids)
        rows = datasets.Dataset.from_dict({"tokens": [["w5", "w6", "w7"]], "tags": [["o", "B-PER", "i-per"]]})
        assert encode(rows, "tokens", "tags")["labels"][:] == [[0, 3, 2]]
        wrong = datasets.Dataset.from_dict({"tokens": [["w5"]], "tags": [["b-per"]]})
        with pytest.raises(ValueError, match=r"the label 'b-per'; .* may be any of several classes"):
            encode(wrong, "tokens", "tags")

"""Texts are packed without loss inside a batch, and kept apart from evaluation sets whatever their spelling."""

import pytest
from datasets import Dataset

from hf_distill.data.corpus import packed, without_texts_of
from tests.tiny_models import tiny_tokenizer

TEXTS = ["w5 w6 w7", "", "w8 w9", "   ", "w20 w21 w22 w23"]


@pytest.mark.parametrize("streamed", [False, True])
def test_all_tokens_in_a_row_are_cut_into_equal_parts(streamed):
    texts = Dataset.from_dict({"id": range(5), "text": TEXTS})
    rows = list(packed(texts.to_iterable_dataset() if streamed else texts, tiny_tokenizer(), 4))
    assert [row["input_ids"] for row in rows] == [[5, 6, 7, 8], [9, 20, 21, 22]]
    assert set(rows[0]) == {"input_ids"}


def test_evaluation_texts_are_dropped_and_counted():
    texts = Dataset.from_dict({"text": ["A fine film.", "dull", "a  FINE film. ", "Dull?"]})
    kept, dropped = without_texts_of(texts, iter(["a fine film.", "unseen"]))
    assert (kept["text"][:], dropped) == (["dull", "Dull?"], 2)
    assert without_texts_of(texts, []) == (texts, 0)

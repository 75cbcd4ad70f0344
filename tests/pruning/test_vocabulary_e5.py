"""multilingual-e5-small with the pieces that four English domains use."""

import pytest
import torch
from transformers import AutoTokenizer, BertModel

from hf_distill.pruning.vocabulary import trim_vocabulary, vocabulary_map
from hf_distill.resources.e5 import e5_path
from hf_distill.resources.sentiment import load_transfer_set


def states(model, tokenizer, texts):
    with torch.no_grad():
        return model(**tokenizer(texts, padding=True, return_tensors="pt")).last_hidden_state


@pytest.mark.real_data
def test_a_quarter_of_the_parameters_and_the_same_states():
    tokenizer = AutoTokenizer.from_pretrained(e5_path())
    model = BertModel.from_pretrained(e5_path(), add_pooling_layer=False).eval()
    texts = load_transfer_set()["text"]
    smaller, trimmed = trim_vocabulary(model, tokenizer, texts, characters="corpus")
    used = {index for ids in tokenizer(list(texts), add_special_tokens=False)["input_ids"] for index in ids}
    assert (len(tokenizer), len(used)) == (250_002, 16_771)
    assert len(used) < len(trimmed) < len(used) + 50
    assert round(model.num_parameters() / 1e6, 1) == 117.5 and round(smaller.num_parameters() / 1e6, 1) == 27.9

    ids = vocabulary_map(trimmed, tokenizer)
    for before, after in zip(tokenizer(list(texts))["input_ids"], trimmed(list(texts))["input_ids"], strict=True):
        assert ids[after].tolist() == before
    sample = texts[::1000]
    torch.testing.assert_close(states(smaller, trimmed, sample), states(model, tokenizer, sample), rtol=0, atol=1e-6)
    smaller, trimmed = trim_vocabulary(model, tokenizer, texts)
    assert round(smaller.num_parameters() / 1e6, 1) == 28.1  # with the characters of the Latin script
    unseen = "Ünseen wörds from Győr: xylophonically!"
    assert trimmed.decode(trimmed(unseen)["input_ids"], skip_special_tokens=True) == unseen

"""The sentiment sets and the encoder are what their documentation says."""

from collections import Counter

import pytest
from transformers import AutoModel, AutoTokenizer

from hf_distill.resources.minilm import minilm_path
from hf_distill.resources.sentiment import DOMAINS, load_sentiment, load_transfer_set

pytestmark = pytest.mark.real_data


def normalized(text):
    return " ".join(text.lower().split())


@pytest.fixture(scope="module")
def domains():
    return {domain: load_sentiment(domain) for domain in DOMAINS}


def test_every_rated_text_is_there_once(domains):
    sizes = {domain: sum(len(split) for split in splits.values()) for domain, splits in domains.items()}
    # Rows beyond ±0.5 in the files: 10,043, 2,943, 2,788 and 3,362; a few texts occur twice.
    assert sizes == {"movie_reviews": 10041, "amazon_reviews": 2935, "nyt_editorials": 2748, "tweets": 3302}
    movies = domains["movie_reviews"]
    assert [len(movies[split]) for split in ("train", "validation", "test")] == [7985, 998, 1058]
    for split in movies.values():
        assert all((row["rating"] > 0.5) == row["label"] and abs(row["rating"]) > 0.5 for row in split)
        assert 0.45 < sum(split["label"]) / len(split) < 0.55


def test_no_text_is_in_two_splits_nor_evaluated_and_transferred(domains):
    splits = {"train": set(), "validation": set(), "test": set()}
    for found in domains.values():
        for name, split in found.items():
            splits[name] |= {normalized(text) for text in split["text"]}
    assert not splits["train"] & (splits["validation"] | splits["test"]) and not splits["validation"] & splits["test"]
    transfer = [normalized(text) for text in load_transfer_set()["text"]]
    assert len(transfer) == 18765 and max(Counter(transfer).values()) == 1
    assert not set(transfer) & (splits["validation"] | splits["test"])
    assert splits["train"] <= set(transfer)
    assert any("last night & the love was so strong" in text for text in transfer), "HTML entities are decoded"


def test_rows_are_shuffled_and_always_in_the_same_way(domains):
    for split in domains["movie_reviews"].values():
        labels = split["label"]
        assert 0.4 < sum(labels[:200]) / 200 < 0.6, "the file has nearly all positive texts first"
    assert load_sentiment()["test"]["text"] == domains["movie_reviews"]["test"]["text"]


def test_unknown_domain():
    with pytest.raises(ValueError, match=r"one of \['amazon_reviews', .*got 'news'"):
        load_sentiment("news")


def test_encoder_loads_from_its_folder():
    model = AutoModel.from_pretrained(minilm_path())
    assert (model.config.num_hidden_layers, model.config.hidden_size) == (6, 384)
    assert model.num_parameters() == 22_713_216
    assert AutoTokenizer.from_pretrained(minilm_path()).tokenize("Distillation") == ["di", "##sti", "##llation"]

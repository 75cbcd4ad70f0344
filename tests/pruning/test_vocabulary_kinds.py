"""Trimmed tokenizers of every kind cut the corpus as before, and any other text without loss."""

import functools
import random

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from hf_distill.pruning.vocabulary import trim_vocabulary, vocabulary_map
from hf_distill.pruning.vocabulary_rules import CHARACTERS
from tests.pruning.test_compaction import random_model
from tests.tiny_tokenizers import KINDS, SENTENCES, random_texts, tiny_tokenizer

TRIMS = 34  # of each of the six kinds


@functools.cache
def tokenizer_of(kind):
    return tiny_tokenizer(kind)


@functools.cache
def model_for(kind):
    return random_model("bert", vocab_size=len(tokenizer_of(kind)) + 3, hidden_size=8)


def trimmed(kind, texts, **settings):
    return trim_vocabulary(model_for(kind), tokenizer_of(kind), texts, **settings)[1]


def same_logits(smaller, small, kind, texts):
    inputs = [each(texts, padding=True, return_tensors="pt") for each in (small, tokenizer_of(kind))]
    accepted = ("input_ids", "attention_mask")
    with torch.no_grad():
        after, before = (
            model(**{name: batch[name] for name in accepted}).logits
            for model, batch in zip((smaller, model_for(kind)), inputs, strict=True)
        )
    torch.testing.assert_close(after, before[..., vocabulary_map(small, tokenizer_of(kind))], rtol=0, atol=1e-6)


def same_tokens(small, tokenizer, texts):
    ids = vocabulary_map(small, tokenizer)
    return [ids[small(text)["input_ids"]].tolist() for text in texts] == [
        tokenizer(text)["input_ids"] for text in texts
    ]


def read_back(tokenizer, text):
    return tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True)


@pytest.mark.parametrize("seed", range(TRIMS))
@pytest.mark.parametrize("kind", KINDS)
def test_random_corpora(kind, seed):
    """Also with a snowman and a Chinese character, which no piece has, next to words."""
    texts = [text + random.Random(seed).choice(["", "☃", "気"]) for text in random_texts(1 + seed % 7, seed)]
    tokenizer = tokenizer_of(kind)
    smaller, small = trim_vocabulary(model_for(kind), tokenizer, texts, characters=CHARACTERS[seed % 3])
    assert len(small) < len(tokenizer) and same_tokens(small, tokenizer, texts)
    same_logits(smaller, small, kind, texts)
    unseen = [text.replace("気", "") for text in random_texts(20, seed=1000 + seed)]
    if CHARACTERS[seed % 3] == "all" or "bytes" in kind or kind == "WordPiece":
        assert [read_back(small, text) for text in unseen] == [read_back(tokenizer, text) for text in unseen]


@pytest.mark.parametrize("kind", ["Unigram", "BPE of characters"])
def test_characters_of_the_scripts_of_the_corpus(kind):
    def unknown(text, texts, characters):
        small = trimmed(kind, texts, characters=characters)
        return [letter for letter in text if small.unk_token_id in small(letter)["input_ids"]]

    english, russian = ["the film was good"], ["the film was good", "фильм был плохим"]
    assert unknown("azéïшж", english, "corpus") == ["é", "ï", "ш", "ж"]
    assert unknown("azéïшж", english, "scripts") == ["ш", "ж"]
    assert unknown("azéïшжф", english * 2000 + ["ф"], "scripts") == ["ш", "ж"]  # one letter is a quotation
    assert unknown("azéïшж", russian, "scripts") == []
    assert unknown("azéïшж", english, "all") == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("setting", ["min_count", "max_tokens"])
def test_fewer_tokens_than_the_corpus_has(kind, setting, tmp_path):
    texts, tokenizer = [*random_texts(60, seed=1), *SENTENCES], tokenizer_of(kind)
    full = len(trimmed(kind, texts))
    value = 2 if setting == "min_count" else full - 9
    small = trimmed(kind, texts, **{setting: value})
    assert len(small) < full
    assert setting == "min_count" or len(small) == value
    assert [read_back(small, text) for text in texts] == [read_back(tokenizer, text) for text in texts]
    small.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded.get_vocab() == small.get_vocab() and same_tokens(loaded, small, texts)
    assert sorted(small.get_vocab().values()) == list(range(len(small)))


def cut(model, texts, **settings):
    """Tokens of texts before and after trimming, with a model of the library tokenizers on words between spaces."""
    made = Tokenizer(model)
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.add_special_tokens(["<unk>"])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>")
    encoder = random_model("bert", vocab_size=len(tokenizer), pad_token_id=0, hidden_size=8)
    small = trim_vocabulary(encoder, tokenizer, texts, **settings)[1]
    return tokenizer, small, [tokenizer.tokenize(text) for text in texts], [small.tokenize(text) for text in texts]


def test_a_word_stays_unknown_that_shorter_tokens_would_spell():
    """ "abc" is ab and nothing; without ab it would be a and ##bc, which "xbc" needs."""
    words = ["<unk>", "ab", "a", "##bc", "x", "xb", "##b"]
    model = models.WordPiece({word: index for index, word in enumerate(words)}, unk_token="<unk>")
    _, small, before, after = cut(model, ["abc", "a", "xb"])
    assert before == after == [["<unk>"], ["a"], ["xb"]] and "ab" in small.get_vocab()


def test_the_score_of_unknown_characters_stays():
    """Unknown characters score 10 below the worst piece: without it "a☃" is cheaper as a and unknown than as one piece."""
    pieces = [("<unk>", 0.0), ("a", -1.0), ("a☃", -14.0), ("b", -2.0), ("rare", -30.0)]
    tokenizer, small, before, after = cut(models.Unigram(pieces, 0), ["a☃", "b"])
    assert before == after == [["a☃"], ["b"]] and len(small) == len(tokenizer)
    pieces[-1] = ("rare", -3.0)
    assert cut(models.Unigram(pieces, 0), ["a☃", "b"])[2] == [["a☃"], ["b"]]


@pytest.mark.parametrize("ignore_merges", [False, True])
def test_merges_on_the_way_to_a_token_are_kept_and_no_others(ignore_merges):
    """As in tokenizers converted from SentencePiece, a token has a merge for each way to split it."""
    tokens = ["<unk>", *"lowernst", "lo", "ow", "low", "er", "we", "wer", "lower", "ne", "est", "es", "st", "newest"]
    splits = [(a[:cut], a[cut:]) for a in tokens[9:] for cut in range(1, len(a))]
    merges = [(left, right) for left, right in splits if left in tokens and right in tokens]
    model = models.BPE(
        {token: index for index, token in enumerate(tokens)}, merges, unk_token="<unk>", ignore_merges=ignore_merges
    )
    _, small, before, after = cut(model, ["lower", "lowest", "newest"])
    assert before == after
    assert before == [["lower"], ["low", "est"], ["newest"] if ignore_merges else ["ne", "we", "st"]]
    assert {"lo", "low", "er", "lower", "es", "est"} <= small.get_vocab().keys()
    assert not {"ow", "wer", *({"we", "st"} if ignore_merges else {})} & small.get_vocab().keys()


@pytest.mark.parametrize("marks", [{"continuing_subword_prefix": "##"}, {"end_of_word_suffix": "</w>"}])
def test_merges_of_tokens_with_marks(marks):
    made = Tokenizer(models.BPE(unk_token="<unk>", **marks))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=["<unk>"], show_progress=False, **marks)
    made.train_from_iterator([*SENTENCES, *random_texts(100, seed=0)], trainer)
    for seed in range(10):
        tokenizer, small, before, after = cut(made.model, random_texts(3, seed))
        assert before == after and len(small) < len(tokenizer)


def test_merges_of_the_bytes_of_a_character():
    tokens = [
        "<unk>",
        *(f"<0x{byte:02X}>" for byte in range(256)),
        "<0xE2><0x98>",
        "<0xE2><0x98><0x83>",
        "a",
        "b",
        "ab",
    ]
    merges = [("<0xE2>", "<0x98>"), ("<0xE2><0x98>", "<0x83>"), ("a", "b")]
    ids = {token: index for index, token in enumerate(tokens)}
    model = models.BPE(ids, merges, unk_token="<unk>", byte_fallback=True)
    _, small, before, after = cut(model, ["☃"])
    assert before == after == [["<0xE2><0x98><0x83>"]] and ids.keys() - small.get_vocab().keys() == {"ab"}


def test_a_token_out_of_a_budget_leaves_room_for_the_next():
    tokens = ["<unk>", *"abcx", "ab", "abc", "xx"]
    merges = [("a", "b"), ("ab", "c"), ("x", "x")]
    model = models.BPE({token: index for index, token in enumerate(tokens)}, merges, unk_token="<unk>")
    _, small, _, after = cut(model, ["abc", "abc", "xx"], max_tokens=6)
    assert small.get_vocab().keys() == {"<unk>", *"abcx", "xx"} and after[-1] == ["xx"]
    with pytest.raises(ValueError, match=r"max_tokens must be at least 5, .* got 4"):
        cut(model, ["abc"], max_tokens=4)


def test_maps_between_trims_of_one_vocabulary():
    tokenizer = tokenizer_of("Unigram")
    more, fewer = (trimmed("Unigram", SENTENCES[:count]) for count in (4, 1))
    assert torch.equal(vocabulary_map(tokenizer, tokenizer), torch.arange(len(tokenizer)))
    through = vocabulary_map(more, tokenizer)[vocabulary_map(fewer, more)]
    assert torch.equal(through, vocabulary_map(fewer, tokenizer))
    with pytest.raises(ValueError, match=rf"{len(more) - len(fewer)} of the {len(more)} tokens are not in the other"):
        vocabulary_map(more, fewer)


@pytest.mark.parametrize("texts", ["one text", [{"text": "a row"}], [["a", "b"]]])
def test_other_things_than_texts(texts):
    with pytest.raises(TypeError, match=r"texts must be"):
        trimmed("Unigram", texts)

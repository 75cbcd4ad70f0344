"""Fewer words, the same answers: WordPiece, and what is refused."""

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertTokenizer,
    ByT5Tokenizer,
    PreTrainedTokenizerFast,
)

from hf_distill.pruning.vocabulary import trim_vocabulary
from hf_distill.resources.minilm import minilm_path
from hf_distill.resources.sentiment import load_sentiment
from tests.pruning.test_compaction import random_model

SPECIAL = ["[UNK]", "[unused1]", "[CLS]", "[PAD]", "[SEP]", "[MASK]"]
WORDS = ["film", "good", "bad", "##ly", "##s", "a", "b", "##a", "##b", "plot", "plots", "!"]
TEXTS = ["Good film!", "a bad plot", "badly", "films a"]


@pytest.fixture
def tokenizer():
    words = {word: index for index, word in enumerate(SPECIAL + WORDS)}
    made = Tokenizer(models.WordPiece(words, unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    made.post_processor = processors.BertProcessing(("[SEP]", words["[SEP]"]), ("[CLS]", words["[CLS]"]))
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        unk_token="[UNK]",
        cls_token="[CLS]",
        pad_token="[PAD]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


def logits(model, tokenizer, texts):
    with torch.no_grad():
        return model.eval()(**tokenizer(texts, padding=True, truncation=True, return_tensors="pt")).logits


@pytest.mark.parametrize(
    ("architecture", "head"), [("bert", "MaskedLM"), ("electra", "MaskedLM"), ("distilbert", "SequenceClassification")]
)
def test_texts_of_the_corpus_are_cut_and_answered_as_before(architecture, head, tokenizer, tmp_path):
    model = random_model(architecture, head, vocab_size=len(SPECIAL + WORDS), pad_token_id=3)
    smaller, trimmed = trim_vocabulary(model, tokenizer, TEXTS)
    gone = {"[unused1]", "plots"}
    assert set(tokenizer.get_vocab()) - set(trimmed.get_vocab()) == gone
    assert smaller.config.vocab_size == len(trimmed) == len(tokenizer) - len(gone)
    assert smaller.config.pad_token_id == trimmed.pad_token_id == 2
    assert [trimmed.tokenize(text) for text in TEXTS] == [tokenizer.tokenize(text) for text in TEXTS]
    kept = [
        index for word, index in sorted(tokenizer.get_vocab().items(), key=lambda pair: pair[1]) if word not in gone
    ]
    before = logits(model, tokenizer, TEXTS)
    before = before[..., kept] if head == "MaskedLM" else before
    torch.testing.assert_close(logits(smaller, trimmed, TEXTS), before)
    assert trimmed.convert_ids_to_tokens(trimmed("plots")["input_ids"])[1:-1] == ["plot", "##s"]

    smaller.save_pretrained(tmp_path)
    trimmed.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path)
    assert all(torch.equal(*pair) for pair in zip(loaded.parameters(), smaller.parameters(), strict=True))
    again = logits(loaded, AutoTokenizer.from_pretrained(tmp_path), TEXTS)
    torch.testing.assert_close(again, logits(smaller, trimmed, TEXTS))


def test_rare_tokens_go_too(tokenizer):
    model = random_model("bert", vocab_size=len(SPECIAL + WORDS))
    _, trimmed = trim_vocabulary(model, tokenizer, TEXTS, min_count=2)
    assert "good" not in trimmed.get_vocab() and {"film", "bad", "##b", "!"} <= set(trimmed.get_vocab())


def test_bad_input(tokenizer):
    model = random_model("bert", vocab_size=5)
    with pytest.raises(ValueError, match=r"the tokenizer has 18 tokens, the model 5"):
        trim_vocabulary(model, tokenizer, TEXTS)
    with pytest.raises(ValueError, match=r"min_count must be at least 1, got 0"):
        trim_vocabulary(model, tokenizer, TEXTS, min_count=0)
    with pytest.raises(ValueError, match=r"characters must be one of corpus, scripts, all, got 'some'"):
        trim_vocabulary(model, tokenizer, TEXTS, characters="some")
    with pytest.raises(
        ValueError, match=r"kinds WordPiece, .*, BPE can be trimmed, got ByT5Tokenizer \(not a fast one\)"
    ):
        trim_vocabulary(model, ByT5Tokenizer(), TEXTS)


@pytest.mark.real_data
def test_a_real_encoder_without_the_words_that_reviews_do_not_use(tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(minilm_path())
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(minilm_path())
    texts = load_sentiment()["validation"]["text"]
    smaller, trimmed = trim_vocabulary(model, tokenizer, texts)
    assert isinstance(trimmed, BertTokenizer) and 4000 < len(trimmed) < 10_000
    sample = texts[:16]
    assert [trimmed.tokenize(text) for text in sample] == [tokenizer.tokenize(text) for text in sample]
    torch.testing.assert_close(logits(smaller, trimmed, sample), logits(model, tokenizer, sample), rtol=1e-4, atol=1e-5)
    smaller.save_pretrained(tmp_path)
    trimmed.save_pretrained(tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert all(torch.equal(*pair) for pair in zip(loaded.parameters(), smaller.parameters(), strict=True))
    again = logits(loaded, AutoTokenizer.from_pretrained(tmp_path), sample)
    torch.testing.assert_close(again, logits(smaller, trimmed, sample), rtol=1e-4, atol=1e-5)

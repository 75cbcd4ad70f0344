"""Models of many architectures, each with a tokenizer of its kind, answer as before without the tokens a corpus lacks."""

import pytest
import torch
import transformers
from packaging.version import Version
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoConfig, AutoTokenizer, BertModel, PreTrainedTokenizerFast, XLMRobertaTokenizer

from hf_distill.pruning.vocabulary import trim_vocabulary, vocabulary_map
from tests.tiny_tokenizers import random_texts, tiny_tokenizer

TEXTS = random_texts(12, seed=5)
EXTRA_ROWS = 5  # of embeddings padded beyond the tokens
_NO_DROPOUT = {
    name: 0.0
    for name in (
        *("hidden_dropout_prob", "attention_probs_dropout_prob", "attention_dropout", "embedding_dropout"),
        *("embd_pdrop", "attn_pdrop", "resid_pdrop", "mlp_dropout", "dropout", "classifier_dropout_prob"),
    )
}
_SIZES = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, initializer_range=0.3)
_GPT2 = dict(n_embd=16, n_layer=2, n_head=2, initializer_range=0.3)
_DEBERTA = dict(relative_attention=True, pos_att_type=["p2c", "c2p"], pooler_hidden_size=16)

_RELOADED = pytest.mark.skipif(
    Version(transformers.__version__) < Version("5.20"), reason="transformers 5.19 cannot load this head of its own"
)

# architecture, the kind of its tokenizer, the tokenizer's class, the head, and settings
MODELS = [
    ("roberta", "BPE of bytes", "RobertaTokenizer", "MaskedLM", {}),
    ("roberta", "BPE of bytes", None, "MaskedLM", {"tie_word_embeddings": False}),
    ("roberta", "BPE of bytes", None, "SequenceClassification", {}),
    ("xlm-roberta", "Unigram", "XLMRobertaTokenizer", "MaskedLM", {}),
    ("xlm-roberta", "Unigram with bytes", None, "TokenClassification", {}),
    ("modernbert", "BPE of bytes", None, "MaskedLM", {}),
    ("modernbert", "BPE of bytes", None, "MaskedLM", {"tie_word_embeddings": False}),
    pytest.param(
        "deberta-v2", "Unigram", "DebertaV2Tokenizer", "MaskedLM", _DEBERTA | {"legacy": False}, marks=_RELOADED
    ),
    ("deberta-v2", "Unigram", None, "MaskedLM", _DEBERTA),
    ("gpt2", "BPE of bytes", "GPT2Tokenizer", "CausalLM", _GPT2),
    ("gpt2", "BPE of bytes", None, "SequenceClassification", _GPT2),
    ("albert", "Unigram", "AlbertTokenizer", "MaskedLM", {"embedding_size": 8}),
    ("mpnet", "WordPiece", None, "MaskedLM", {}),
    ("llama", "BPE with bytes", None, "CausalLM", {"num_key_value_heads": 1}),
    ("bert", "BPE of characters", None, "PreTraining", {}),
]


_ALBERT = ("<pad>", "<unk>", "<s>", "</s>", "<mask>")  # its tokenizer takes the second piece for the unknown one


def tokenizer_of(kind, class_name, folder):
    generic = tiny_tokenizer(kind, **({"special": _ALBERT} if class_name == "AlbertTokenizer" else {}))
    if class_name is None:
        return generic
    generic.save_pretrained(folder)
    return getattr(transformers, class_name).from_pretrained(folder)


def random_model(architecture, head, tokenizer, **settings):
    """Also biases and norms are random, so that one left behind would be noticed."""
    torch.manual_seed(0)
    rows = len(tokenizer) + EXTRA_ROWS
    names = ("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id")
    ids = {name: getattr(tokenizer, name) for name in names}
    sizes = {} if architecture == "gpt2" else _SIZES
    positions = {"n_positions" if architecture == "gpt2" else "max_position_embeddings": rows}  # as many as tokens
    config = AutoConfig.for_model(architecture, vocab_size=rows, **ids, **sizes, **positions, **_NO_DROPOUT, **settings)
    model = getattr(transformers, f"AutoModelFor{head}").from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.3 * torch.randn(parameter.shape))
    return model


def answers(model, inputs):
    with torch.no_grad():
        outputs = model(**inputs, output_hidden_states=True)
    return outputs["logits" if "logits" in outputs else "prediction_logits"], outputs.hidden_states[-1]


@pytest.mark.parametrize(("architecture", "kind", "class_name", "head", "settings"), MODELS)
def test_same_answers(architecture, kind, class_name, head, settings, tmp_path):
    tokenizer = tokenizer_of(kind, class_name, tmp_path / "tokenizer")
    model = random_model(architecture, head, tokenizer, **settings)
    smaller, trimmed = trim_vocabulary(model, tokenizer, TEXTS)
    assert type(smaller) is type(model) and type(trimmed) is type(tokenizer)
    assert len(trimmed) < len(tokenizer) and smaller.config.vocab_size == len(trimmed)
    assert smaller.get_input_embeddings().num_embeddings == len(trimmed)
    assert sum(len(trimmed) in tensor.shape for tensor in smaller.state_dict().values()) >= 1
    for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
        assert getattr(smaller.config, name) == getattr(trimmed, name)

    ids = vocabulary_map(trimmed, tokenizer)
    before, after = (cut(TEXTS, padding=True, return_tensors="pt") for cut in (tokenizer, trimmed))
    assert torch.equal(ids[after["input_ids"]], before["input_ids"])
    expected, actual = answers(model, before), answers(smaller, after)
    logits = expected[0][..., ids] if expected[0].shape[-1] == len(tokenizer) + EXTRA_ROWS else expected[0]
    torch.testing.assert_close(actual[0], logits, rtol=0, atol=1e-6)
    torch.testing.assert_close(actual[1], expected[1], rtol=0, atol=1e-6)

    smaller.save_pretrained(tmp_path / "smaller")
    trimmed.save_pretrained(tmp_path / "smaller")
    loaded = type(model).from_pretrained(tmp_path / "smaller").eval()
    read = AutoTokenizer.from_pretrained(tmp_path / "smaller")(TEXTS, padding=True, return_tensors="pt")
    torch.testing.assert_close(answers(loaded, read)[0], actual[0], rtol=0, atol=0)


def test_positions_counted_from_the_padding_token(tmp_path):
    """RoBERTa's first position is the padding id + 1, so what stands before the padding token stays."""
    words = {
        word: index for index, word in enumerate(["unused", "<s>", "never", "<pad>", "idle", "</s>", "<unk>", "film"])
    }
    made = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    ending = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", words["</s>"])])
    made.post_processor = processors.Sequence([ending])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made, unk_token="<unk>", pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )
    texts = ["film film", "other"]
    for architecture, gone in {"roberta": {"idle"}, "bert": {"idle", "unused", "never"}}.items():
        model = random_model(architecture, "SequenceClassification", tokenizer)
        smaller, trimmed = trim_vocabulary(model, tokenizer, texts)
        assert words.keys() - trimmed.get_vocab().keys() == gone
        before, after = (cut(texts, padding=True, return_tensors="pt") for cut in (tokenizer, trimmed))
        assert torch.equal(vocabulary_map(trimmed, tokenizer)[after["input_ids"]], before["input_ids"])
        torch.testing.assert_close(answers(smaller, after)[0], answers(model, before)[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["Unigram", "BPE of bytes", "WordPiece"])
def test_added_tokens_normalizers_and_processors_in_a_sequence(kind, tmp_path):
    tokenizer = tiny_tokenizer(kind)
    tokenizer.add_tokens(["[USER]", AddedToken("[URL]", lstrip=True)])
    backend = tokenizer.backend_tokenizer
    backend.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), backend.post_processor])
    backend.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    model = random_model("roberta", "MaskedLM", tokenizer)
    texts = ["The ﬁlm  [URL] was good [USER]", "unﬁt"]
    _, trimmed = trim_vocabulary(model, tokenizer, texts)
    ids = vocabulary_map(trimmed, tokenizer)
    assert trimmed.convert_tokens_to_ids(["[USER]", "[URL]"]) == [len(trimmed) - 2, len(trimmed) - 1]
    assert ids[trimmed(texts[0], texts[1])["input_ids"]].tolist() == tokenizer(texts[0], texts[1])["input_ids"]
    assert trimmed("A <mask> [URL]")["input_ids"][-2] == len(trimmed) - 1
    assert trimmed.decode(trimmed(texts[1])["input_ids"], skip_special_tokens=True).strip() == "unfit"


def test_a_model_without_pooler_and_with_settings_for_generation():
    tokenizer = tiny_tokenizer("Unigram")
    config = AutoConfig.for_model("bert", vocab_size=len(tokenizer), **_SIZES)
    encoder, trimmed = trim_vocabulary(BertModel(config, add_pooling_layer=False), tokenizer, TEXTS)
    assert encoder.pooler is None and encoder.config.vocab_size == len(trimmed)
    model = random_model("gpt2", "CausalLM", tokenizer, **_GPT2)
    model.generation_config.update(eos_token_id=[2, tokenizer.get_vocab()["▁"]], max_new_tokens=7)
    smaller, trimmed = trim_vocabulary(model, tokenizer, TEXTS[:1])
    assert smaller.generation_config.eos_token_id == [2, trimmed.get_vocab()["▁"]]
    assert smaller.generation_config.max_new_tokens == 7


def test_the_place_of_the_unknown_piece_that_a_class_has_in_its_code():
    pieces = ["<s>", "idle", "</s>", "<unk>", "▁", "a", "spare", "<pad>", "<mask>"]
    tokenizer = XLMRobertaTokenizer(vocab=[(piece, -1.0 - place) for place, piece in enumerate(pieces)])
    model = random_model("bert", "MaskedLM", tokenizer)
    _, trimmed = trim_vocabulary(model, tokenizer, ["a"])
    assert trimmed.tokenize("a ☃") == tokenizer.tokenize("a ☃") and "spare" not in trimmed.get_vocab()
    assert trimmed("☃")["input_ids"] == [0, 4, 3, 2]

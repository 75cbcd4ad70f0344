"""A prompted language model scores labels as an explicit loop does: one text, one label, no cache, no batch, no padding."""

from __future__ import annotations

import pytest
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    PreTrainedTokenizerFast,
    RwkvConfig,
    RwkvForCausalLM,
)

from hf_distill.objectives.label_words import LabelScore
from hf_distill.teachers import prompted
from hf_distill.teachers.prompted import PromptedTeacher
from hf_distill.teachers.prompts import CONTENT_FREE, Prompt
from tests.tiny_tokenizers import SENTENCES, tiny_tokenizer

SIZES = dict(vocab_size=800, hidden_size=32, num_hidden_layers=2, initializer_range=0.5)
DECODER = SIZES | dict(num_attention_heads=4, num_key_value_heads=2, intermediate_size=64, max_position_embeddings=128)
MODELS = {
    "gpt2": lambda: GPT2LMHeadModel(
        GPT2Config(vocab_size=800, n_positions=128, n_embd=32, n_layer=2, n_head=4, initializer_range=0.5)
    ),
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**DECODER)),
    "sliding window": lambda: Gemma2ForCausalLM(Gemma2Config(**DECODER, head_dim=8, sliding_window=8)),
    "state space": lambda: MambaForCausalLM(MambaConfig(**SIZES, state_size=8)),
}
ONE_TOKEN = {"positive": " good", "negative": " bad"}
SEVERAL_TOKENS = {"positive": " good", "negative": " bad film with", "neutral": " bad film"}
TEMPLATES = ["Review: {text}\nSentiment:", "{text} It was"]
TEXTS = [*SENTENCES[:4], "a"]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return tiny_tokenizer("BPE of bytes")  # which puts <s> before and </s> behind


def model_of(name: str):
    torch.manual_seed(0)
    return MODELS[name]().eval()


def token_scores(model, tokenizer, prompt: str, words: str) -> list[float]:
    """Log-probabilities of a label's tokens, in one pass over one sequence."""
    before, whole = (tokenizer(text)["input_ids"][:-1] for text in (prompt, prompt + words))  # without </s>
    assert whole[: len(before)] == before
    with torch.no_grad():
        found = model(torch.tensor([whole])).logits[0].log_softmax(-1)
    return [float(found[place - 1, whole[place]]) for place in range(len(before), len(whole))]


def expected(model, tokenizer, prompt: Prompt, text: str, template: str) -> torch.Tensor:
    scores = [
        token_scores(model, tokenizer, template.replace("{text}", text), words) for words in prompt.words.values()
    ]
    if prompt.score is LabelScore.MEAN:
        return torch.tensor([sum(each) / len(each) for each in scores]).softmax(-1)
    return torch.tensor([sum(each) for each in scores]).softmax(-1)


def outputs_of(teacher: PromptedTeacher, texts=TEXTS):
    batch = teacher.encoder([{"text": text} for text in texts])
    return teacher.outputs({f"prompted_{name}": value for name, value in batch.items()})


@pytest.mark.parametrize("words", [ONE_TOKEN, SEVERAL_TOKENS], ids=["one token", "several tokens"])
@pytest.mark.parametrize("name", MODELS)
def test_scores_are_those_of_an_explicit_loop(name, words, tokenizer):
    model, prompt = model_of(name), Prompt(TEMPLATES, words)
    teacher = PromptedTeacher(model, tokenizer, prompt, dtype="float32")
    found = outputs_of(teacher)
    want = torch.stack(
        [torch.stack([expected(model, tokenizer, prompt, text, each) for each in TEMPLATES]) for text in TEXTS]
    )
    torch.testing.assert_close(found.template_logits.exp(), want, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.require_logits().exp(), want.mean(1), atol=1e-5, rtol=1e-4)
    assert (want.std(0) > 1e-4).any()  # texts make a difference


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_side_of_padding_and_the_batch_make_no_difference(side, tokenizer, monkeypatch):
    monkeypatch.setattr(tokenizer, "padding_side", side)
    monkeypatch.setattr(prompted, "_MOST_ROWS", 10)  # one label at a time
    teacher = PromptedTeacher(model_of("llama"), tokenizer, Prompt(TEMPLATES, SEVERAL_TOKENS), dtype="float32")
    together = outputs_of(teacher).require_logits()
    alone = torch.cat([outputs_of(teacher, [text]).require_logits() for text in TEXTS])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


def test_the_prompt_is_read_once(tokenizer):
    model, read = model_of("llama"), []
    teacher = PromptedTeacher(model, tokenizer, Prompt(TEMPLATES[:1], SEVERAL_TOKENS), dtype="float32")
    teacher.model.register_forward_pre_hook(
        lambda module, args, given: read.append(given["input_ids"].shape), with_kwargs=True
    )
    outputs_of(teacher)
    assert [shape[0] for shape in read] == [5, 5 * 2] and read[1][1] == 2  # the two labels of three and two tokens


def test_mean_of_the_tokens(tokenizer):
    model, prompt = model_of("llama"), Prompt(TEMPLATES[:1], SEVERAL_TOKENS, LabelScore.MEAN)
    found = outputs_of(PromptedTeacher(model, tokenizer, prompt, dtype="float32"))
    want = torch.stack([expected(model, tokenizer, prompt, text, TEMPLATES[0]) for text in TEXTS])
    torch.testing.assert_close(found.require_logits().exp(), want, atol=1e-5, rtol=1e-4)


def test_calibration_divides_by_what_texts_without_content_get(tokenizer):
    """Every template by its own; the distribution of a text without content becomes nearly uniform."""
    model, prompt = model_of("llama"), Prompt(TEMPLATES, SEVERAL_TOKENS, content_free=CONTENT_FREE)
    teacher = PromptedTeacher(model, tokenizer, prompt, dtype="float32")
    for place, template in enumerate(TEMPLATES):
        prior = torch.stack([expected(model, tokenizer, prompt, text, template) for text in CONTENT_FREE]).mean(0)
        for row, text in enumerate(TEXTS):
            want = expected(model, tokenizer, prompt, text, template) / prior
            found = outputs_of(teacher).template_logits[row, place].exp()
            torch.testing.assert_close(found, want / want.sum(), atol=1e-5, rtol=1e-4)
    single = Prompt(TEMPLATES[:1], SEVERAL_TOKENS, content_free=["N/A"])
    found = outputs_of(PromptedTeacher(model, tokenizer, single, dtype="float32"), ["N/A"])
    torch.testing.assert_close(found.require_logits().exp(), torch.full((1, 3), 1 / 3))


def test_bfloat16_is_calibrated_in_bfloat16(tokenizer):
    prompt = Prompt(TEMPLATES[:1], ONE_TOKEN, content_free=["N/A"])
    teacher = PromptedTeacher(model_of("llama"), tokenizer, prompt, dtype="bfloat16")
    found = outputs_of(teacher, ["N/A"])
    assert teacher.dtype == torch.bfloat16 and found.require_logits().dtype == torch.float32
    torch.testing.assert_close(found.require_logits().exp(), torch.full((1, 2), 0.5))


@pytest.mark.parametrize(("context", "max_length"), [(40, None), (None, 7)])
def test_too_much_text_is_cut_and_the_template_never(context, max_length, tokenizer):
    model = model_of("gpt2")
    if context:
        model = GPT2LMHeadModel(GPT2Config(vocab_size=800, n_positions=context, n_embd=32, n_layer=1, n_head=4)).eval()
    prompt = Prompt(TEMPLATES[:1], SEVERAL_TOKENS)
    teacher = PromptedTeacher(model, tokenizer, prompt, max_length=max_length, dtype="float32")
    long = " ".join(SENTENCES)
    batch = teacher.encoder([{"text": long}, {"text": "a film"}])
    ids = batch["input_ids"][0].tolist()
    text = tokenizer.decode(ids)
    assert text.startswith("<s>Review: the film was") and text.endswith("\nSentiment:")
    kept = text.removeprefix("<s>Review: ").removesuffix("\nSentiment:")
    assert long.startswith(kept)
    longest = 3 if context else 0  # tokens of a label, of which the last is not read
    limit, used = (context - longest + 1, len(ids)) if context else (7, len(tokenizer(kept)["input_ids"]) - 2)
    assert limit - 3 <= used <= limit
    assert batch["attention_mask"][1].sum() < len(ids)
    assert outputs_of(teacher, [long]).require_logits().isfinite().all()


def test_pairs_of_texts_and_fields_in_texts(tokenizer):
    prompt = Prompt(["{text} and {text_pair}:"], ONE_TOKEN)
    teacher = PromptedTeacher(model_of("llama"), tokenizer, prompt, ["first", "second"], dtype="float32")
    batch = teacher.encoder([{"first": "a {text_pair}", "second": "the film"}])
    assert tokenizer.decode(batch["input_ids"][0]) == "<s>a {text_pair} and the film:"
    assert {"first", "second"} <= teacher.input_names


def test_a_template_may_begin_with_the_token_that_begins_texts(tokenizer):
    plain, marked = (
        PromptedTeacher(model_of("llama"), tokenizer, Prompt([each], ONE_TOKEN), dtype="float32")
        for each in ("{text} It was", "<s>{text} It was")
    )
    assert torch.equal(plain.encoder([{"text": "a"}])["input_ids"], marked.encoder([{"text": "a"}])["input_ids"])


@pytest.mark.parametrize(
    ("templates", "words", "message"),
    [
        (["Sentiment:"], ONE_TOKEN, r"needs the field \{text\}.*got 'Sentiment:'"),
        ([], ONE_TOKEN, "at least one text, got"),
        ("{text}", ONE_TOKEN, "must be a list"),
        (TEMPLATES, {"positive": " good"}, "at least 2 labels"),
        (TEMPLATES, {"positive": " good", "negative": " "}, "label 'negative' needs words"),
        (TEMPLATES, {"positive": " good", "negative": " good"}, "the same tokens.*cannot tell them apart"),
        (["{text} It was w"], {"positive": "as", "negative": " bad"}, "no tokens of their own after the template"),
        (["{text} {text_pair}"], ONE_TOKEN, r"one column of texts fills \{text\}.*got the columns \['text'\]"),
        (["word " * 200 + "{text}"], ONE_TOKEN, r"has \d+ tokens and its labels up to 1, but the model reads 128"),
    ],
)
def test_what_is_refused(templates, words, message, tokenizer):
    with pytest.raises(ValueError, match=message):
        PromptedTeacher(model_of("llama"), tokenizer, Prompt(templates, words))


def test_models_that_cannot_be_prompted_are_refused(tokenizer):
    sizes = dict(vocab_size=800, hidden_size=32, num_hidden_layers=2)
    classifier = BertForSequenceClassification(BertConfig(**sizes, num_attention_heads=2, intermediate_size=32))
    with pytest.raises(ValueError, match="for a causal language model, got a BertForSequenceClassification"):
        PromptedTeacher(classifier, tokenizer, Prompt(TEMPLATES, ONE_TOKEN))
    torch.manual_seed(0)
    recurrent = RwkvForCausalLM(RwkvConfig(**sizes, attention_hidden_size=32))
    with pytest.raises(ValueError, match="does not read the attention mask"):
        PromptedTeacher(recurrent, tokenizer, Prompt(TEMPLATES, ONE_TOKEN))

"""Small tokenizers of every kind, trained on a few sentences: more tokens than a corpus uses."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

SENTENCES = (
    "the film was good, the plot was not, and the end of the film was the best of all",
    "a bad film with a good ending: nobody expected that the ending would save the plot",
    "watching this again and again, we laughed at the same jokes as our friends did",
    "naïve café owners in Malmö said that the coffee was better than the conversation",
    "der Film war gut, die Handlung war es nicht; übrigens waren alle Plätze besetzt",
    "фильм был хорошим, а сюжет был плохим, и конец фильма был лучше всего",
    "unbelievable, unexpected, unforgettable, unforgivable: words that reviewers like to use",
    "1984 was released in 1984 and costs 19.84 today",
)
KINDS = ("WordPiece", "Unigram", "Unigram with bytes", "BPE of bytes", "BPE of characters", "BPE with bytes")
_SPECIAL = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>", "mask_token": "<mask>"}
_BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def tiny_tokenizer(
    kind: str, size: int = 700, special: Sequence[str] = tuple(_SPECIAL.values())
) -> PreTrainedTokenizerFast:
    """Of one of `KINDS`, with about `size` tokens, of which the special ones are first."""
    made = _of_bytes() if kind == "BPE of bytes" else _of_words() if kind == "WordPiece" else _of_pieces(kind)
    trainer = {
        "WordPiece": trainers.WordPieceTrainer(vocab_size=size, special_tokens=list(special), show_progress=False),
        "Unigram": trainers.UnigramTrainer(
            vocab_size=size, special_tokens=list(special), unk_token="<unk>", show_progress=False
        ),
        "BPE": trainers.BpeTrainer(
            vocab_size=size,
            special_tokens=[*special, *(_BYTES if kind.endswith("with bytes") else [])],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet() if kind == "BPE of bytes" else [],
            show_progress=False,
        ),
    }[kind.split()[0]]
    made.train_from_iterator([*SENTENCES, *random_texts(300, seed=0)], trainer)
    if kind == "Unigram with bytes":
        made.model = _with_bytes(made)
    elif kind == "BPE with bytes":  # which the trainer takes for special tokens
        made = _without_added(made, set(_BYTES))
    start, end = (("<s>", made.token_to_id("<s>")), ("</s>", made.token_to_id("</s>")))
    made.post_processor = (
        processors.RobertaProcessing(end, start, True, False)
        if kind == "BPE of bytes"
        else processors.TemplateProcessing(
            single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=[start, end]
        )
    )
    return PreTrainedTokenizerFast(tokenizer_object=made, cls_token="<s>", sep_token="</s>", **_SPECIAL)


def _of_words() -> Tokenizer:
    made = Tokenizer(models.WordPiece(unk_token="<unk>"))
    made.normalizer, made.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    made.decoder = decoders.WordPiece()
    return made


def _of_bytes() -> Tokenizer:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    return made


def _of_pieces(kind: str) -> Tokenizer:
    made = Tokenizer(
        models.Unigram()
        if kind.startswith("Unigram")
        else models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=kind.endswith("with bytes"))
    )
    made.normalizer, made.pre_tokenizer = normalizers.NFKC(), pre_tokenizers.Metaspace()
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return made


def _with_bytes(made: Tokenizer) -> models.Unigram:
    pieces = json.loads(made.to_str())["model"]
    return models.Unigram(
        [(piece, score) for piece, score in pieces["vocab"]] + [(byte, 0.0) for byte in _BYTES],
        pieces["unk_id"],
        byte_fallback=True,
    )


def _without_added(made: Tokenizer, tokens: set[str]) -> Tokenizer:
    rules = json.loads(made.to_str())
    rules["added_tokens"] = [token for token in rules["added_tokens"] if token["content"] not in tokens]
    return Tokenizer.from_str(json.dumps(rules))


def random_texts(number: int, seed: int, words: int = 8) -> list[str]:
    """Texts of words of the sentences and of new ones made of their letters."""
    chosen = random.Random(seed)
    known = " ".join(SENTENCES).split()
    letters = [letter for word in known for letter in word]

    def word() -> str:
        return (
            chosen.choice(known) if chosen.random() < 0.7 else "".join(chosen.choices(letters, k=chosen.randint(1, 7)))
        )

    return [" ".join(word() for _ in range(chosen.randint(1, words))) for _ in range(number)]

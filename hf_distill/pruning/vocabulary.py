"""Removal of the tokens that a corpus does not use from a model's embeddings and its tokenizer."""

from __future__ import annotations

import copy
import json
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_distill.pretrained.origin import initialization_of, note_initialization
from hf_distill.pruning.vocabulary_rules import CHARACTERS, Characters, Vocabulary, vocabulary_of

_BATCH = 1000


def trim_vocabulary(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Iterable[str],
    min_count: int = 1,
    max_tokens: int | None = None,
    characters: Characters = "scripts",
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Remove the tokens that a corpus uses least, or not at all, from a model and its tokenizer.

    With `min_count` 1 and without `max_tokens` the texts of the corpus are tokenized as before, and the model's outputs for
    them are unchanged. So that other texts can be tokenized too, special and added tokens are kept, bytes, and single
    characters: those of WordPiece and WordLevel all, those of other kinds as chosen with `characters`.

    Args:
        model: The model, with any head; it is not modified. The rows of a language-model head are removed with those of the
            embeddings, and so are rows of the embeddings that stand for no token.
        tokenizer: The model's tokenizer, a fast one of the kind WordPiece (BERT, ELECTRA, DistilBERT), WordLevel, Unigram
            (XLM-R, ALBERT, DeBERTa-v3) or BPE (RoBERTa, ModernBERT, GPT-2).
        texts: The texts of the corpus, such as a column of a data set, iterated over once.
        min_count: The number of occurrences from which on a token is kept, at least 1.
        max_tokens: The number of tokens of the new tokenizer at most, of which the most frequent ones in the corpus are kept.
            None: any number.
        characters: Which single characters Unigram and BPE keep; others become the unknown token, or bytes where the tokenizer
            has these. "corpus": those in the corpus, and ASCII. "scripts": also all of the scripts in which at least a
            thousandth of it is written, and Latin-1. "all": all.

    Returns:
        A new model of the same class, and a new tokenizer.

    Raises:
        ValueError: The tokenizer is of another kind or does not fit the model, `min_count` is below 1, `characters` is none of
            the three, or `max_tokens` is less than what must be kept.
        TypeError: The texts are not strings.
    """
    if min_count < 1:
        raise ValueError(f"min_count must be at least 1, got {min_count}")
    if characters not in CHARACTERS:
        raise ValueError(f"characters must be one of {', '.join(CHARACTERS)}, got {characters!r}")
    vocabulary = vocabulary_of(tokenizer)
    rows = cast(nn.Embedding, model.get_input_embeddings()).num_embeddings
    if len(tokenizer) > rows:
        raise ValueError(f"the tokenizer has {len(tokenizer)} tokens, the model {rows}: they do not belong together")
    counts = _counts(tokenizer, vocabulary, texts)
    kept = vocabulary.always_kept(counts, characters) | _named_in_code(tokenizer, vocabulary)
    kept |= _ids_of(model) & set(tokenizer.get_vocab().values())
    order = sorted(_chosen(vocabulary, counts, kept, min_count, max_tokens))
    return _with_rows(model, order), _with_tokens(tokenizer, vocabulary, order)


def vocabulary_map(trimmed: PreTrainedTokenizerBase, tokenizer: PreTrainedTokenizerBase) -> Tensor:
    """The ids that the tokens of a trimmed tokenizer have in another tokenizer of the same vocabulary.

    Args:
        trimmed: The tokenizer with fewer tokens.
        tokenizer: The tokenizer with all of these tokens: the original, or one that was trimmed less.

    Returns:
        The other tokenizer's id for each id of the trimmed one, (tokens,).

    Raises:
        ValueError: The other tokenizer lacks tokens; names how many and one of them.
    """
    own, others = trimmed.get_vocab(), tokenizer.get_vocab()
    if lacking := sorted(own.keys() - others.keys(), key=own.__getitem__):
        raise ValueError(
            f"{len(lacking)} of the {len(own)} tokens are not in the other tokenizer, which has {len(others)}, "
            f"for example {lacking[0]!r}: it must hold all of them"
        )
    return torch.tensor([others[token] for token in sorted(own, key=own.__getitem__)])


def _counts(tokenizer: PreTrainedTokenizerBase, vocabulary: Vocabulary, texts: Iterable[str]) -> Counter[int]:
    """The occurrences of each token id in the texts, with those that were tried in words that are unknown."""
    counts: Counter[int] = Counter()
    for part in _batches(texts):
        encoded = tokenizer(part, add_special_tokens=False, truncation=False, verbose=False)
        for text, ids, encoding in zip(part, encoded["input_ids"], encoded.encodings or (), strict=True):
            counts.update(ids)
            if tokenizer.unk_token_id in ids:
                for word in _unknown_words(tokenizer, text, encoding):
                    counts.update(vocabulary.tried(word))
    return counts


def _unknown_words(tokenizer: PreTrainedTokenizerBase, text: str, encoding: Any) -> Iterable[str]:
    normalizer = tokenizer.backend_tokenizer.normalizer
    for index, (start, end) in zip(encoding.ids, encoding.offsets, strict=True):
        if index == tokenizer.unk_token_id:
            yield normalizer.normalize_str(text[start:end]) if normalizer else text[start:end]


def _batches(texts: Iterable[str]) -> Iterable[list[str]]:
    if isinstance(texts, str):
        raise TypeError("texts must be a list or column of texts, got one text")
    part = []
    for text in texts:
        if not isinstance(text, str):
            raise TypeError(
                f"texts must be strings, got {type(text).__name__}: of a data set pass one column, as in dataset['text']"
            )
        part.append(text)
        if len(part) == _BATCH:
            yield part
            part = []
    if part:
        yield part


def _named_in_code(tokenizer: PreTrainedTokenizerBase, vocabulary: Vocabulary) -> set[int]:
    """The ids up to that of Unigram's unknown piece, which tokenizers with code of their own have as a number in it."""
    unknown = vocabulary.model.get("unk_id")
    return set() if unknown is None or "__init__" not in vars(type(tokenizer)) else set(range(unknown))


def _ids_of(model: PreTrainedModel) -> set[int]:
    """The token ids in a model's settings, and all below that of its padding where positions are counted from there."""
    found = {index for settings in _settings(model) for ids in _token_ids(settings).values() for index in ids}
    tokens, padding = model.get_input_embeddings(), getattr(model.config, "pad_token_id", None)
    tables = [each for each in model.modules() if isinstance(each, nn.Embedding) and each is not tokens]
    if padding and any(table.padding_idx == padding for table in tables):  # RoBERTa: the first position is padding + 1
        found |= set(range(padding))
    return found


def _settings(model: PreTrainedModel) -> list[Any]:
    generation = getattr(model, "generation_config", None)
    return [model.config] if generation is None else [model.config, generation]


def _token_ids(settings: Any) -> dict[str, list[int]]:
    """The token ids in a model's settings, by the names of the settings."""
    named = {name: value for name, value in vars(settings).items() if name.endswith("_token_id")}
    return {name: value if isinstance(value, list) else [value] for name, value in named.items() if value is not None}


def _chosen(
    vocabulary: Vocabulary, counts: Counter[int], kept: set[int], min_count: int, max_tokens: int | None
) -> set[int]:
    """The ids that are kept anyway, and the most frequent ones with the tokens they are made of, as many as may be."""
    if max_tokens is not None and max_tokens < len(kept):
        raise ValueError(
            f"max_tokens must be at least {len(kept)}, the number of special and added tokens, characters and bytes that "
            f"this tokenizer needs for any text, got {max_tokens}"
        )
    chosen = set(kept)
    for index, count in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])):
        wanted = vocabulary.with_parts(index) - chosen if count >= min_count else set()
        if max_tokens is None or len(chosen) + len(wanted) <= max_tokens:
            chosen |= wanted
    return chosen


def _with_rows(model: PreTrainedModel, order: list[int]) -> PreTrainedModel:
    """A copy of the model with only the rows of these tokens in every tensor that has one row per token.

    Which tensors these are is seen from a model built for fewer tokens: they have another shape there. A table of positions
    may have as many rows as that of the tokens, and a head's bias may be of no layer.
    """
    config, places = copy.deepcopy(model.config), {old: new for new, old in enumerate(order)}
    config.vocab_size = len(order)
    _renumber(config, places)
    smaller = type(model)._from_config(config, dtype=model.dtype)
    for name, module in smaller.named_children():
        if module is not None and getattr(model, name, module) is None:  # BertModel(config, add_pooling_layer=False)
            setattr(smaller, name, None)
    own, rows = smaller.state_dict(), torch.tensor(order, device=model.device)
    smaller.load_state_dict(
        {
            name: tensor if tensor.shape == own[name].shape else tensor.index_select(0, rows)
            for name, tensor in model.state_dict().items()
        }
    )
    smaller.tie_weights()
    if getattr(model, "generation_config", None) is not None:
        smaller.generation_config = copy.deepcopy(model.generation_config)
        _renumber(smaller.generation_config, places)
    note_initialization(smaller, initialization_of(model))
    return smaller.to(model.device).train(model.training)


def _renumber(settings: Any, places: Mapping[int, int]) -> None:
    for name, ids in _token_ids(settings).items():
        new = [places[index] for index in ids if index in places]
        setattr(settings, name, new if isinstance(getattr(settings, name), list) else next(iter(new), None))


def _with_tokens(
    tokenizer: PreTrainedTokenizerBase, vocabulary: Vocabulary, order: list[int]
) -> PreTrainedTokenizerBase:
    """A copy of the tokenizer with only these tokens, whose new ids are their positions in the list."""
    rules = vocabulary.renumbered(order)
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        settings = Path(folder, "tokenizer_config.json")
        known = json.loads(settings.read_text(encoding="utf-8"))
        known.pop("added_tokens_decoder", None)  # holds the old ids; tokenizer.json holds the new ones
        if "unk_id" in known:  # DebertaV2Tokenizer
            known["unk_id"] = rules["model"]["unk_id"]
        settings.write_text(json.dumps(known), encoding="utf-8")
        Path(folder, "tokenizer.json").write_text(json.dumps(rules), encoding="utf-8")
        return type(tokenizer).from_pretrained(folder, trust_remote_code=False)

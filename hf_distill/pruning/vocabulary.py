"""A model and its tokenizer without the tokens that a corpus does not use."""

from __future__ import annotations

import copy
import json
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

_KINDS = ("WordPiece", "WordLevel")
_BATCH = 1000


def trim_vocabulary(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Iterable[str], min_count: int = 1
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Drop the tokens that occur in a corpus fewer than so many times; embeddings and tokenizer change together.

    Special and added tokens stay, and so do single characters, so that any text can still be cut into tokens. With
    `min_count` 1 the texts of the corpus are cut as before, and the model's answers to them stay the same.

    Args:
        model: Left unchanged. Any head; rows of a masked-language-model head go with those of the embeddings.
        tokenizer: The model's, a fast one on WordPiece (BERT, ELECTRA, DistilBERT) or on whole words.
        texts: The corpus, read once.
        min_count: Occurrences that keep a token, at least 1.

    Returns:
        A new model of the same class, and a new tokenizer.

    Raises:
        ValueError: The tokenizer is of another kind or does not fit the model, or `min_count` is below 1.
    """
    if min_count < 1:
        raise ValueError(f"min_count must be at least 1, got {min_count}")
    rules = _rules(tokenizer)
    vocabulary = model.get_input_embeddings().num_embeddings
    if len(tokenizer) > vocabulary:
        raise ValueError(
            f"the tokenizer has {len(tokenizer)} tokens, the model {vocabulary}: they do not belong together"
        )
    counts = Counter()
    for part in _batches(texts):
        for ids in tokenizer(part, add_special_tokens=False, verbose=False)["input_ids"]:
            counts.update(ids)
    prefix = rules["model"].get("continuing_subword_prefix", "")
    kept = {index for index, count in counts.items() if count >= min_count}
    kept |= {index for token, index in rules["model"]["vocab"].items() if len(token.removeprefix(prefix)) == 1}
    kept |= {token["id"] for token in rules["added_tokens"]} | set(tokenizer.all_special_ids)
    order = sorted(kept)
    return _with_rows(model, order), _with_tokens(tokenizer, rules, order)


def _rules(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """What a fast tokenizer does, as its file says it."""
    kind = None
    if tokenizer.is_fast:
        rules = json.loads(tokenizer.backend_tokenizer.to_str())
        kind = rules["model"]["type"]
    if kind not in _KINDS:
        raise ValueError(
            f"only the vocabulary of a fast tokenizer of the kinds {', '.join(_KINDS)} can be trimmed, got "
            f"{type(tokenizer).__name__} ({kind or 'not a fast one'}): others make tokens of one another"
        )
    return rules


def _batches(texts: Iterable[str]) -> Iterable[list[str]]:
    part = []
    for text in texts:
        part.append(text)
        if len(part) == _BATCH:
            yield part
            part = []
    if part:
        yield part


def _with_rows(model: PreTrainedModel, order: list[int]) -> PreTrainedModel:
    """The model with the rows of these tokens wherever it has one per token."""
    config, places = copy.deepcopy(model.config), {old: new for new, old in enumerate(order)}
    config.vocab_size = len(order)
    for name, value in list(vars(config).items()):
        if name.endswith("_token_id") and isinstance(value, int):
            setattr(config, name, places.get(value))
    smaller = type(model)._from_config(config, dtype=model.dtype)
    own, rows = smaller.state_dict(), torch.tensor(order, device=model.device)
    smaller.load_state_dict(
        {
            name: tensor if tensor.shape == own[name].shape else tensor.index_select(0, rows)
            for name, tensor in model.state_dict().items()
        }
    )
    smaller.tie_weights()
    return smaller.to(model.device).train(model.training)


def _with_tokens(
    tokenizer: PreTrainedTokenizerBase, rules: dict[str, Any], order: list[int]
) -> PreTrainedTokenizerBase:
    """The tokenizer with these tokens, numbered in their order."""
    places = {old: new for new, old in enumerate(order)}
    words = rules["model"]["vocab"]
    rules["model"]["vocab"] = {word: places[index] for word, index in words.items() if index in places}
    for token in rules["added_tokens"]:
        token["id"] = places[token["id"]]
    ending = rules["post_processor"] or {}
    for token in ending.get("special_tokens", {}).values():  # of a template
        token["ids"] = [places[index] for index in token["ids"]]
    for name in {"cls", "sep"} & ending.keys():  # of BertProcessing: word and number
        ending[name][1] = places[ending[name][1]]
    if rules["padding"]:
        rules["padding"]["pad_id"] = places[rules["padding"]["pad_id"]]
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        settings = Path(folder, "tokenizer_config.json")
        known = json.loads(settings.read_text(encoding="utf-8"))
        known.pop("added_tokens_decoder", None)  # says the old numbers; the other file says the new ones
        settings.write_text(json.dumps(known), encoding="utf-8")
        Path(folder, "tokenizer.json").write_text(json.dumps(rules), encoding="utf-8")
        return type(tokenizer).from_pretrained(folder, trust_remote_code=False)

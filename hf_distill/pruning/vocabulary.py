"""Removal of the tokens that a corpus does not use from a model's embeddings and its tokenizer."""

from __future__ import annotations

import copy
import json
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

_KINDS = ("WordPiece", "WordLevel")
_BATCH = 1000


def trim_vocabulary(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Iterable[str], min_count: int = 1
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Remove the tokens that occur in a corpus less than `min_count` times from a model and its tokenizer.

    Special and added tokens and single characters are kept, so that any text can still be tokenized. With `min_count` 1
    the texts of the corpus are tokenized as before, and the model's outputs for them are unchanged.

    Args:
        model: The model, with any head; it is not modified. The rows of a masked-language-model head are removed with
            those of the embeddings.
        tokenizer: The model's tokenizer, a fast one of the kind WordPiece (BERT, ELECTRA, DistilBERT) or WordLevel.
        texts: The texts of the corpus, iterated over once.
        min_count: The number of occurrences from which on a token is kept, at least 1.

    Returns:
        A new model of the same class, and a new tokenizer.

    Raises:
        ValueError: The tokenizer is of another kind or does not fit the model, or `min_count` is below 1.
    """
    if min_count < 1:
        raise ValueError(f"min_count must be at least 1, got {min_count}")
    rules = _rules(tokenizer)
    vocabulary = cast(nn.Embedding, model.get_input_embeddings()).num_embeddings
    if len(tokenizer) > vocabulary:
        raise ValueError(
            f"the tokenizer has {len(tokenizer)} tokens, the model {vocabulary}: they do not belong together"
        )
    counts: Counter[int] = Counter()
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
    """The content of a fast tokenizer's tokenizer.json."""
    kind = None
    if tokenizer.is_fast:
        rules = json.loads(tokenizer.backend_tokenizer.to_str())
        kind = rules["model"]["type"]
    if kind not in _KINDS:
        raise ValueError(
            f"only the vocabulary of a fast tokenizer of the kinds {', '.join(_KINDS)} can be trimmed, got "
            f"{type(tokenizer).__name__} ({kind or 'not a fast one'}): others merge tokens into one another"
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
    """A copy of the model with only the rows of these tokens in every tensor that has one row per token."""
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
    """A copy of the tokenizer with only these tokens, whose new ids are their positions in the list."""
    places = {old: new for new, old in enumerate(order)}
    vocabulary = rules["model"]["vocab"]
    rules["model"]["vocab"] = {token: places[index] for token, index in vocabulary.items() if index in places}
    for token in rules["added_tokens"]:
        token["id"] = places[token["id"]]
    ending = rules["post_processor"] or {}
    for token in ending.get("special_tokens", {}).values():  # TemplateProcessing
        token["ids"] = [places[index] for index in token["ids"]]
    for name in {"cls", "sep"} & ending.keys():  # BertProcessing: token and id
        ending[name][1] = places[ending[name][1]]
    if rules["padding"]:
        rules["padding"]["pad_id"] = places[rules["padding"]["pad_id"]]
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        settings = Path(folder, "tokenizer_config.json")
        known = json.loads(settings.read_text(encoding="utf-8"))
        known.pop("added_tokens_decoder", None)  # holds the old ids; tokenizer.json holds the new ones
        settings.write_text(json.dumps(known), encoding="utf-8")
        Path(folder, "tokenizer.json").write_text(json.dumps(rules), encoding="utf-8")
        return type(tokenizer).from_pretrained(folder, trust_remote_code=False)

"""Replacement of words of a text by a masked-language model's predictions, or by words with similar embeddings."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_distill.data.limits import ReadingLimits
from hf_distill.data.text_changes import Replacement, core_of, with_core
from hf_distill.tasks import unwrapped

_NEIGHBORS_AT_ONCE = 256  # a fixed number, so that rounding does not depend on the words of a batch


class WholeWords:
    """The tokens of a vocabulary that are whole words of letters and digits.

    Args:
        tokenizer: The tokenizer.

    Attributes:
        ids: The token ids, ascending.
        words: The word of each token id.

    Raises:
        ValueError: There are fewer than two such tokens.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self._tokenizer = tokenizer
        ids = sorted(set(tokenizer.get_vocab().values()) - set(tokenizer.all_special_ids))
        words = [word.strip() for word in tokenizer.batch_decode([[token_id] for token_id in ids])]
        named = [(token_id, word) for token_id, word in zip(ids, words, strict=True) if word.isalnum()]
        encoded = self._encode([word for _, word in named]) if named else []
        whole = [entry for entry, tokens in zip(named, encoded, strict=True) if tokens == [entry[0]]]
        if len(whole) < 2:
            raise ValueError(
                f"replacing words needs a tokenizer with tokens that are whole words, {tokenizer.name_or_path or 'this one'} "
                f"has {len(whole)}"
            )
        self.ids = [token_id for token_id, _ in whole]
        self.words = [word for _, word in whole]
        self._places = {token_id: place for place, token_id in enumerate(self.ids)}
        self._known: dict[str, int | None] = {}

    def index(self, word: str) -> int | None:
        """The index in `ids` of a word's token; None for a word without a token of its own."""
        core = core_of(word)
        if core is None:
            return None
        if core not in self._known:
            (tokens,) = self._encode([core])
            self._known[core] = self._places.get(tokens[0]) if len(tokens) == 1 else None
        return self._known[core]

    def _encode(self, words: list[str]) -> list[list[int]]:
        # The space is what a byte-level tokenizer sees before a word within a text.
        return self._tokenizer([f" {word}" for word in words], add_special_tokens=False, verbose=False)["input_ids"]


class WordReplacer(ABC):
    """Replaces words of texts.

    Args:
        tokenizer: The model's tokenizer.
        top_k: The number of candidates for a word, of which one is chosen with equal probability.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, top_k: int):
        self.vocabulary = WholeWords(tokenizer)
        self._top_k = min(top_k, len(self.vocabulary.ids) - 1)

    @abstractmethod
    def can_replace(self, word: str) -> bool:
        """Whether the word may be chosen to be replaced."""

    @abstractmethod
    def texts(self, replacements: Sequence[Replacement]) -> list[str]:
        """The text of each replacement, with the chosen words replaced."""

    def _picked(self, candidates: list[int], draw: float) -> str:
        # In the order of ids, so that nearly equal scores, which rounding may swap, do not matter.
        return self.vocabulary.words[sorted(candidates)[int(draw * len(candidates))]]


class MaskedWordReplacer(WordReplacer):
    """Replaces words by one of the most probable words at a mask, as TinyBERT does (arXiv 1909.10351, algorithm 1).

    All chosen words of a text are masked at once, each by one mask, whatever its number of tokens.

    Args:
        model: A masked-language model.
        tokenizer: The model's tokenizer, with a mask token.
        top_k: The number of candidates for a word.
        batch_size: Texts per forward pass.
    """

    def __init__(self, model: nn.Module, tokenizer: PreTrainedTokenizerBase, top_k: int, batch_size: int):
        super().__init__(tokenizer, top_k)
        self._model, self._tokenizer, self._batch_size = model, tokenizer, batch_size
        limit = ReadingLimits.of(model, "model").max_length
        self._length = min(limit or 512, tokenizer.model_max_length)
        self._mask = cast(str, tokenizer.mask_token)

    def can_replace(self, word: str) -> bool:
        """Whether the word has a letter or digit."""
        return core_of(word) is not None and self._mask not in word

    def texts(self, replacements: Sequence[Replacement]) -> list[str]:
        """The text of each replacement, with the chosen words replaced; those beyond the model's longest input stay."""
        found = [""] * len(replacements)
        by_length = sorted(range(len(replacements)), key=lambda index: len(replacements[index].words))
        training = self._model.training
        self._model.eval()
        try:
            for start in range(0, len(by_length), self._batch_size):
                batch = by_length[start : start + self._batch_size]
                for index, text in zip(batch, self._filled([replacements[each] for each in batch]), strict=True):
                    found[index] = text
        finally:
            self._model.train(training)
        return found

    def _filled(self, batch: list[Replacement]) -> list[str]:
        masked = [self._masked(each) for each in batch]
        inputs = self._tokenizer(
            masked, truncation=True, max_length=self._length, padding=True, return_tensors="pt", verbose=False
        )
        is_mask = inputs["input_ids"] == self._tokenizer.mask_token_id
        scores = self._scores(inputs, is_mask).split(is_mask.sum(1).tolist())
        filled = []
        for each, rows in zip(batch, scores, strict=True):
            words = list(each.words)
            for position, draw, row in zip(each.positions, each.draws, rows, strict=False):  # long texts were cut
                if (own := self.vocabulary.index(words[position])) is not None:
                    row[own] = -torch.inf
                words[position] = with_core(words[position], self._picked(row.topk(self._top_k).indices.tolist(), draw))
            filled.append(" ".join(words))
        return filled

    def _masked(self, each: Replacement) -> str:
        words = [word.replace(self._mask, "") for word in each.words]
        for position in each.positions:
            words[position] = with_core(words[position], self._mask)
        return " ".join(words)

    def _scores(self, inputs: Any, is_mask: Tensor) -> Tensor:
        """The logits of whole words at the masks, (masks, words)."""
        device = next(self._model.parameters()).device
        given = {name: inputs[name].to(device) for name in ("input_ids", "attention_mask")}
        with torch.no_grad():
            logits = self._model(**given).logits
        return logits[is_mask.to(device)][:, self.vocabulary.ids].float().cpu()


class NearestWordReplacer(WordReplacer):
    """Replaces words that are single tokens by one of those with the most similar embeddings, by cosine.

    Args:
        model: A model with input embeddings.
        tokenizer: The model's tokenizer.
        top_k: The number of candidates for a word.
    """

    def __init__(self, model: nn.Module, tokenizer: PreTrainedTokenizerBase, top_k: int):
        super().__init__(tokenizer, top_k)
        table = cast(PreTrainedModel, unwrapped(model)).get_input_embeddings().weight
        vectors = cast(Tensor, table).detach()[self.vocabulary.ids].float().cpu()
        self._vectors = nn.functional.normalize(vectors, dim=1)
        self._neighbors: dict[int, list[list[int]]] = {}

    def can_replace(self, word: str) -> bool:
        """Whether the word is a single token."""
        return self.vocabulary.index(word) is not None

    def texts(self, replacements: Sequence[Replacement]) -> list[str]:
        """The text of each replacement, with the chosen words replaced."""
        found = []
        for each in replacements:
            words = list(each.words)
            for position, draw in zip(each.positions, each.draws, strict=True):
                index = self.vocabulary.index(words[position])
                assert index is not None
                words[position] = with_core(words[position], self._picked(self._neighbors_of(index), draw))
            found.append(" ".join(words))
        return found

    def _neighbors_of(self, index: int) -> list[int]:
        block, place = divmod(index, _NEIGHBORS_AT_ONCE)
        if block not in self._neighbors:
            start = block * _NEIGHBORS_AT_ONCE
            own = torch.arange(start, min(start + _NEIGHBORS_AT_ONCE, len(self._vectors)))
            similarity = self._vectors[own] @ self._vectors.T  # (block, words)
            similarity[torch.arange(len(own)), own] = -torch.inf
            self._neighbors[block] = similarity.topk(self._top_k).indices.tolist()
        return self._neighbors[block][place]

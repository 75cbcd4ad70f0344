"""What a tokenizer of each kind must keep for its tokens to stay what they are, and its rules with fewer tokens."""

from __future__ import annotations

import copy
import json
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any, Literal

from transformers import PreTrainedTokenizerBase

Characters = Literal["corpus", "scripts", "all"]
CHARACTERS = ("corpus", "scripts", "all")

_SHARE_OF_A_SCRIPT = 0.001  # of the corpus' characters; a quotation in another script does not bring all of its letters
_ASCII, _LATIN_1 = 128, 256
_SPACE = "▁"
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")


class Vocabulary:
    """The rules of a fast tokenizer (the content of its tokenizer.json), and what they need of its tokens.

    This class is for WordLevel, whose tokens need no other token.

    Args:
        rules: The content of tokenizer.json.
        special: The ids of the special tokens.
    """

    def __init__(self, rules: dict[str, Any], special: Iterable[int]):
        self.rules, self.model = rules, rules["model"]
        self.ids: dict[str, int] = self._ids()
        self.tokens = {index: token for token, index in self.ids.items()}
        self.special = {token["id"] for token in rules["added_tokens"]} | set(special)

    def always_kept(self, counts: Mapping[int, int], characters: Characters) -> set[int]:
        """The ids of the tokens that are kept whatever their number in the corpus, so that other texts can be tokenized.

        Args:
            counts: The occurrences of each token id in the corpus.
            characters: The characters that are kept: those of the corpus and ASCII, also those of its scripts, or all.

        Returns:
            Ids of special and added tokens, single characters and bytes.
        """
        return self.special | self._unknown() | self._characters(counts, characters)

    def tried(self, word: str) -> list[int]:
        """The ids of the tokens on which it depends that a word of the corpus is unknown."""
        return []

    def with_parts(self, index: int) -> set[int]:
        """The ids of a token and of those out of which the tokenizer makes it."""
        return {index}

    def renumbered(self, order: list[int]) -> dict[str, Any]:
        """The rules with only these tokens, whose new ids are their positions in the list."""
        places = {old: new for new, old in enumerate(order)}
        rules = copy.deepcopy({**self.rules, "model": None}) | {"model": self._model(places)}
        for token in rules["added_tokens"]:
            token["id"] = places[token["id"]]
        _renumber_post_processor(rules["post_processor"], places)
        if rules["padding"]:
            rules["padding"]["pad_id"] = places.get(rules["padding"]["pad_id"], 0)
        return rules

    def _ids(self) -> dict[str, int]:
        return self.model["vocab"]

    def _unknown(self) -> set[int]:
        return {self.ids[token] for token in [self.model.get("unk_token")] if token in self.ids}

    def _characters(self, counts: Mapping[int, int], characters: Characters) -> set[int]:
        return set(self._single())

    def _single(self) -> dict[int, str]:
        """The tokens that are single characters, without marks, by id."""
        return {index: text for token, index in self.ids.items() if len(text := self._without_marks(token)) == 1}

    def _without_marks(self, token: str) -> str:
        """A token without what tells its place in a word."""
        start, end = self.model.get("continuing_subword_prefix"), self.model.get("end_of_word_suffix")
        return token.removeprefix(start or "").removesuffix(end or "")

    def _bytes_and_characters(self, counts: Mapping[int, int], characters: Characters) -> set[int]:
        """The ids of the bytes for unknown characters, and of the chosen single characters."""
        used: Counter[str] = Counter()
        for index, count in counts.items():
            for character in self.tokens.get(index, ""):
                used[character] += count
        scripts, first = (_scripts(used), _LATIN_1) if characters == "scripts" else (set(), _ASCII)
        kept = {
            index
            for index, text in self._single().items()
            if characters == "all" or text == _SPACE or ord(text) < first or text in used or _script(text) in scripts
        }
        return kept | {index for token, index in self.ids.items() if _BYTE.fullmatch(token)}

    def _model(self, places: Mapping[int, int]) -> dict[str, Any]:
        kept = {token: places[index] for token, index in self.ids.items() if index in places}
        return {**self.model, "vocab": kept}


class WordPieceVocabulary(Vocabulary):
    """The rules of a WordPiece tokenizer (BERT, ELECTRA, DistilBERT).

    It takes the longest token at each place of a word, and calls a word unknown if there is a place without any. Both stay
    so when tokens are removed that it does not take.
    """

    def tried(self, word: str) -> list[int]:
        """The ids of the tokens at the start of an unknown word: without one of them a shorter one might lead to its end."""
        found: list[int] = []
        start, mark = 0, self.model["continuing_subword_prefix"]
        while start < len(word) <= self.model["max_input_chars_per_word"]:
            ends = range(len(word), start, -1)
            end = next((end for end in ends if (mark if start else "") + word[start:end] in self.ids), None)
            if end is None:
                break
            found.append(self.ids[(mark if start else "") + word[start:end]])
            start = end
        return found


class UnigramVocabulary(Vocabulary):
    """The rules of a Unigram tokenizer (SentencePiece: XLM-R, ALBERT, T5, DeBERTa-v3).

    The most probable segmentation of a text stays so when pieces that are not in it are removed: every other one was less
    probable, or came after it, before. The score of unknown characters is relative to the lowest score of all pieces, so a
    piece with this score is kept.
    """

    def _ids(self) -> dict[str, int]:
        return {piece: index for index, (piece, _) in enumerate(self.model["vocab"])}

    def _unknown(self) -> set[int]:
        scores = [score for _, score in self.model["vocab"]]
        lowest = min(range(len(scores)), key=scores.__getitem__)
        return {lowest} | ({self.model["unk_id"]} - {None})

    def _characters(self, counts: Mapping[int, int], characters: Characters) -> set[int]:
        return self._bytes_and_characters(counts, characters)

    def _model(self, places: Mapping[int, int]) -> dict[str, Any]:
        kept = [entry for index, entry in enumerate(self.model["vocab"]) if index in places]
        return {**self.model, "vocab": kept, "unk_id": places.get(self.model["unk_id"])}


class BpeVocabulary(Vocabulary):
    """The rules of a BPE tokenizer, of bytes (RoBERTa, GPT-2, ModernBERT) or characters (Llama, CLIP).

    In each word it applies the merge of the lowest rank until there is none. A text is tokenized as before by any selection
    of the merges, in their order, that holds all merges applied in it: in each step the one applied before is still the
    lowest, and in the end there is none as before. What happens within a token does not depend on the word around it, so
    the merges applied are those that make the text's tokens out of their characters.
    """

    def __init__(self, rules: dict[str, Any], special: Iterable[int]):
        super().__init__(rules, special)
        pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in self.model["merges"]]
        self._merges = [(left, right, self._merged(left, right)) for left, right in pairs]
        self._ranks = {(left, right): rank for rank, (left, right, _) in enumerate(self._merges)}
        self._sources: defaultdict[str, list[str]] = defaultdict(list)
        for left, right, made in self._merges:
            self._sources[made] += [left, right]

    def with_parts(self, index: int) -> set[int]:
        """The ids of a token, of its characters, and of all tokens on the way from these to it."""
        token = self.tokens.get(index)
        parts = {token} if token is None or index in self.special else self._applied(token)
        return {index} | {self.ids[part] for part in parts if part in self.ids}

    def _merged(self, left: str, right: str) -> str:
        return left + right[len(self.model.get("continuing_subword_prefix") or "") :]

    def _applied(self, token: str) -> set[str]:
        symbols = self._symbols(token)
        found = set(symbols)
        while ranks := [
            (self._ranks[pair], place) for place, pair in enumerate(pairwise(symbols)) if pair in self._ranks
        ]:
            place = min(ranks)[1]
            symbols[place : place + 2] = [self._merged(*symbols[place : place + 2])]
            found.add(symbols[place])
        return found if symbols == [token] else self._all_sources(token)

    def _symbols(self, token: str) -> list[str]:
        """The symbols with which a token's merges begin: its characters, with the marks of their places in a word."""
        start, end = self.model.get("continuing_subword_prefix") or "", self.model.get("end_of_word_suffix") or ""
        characters = list(self._without_marks(token))
        symbols = [(start if place or token.startswith(start) else "") + each for place, each in enumerate(characters)]
        return [*symbols[:-1], symbols[-1] + end] if symbols and token.endswith(end) else symbols

    def _all_sources(self, token: str) -> set[str]:
        """All tokens in all merges that lead to a token, which is made of bytes or is never merged from characters."""
        found, open_ends = {token}, [token]
        while open_ends:
            new = set(self._sources[open_ends.pop()]) - found
            found |= new
            open_ends += new
        return found

    def _characters(self, counts: Mapping[int, int], characters: Characters) -> set[int]:
        steps = json.dumps([self.rules["normalizer"], self.rules["pre_tokenizer"]])
        return self._bytes_and_characters(counts, "all" if '"ByteLevel"' in steps else characters)

    def _model(self, places: Mapping[int, int]) -> dict[str, Any]:
        smaller = super()._model(places)
        kept = smaller["vocab"]
        merges = [[left, right] for left, right, made in self._merges if {left, right, made} <= kept.keys()]
        return {**smaller, "merges": merges}


_KINDS = {
    "WordPiece": WordPieceVocabulary,
    "WordLevel": Vocabulary,
    "Unigram": UnigramVocabulary,
    "BPE": BpeVocabulary,
}


def vocabulary_of(tokenizer: PreTrainedTokenizerBase) -> Vocabulary:
    """The rules of a fast tokenizer.

    Args:
        tokenizer: The tokenizer.

    Returns:
        The rules, of the class for their kind.

    Raises:
        ValueError: The tokenizer is no fast one, or of another kind.
    """
    rules = json.loads(tokenizer.backend_tokenizer.to_str()) if tokenizer.is_fast else {}
    kind = rules["model"]["type"] if rules else "not a fast one"
    if kind not in _KINDS:
        raise ValueError(
            f"only the vocabulary of a fast tokenizer of the kinds {', '.join(_KINDS)} can be trimmed, got "
            f"{type(tokenizer).__name__} ({kind})"
        )
    return _KINDS[kind](rules, tokenizer.all_special_ids)


def _renumber_post_processor(rules: dict[str, Any] | None, places: Mapping[int, int]) -> None:
    rules = rules or {}
    for part in rules.get("processors", []):  # Sequence
        _renumber_post_processor(part, places)
    for token in rules.get("special_tokens", {}).values():  # TemplateProcessing
        token["ids"] = [places[index] for index in token["ids"]]
    for name in {"cls", "sep"} & rules.keys():  # BertProcessing, RobertaProcessing: token and id
        rules[name][1] = places[rules[name][1]]


def _scripts(characters: Mapping[str, int]) -> set[str]:
    """The scripts of a corpus, by the number of its characters."""
    scripts: Counter[str] = Counter()
    for character, count in characters.items():
        scripts[_script(character)] += count
    least = _SHARE_OF_A_SCRIPT * scripts.total()
    return {script for script, count in scripts.items() if count >= least} - {""}


def _script(character: str) -> str:
    """The script of a letter, mark or digit, such as "LATIN": the first word of its name; empty for all others."""
    return unicodedata.name(character, "").split(" ")[0] if unicodedata.category(character)[0] in "LMN" else ""

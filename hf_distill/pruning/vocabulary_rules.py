"""What a tokenizer of each kind must keep for its tokens to stay what they are, and its rules with fewer tokens."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from transformers import PreTrainedTokenizerBase

_SHARE_OF_A_SCRIPT = 0.001  # of the corpus' characters; a quotation in another script does not bring all of its letters
_FIRST_CHARACTERS = 256  # Latin-1: letters, digits, punctuation, currencies
_SPACE = "▁"
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")


class Vocabulary:
    """The rules of a fast tokenizer (the content of its tokenizer.json), and what they need of its tokens.

    This class is for WordPiece and WordLevel, whose tokens need no other token.

    Args:
        rules: The content of tokenizer.json.
        special: The ids of the special tokens.
    """

    def __init__(self, rules: dict[str, Any], special: Iterable[int]):
        self.rules, self.model = rules, rules["model"]
        self.ids: dict[str, int] = self._ids()
        self.tokens = {index: token for token, index in self.ids.items()}
        self.special = {token["id"] for token in rules["added_tokens"]} | set(special)

    def always_kept(self, counts: Mapping[int, int], all_characters: bool) -> set[int]:
        """The ids of the tokens without which some text could not be tokenized, whatever the corpus holds.

        Args:
            counts: The occurrences of each token id in the corpus, which tell the scripts it is written in.
            all_characters: Whether characters are kept in whatever script they are.

        Returns:
            Ids of special and added tokens, single characters and bytes.
        """
        return self.special | self._unknown() | self._characters(counts, all_characters)

    def with_parts(self, index: int) -> set[int]:
        """The ids of a token and of those out of which the tokenizer makes it."""
        return {index}

    def renumbered(self, order: list[int]) -> dict[str, Any]:
        """The rules with only these tokens, whose new ids are their positions in the list."""
        places = {old: new for new, old in enumerate(order)}
        rules = json.loads(json.dumps({**self.rules, "model": None})) | {"model": self._model(places)}
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

    def _characters(self, counts: Mapping[int, int], all_characters: bool) -> set[int]:
        return {index for token, index in self.ids.items() if len(self._without_marks(token)) == 1}

    def _without_marks(self, token: str) -> str:
        """A token without what tells its place in a word."""
        start, end = self.model.get("continuing_subword_prefix"), self.model.get("end_of_word_suffix")
        return token.removeprefix(start or "").removesuffix(end or "")

    def _characters_of_scripts(self, counts: Mapping[int, int], all_characters: bool) -> set[int]:
        """The ids of bytes, and of single characters in the scripts in which the corpus is written."""
        singles = {index: text for token, index in self.ids.items() if len(text := self._without_marks(token)) == 1}
        used = _scripts(self.tokens, counts)
        kept = {
            index
            for index, text in singles.items()
            if all_characters or text == _SPACE or ord(text) < _FIRST_CHARACTERS or _script(text) in used
        }
        return kept | {index for token, index in self.ids.items() if _BYTE.fullmatch(token)}

    def _model(self, places: Mapping[int, int]) -> dict[str, Any]:
        kept = {token: places[index] for token, index in self.ids.items() if index in places}
        return {**self.model, "vocab": kept}


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

    def _characters(self, counts: Mapping[int, int], all_characters: bool) -> set[int]:
        return self._characters_of_scripts(counts, all_characters)

    def _model(self, places: Mapping[int, int]) -> dict[str, Any]:
        kept = [entry for index, entry in enumerate(self.model["vocab"]) if index in places]
        return {**self.model, "vocab": kept, "unk_id": places.get(self.model["unk_id"])}


_KINDS = {"WordPiece": Vocabulary, "WordLevel": Vocabulary, "Unigram": UnigramVocabulary}


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


def _scripts(tokens: Mapping[int, str], counts: Mapping[int, int]) -> set[str]:
    """The scripts of a corpus, by the characters in its tokens."""
    characters: Counter[str] = Counter()
    for index, count in counts.items():
        for character in tokens.get(index, ""):
            characters[character] += count
    scripts: Counter[str] = Counter()
    for character, count in characters.items():
        scripts[_script(character)] += count
    least = _SHARE_OF_A_SCRIPT * scripts.total()
    return {script for script, count in scripts.items() if count >= least} - {""}


def _script(character: str) -> str:
    """The script of a letter, mark or digit, such as "LATIN": the first word of its name; empty for all others."""
    return unicodedata.name(character, "").split(" ")[0] if unicodedata.category(character)[0] in "LMN" else ""

"""Changes to the words of a text that need no model, and the random numbers of each new text."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

# Punctuation around a word stays when the word is replaced.
_WORD = re.compile(r"(?P<before>\W*)(?P<core>\w(?:.*\w)?)(?P<after>\W*)", re.DOTALL)


def random_numbers(seed: int, row: int, copy: int) -> Random:
    """The random numbers of one new text.

    Args:
        seed: The seed of the augmentation.
        row: The number of the original text.
        copy: The number of the new text among those made from the same original.

    Returns:
        A generator that depends on these three numbers alone.
    """
    digest = hashlib.sha256(f"augmentation {seed} {row} {copy}".encode()).digest()
    return Random(int.from_bytes(digest[:8], "little"))


def random_index(numbers: Random, size: int) -> int:
    """A uniformly distributed index below `size`; other methods of `Random` may differ between versions of Python."""
    return int(numbers.random() * size)


def core_of(word: str) -> str | None:
    """A word without the punctuation around it; None if it has no letter or digit."""
    match = _WORD.fullmatch(word)
    return match["core"] if match else None


def with_core(word: str, core: str) -> str:
    """A word with another core, and the same punctuation around it."""
    match = _WORD.fullmatch(word)
    return word if match is None else f"{match['before']}{core}{match['after']}"


@dataclass(frozen=True)
class Replacement:
    """Words of a text that a model is to replace.

    Attributes:
        words: The words of the text, with punctuation.
        positions: Indices of the words to be replaced, ascending.
        draws: A random number in [0, 1) per position, which chooses among the candidates.
    """

    words: tuple[str, ...]
    positions: tuple[int, ...]
    draws: tuple[float, ...]


def draw_replacement(words: Sequence[str], allowed: Sequence[bool], fraction: float, numbers: Random) -> Replacement:
    """Choose the words of a text that are to be replaced.

    Args:
        words: The words of the text.
        allowed: Whether each word may be replaced.
        fraction: The probability that an allowed word is replaced; at least one is.
        numbers: The random numbers of the new text.

    Returns:
        The chosen words; none if no word may be replaced.
    """
    possible = [index for index, is_allowed in enumerate(allowed) if is_allowed]
    chosen = [index for index in possible if numbers.random() < fraction]
    if possible and not chosen:
        chosen = [possible[random_index(numbers, len(possible))]]
    return Replacement(tuple(words), tuple(chosen), tuple(numbers.random() for _ in chosen))


def dropped_words(words: Sequence[str], fraction: float, numbers: Random) -> list[str]:
    """Leave out words at random: at least one, but not all.

    Args:
        words: The words of the text.
        fraction: The probability that a word is left out.
        numbers: The random numbers of the new text.

    Returns:
        The remaining words; all of them if there are fewer than two.
    """
    if len(words) < 2:
        return list(words)
    is_kept = [numbers.random() >= fraction for _ in words]
    if all(is_kept) or not any(is_kept):
        is_kept[random_index(numbers, len(words))] ^= True
    return [word for word, kept in zip(words, is_kept, strict=True) if kept]


def sampled_n_gram(words: Sequence[str], longest: int, numbers: Random) -> list[str]:
    """Consecutive words of a text, as if all others were left out (Tang et al. 2019, arXiv 1903.12136, section 3.3).

    Args:
        words: The words of the text.
        longest: The largest number of words; numbers from 1 to this one are equally probable.
        numbers: The random numbers of the new text.

    Returns:
        The words of the n-gram; all words of a text that is not longer.
    """
    length = 1 + random_index(numbers, longest)
    start = random_index(numbers, max(len(words) - length, 0) + 1)
    return list(words[start : start + length])


def joined_halves(first: Sequence[str], second: Sequence[str]) -> list[str]:
    """The first half of the words of one text and the second half of those of another; a middle word is kept in both."""
    return [*first[: (len(first) + 1) // 2], *second[len(second) // 2 :]]

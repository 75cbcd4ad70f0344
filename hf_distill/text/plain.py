"""Text from anywhere on one line, and on a terminal."""

from __future__ import annotations

import re
import unicodedata

_UNSEEN = ("Cc", "Cf", "Cs")  # control characters, marks that change the direction of text, halves of surrogates


def plain(value: object) -> str:
    """A value on one line, without control characters, marks that change the direction of text, and halves of surrogates."""
    text = str(value)
    if text.isascii() and text.isprintable():
        return text
    text = "".join(" " if character.isspace() else character for character in text)
    return "".join(character for character in text if unicodedata.category(character) not in _UNSEEN)


def printable(value: object) -> str:
    """A value whose control characters, which a terminal would obey, are written out as in Python; lines stay lines."""
    text = str(value)
    return "".join(
        repr(character)[1:-1] if unicodedata.category(character) in _UNSEEN and character not in "\n\t" else character
        for character in text
    )


def shortened(value: object, most: int) -> str:
    """The beginning of a value on one line, at most so many characters."""
    text = plain(str(value)[: 4 * most])
    return text if len(text) <= most else text[: most - 1] + "…"


def without_address(value: object) -> str:
    """A value as text that is the same in every process: functions and objects also say where in memory they lie."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", str(value))

"""Untrusted text without control characters, for one line or for a terminal."""

from __future__ import annotations

import re
import unicodedata

_UNSEEN = ("Cc", "Cf", "Cs")  # control characters, direction marks, unpaired surrogates


def plain(value: object) -> str:
    """A value on one line, without control characters, direction marks of text, or unpaired surrogates."""
    text = str(value)
    if text.isascii() and text.isprintable():
        return text
    text = "".join(" " if character.isspace() else character for character in text)
    return "".join(character for character in text if unicodedata.category(character) not in _UNSEEN)


def printable(value: object) -> str:
    """A value with control characters escaped as in Python, so that a terminal does not obey them; newlines stay."""
    text = str(value)
    return "".join(
        repr(character)[1:-1] if unicodedata.category(character) in _UNSEEN and character not in "\n\t" else character
        for character in text
    )


def shortened(value: object, most: int) -> str:
    """The beginning of a value on one line, of at most `most` characters."""
    text = plain(str(value)[: 4 * most])
    return text if len(text) <= most else text[: most - 1] + "…"


def without_address(value: object) -> str:
    """A value as text without memory addresses (in the repr of functions), so that it is equal in every process."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", str(value))
